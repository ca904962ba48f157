//! `chatd check`: verifies every entry of a home, whether its daemon runs or not.

use std::fmt::Write as _;

use serde::Serialize;

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::{print, print_json};
use crate::app::settings::args::OutputArgs;
use crate::store::error::ReadError;
use crate::store::read::check::{CheckReport, check};

/// Why a check ends with an error.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    /// The database cannot be read.
    #[error("cannot check {database}")]
    Unreadable {
        /// The database.
        database: String,
        /// Why.
        source: ReadError,
    },
    /// Entries are damaged, and the file is not.
    #[error("damaged entries: a running daemon fetches them anew from members that hold them")]
    Entries,
    /// The file is damaged.
    #[error("the database is damaged: the next start sets it aside and fetches the room from its members")]
    File,
}

/// The result as JSON.
#[derive(Serialize)]
struct CheckView {
    entries: u64,
    /// Entries whose texts are no longer kept.
    without_text: u64,
    damaged: Vec<DamagedView>,
    problems: Vec<String>,
}

/// A damaged entry.
#[derive(Serialize)]
struct DamagedView {
    author: String,
    incarnation: u64,
    seq: u64,
}

/// Checks the database of a home.
pub(crate) fn run(args: OutputArgs, home: &Home) -> Result<(), ExitError> {
    let path = home.database();
    let report = check(&path).map_err(|source| {
        ExitError::refused(&CheckError::Unreadable { database: path.display().to_string(), source })
    })?;
    if args.json {
        print_json(&view(&report))?;
    } else {
        print(&text(&report))?;
    }
    match report {
        CheckReport { problems, .. } if !problems.is_empty() => Err(ExitError::refused(&CheckError::File)),
        CheckReport { damaged, .. } if !damaged.is_empty() => Err(ExitError::refused(&CheckError::Entries)),
        CheckReport { .. } => Ok(()),
    }
}

fn view(report: &CheckReport) -> CheckView {
    let damaged = report.damaged.iter().map(|(log, seq)| DamagedView {
        author: log.author.to_string(),
        incarnation: log.incarnation.0,
        seq: seq.0,
    });
    let (entries, without_text) = (report.entries, report.without_text);
    CheckView { entries, without_text, damaged: damaged.collect(), problems: report.problems.clone() }
}

fn text(report: &CheckReport) -> String {
    let mut text = format!("{} entries checked, {} damaged\n", report.entries, report.damaged.len());
    if report.without_text > 0 {
        // Writing to a string does not fail.
        let _ = writeln!(text, "the text of {} entries is no longer kept; their signatures are", report.without_text);
    }
    for (log, seq) in &report.damaged {
        // Writing to a string does not fail.
        let _ = writeln!(text, "damaged: entry {} of {} in log {:016x}", seq.0, log.author.tag(), log.incarnation.0);
    }
    for problem in &report.problems {
        let _ = writeln!(text, "damaged file: {problem}");
    }
    text
}
