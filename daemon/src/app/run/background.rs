//! Starts the daemon as a process of its own and waits for its reports.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use chat_proto::text::printable;

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::{StartReport, Started, knocking, talk};
use crate::app::settings::args::StartArgs;
use crate::private_file;

/// Maximum bytes shown from the end of the log when the daemon ends without a report.
const LAST_WORDS_BYTES: u64 = 2048;

/// Why the daemon was not started. No process is left behind.
#[derive(Debug, thiserror::Error)]
enum SpawnError {
    /// The log cannot be written.
    #[error("cannot write the log {path}")]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process cannot be started.
    #[error("cannot start the daemon's process")]
    Spawn(#[source] io::Error),
    /// It ended without a report.
    #[error("the daemon ended before it was ready ({status}): see '{logs}'{last_words}")]
    NoReport {
        /// How.
        status: ExitStatus,
        /// The command that shows the log.
        logs: String,
        /// The end of the log, after a line break.
        last_words: String,
    },
}

/// Starts a daemon that outlives this process, and waits until it is ready.
///
/// # Errors
/// What the daemon failed with; its process has ended.
pub(crate) fn start(args: &StartArgs, home: &Home) -> Result<Started, ExitError> {
    let path = home.log();
    let log = private_file::append(&path)
        .and_then(|log| Ok((log.metadata()?.len(), log)))
        .map_err(|source| ExitError::refused(&SpawnError::Log { path, source }));
    let (log_bytes, log) = log?;
    let mut child = spawn(args, home, log).map_err(|error| ExitError::refused(&SpawnError::Spawn(error)))?;
    let last = follow_reports(&mut child);
    if let Some(StartReport::Ready(started)) = last {
        return Ok(*started);
    }
    // The daemon ends when its lifeline is closed.
    drop(child.stdin.take());
    let status = child.wait().map_err(|error| ExitError::refused(&SpawnError::Spawn(error)))?;
    match last {
        Some(StartReport::Failed(failure)) => Err(failure),
        Some(StartReport::Knocking { .. } | StartReport::Ready(_)) | None => {
            let logs = home.command("chatd logs");
            Err(ExitError::refused(&SpawnError::NoReport { status, logs, last_words: last_words(home, log_bytes) }))
        }
    }
}

fn spawn(args: &StartArgs, home: &Home, log: File) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(root) = home.flag() {
        command.arg("--home").arg(root);
    }
    let mut child = command
        .args(["start", "--foreground", "--background-child"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let mut line = serde_json::to_vec(args)?;
    line.push(b'\n');
    // A child that has ended already shows in its reports.
    if let Some(input) = &mut child.stdin {
        let _ = input.write_all(&line);
    }
    Ok(child)
}

/// Passes on the reports of a child and returns the last one.
fn follow_reports(child: &mut Child) -> Option<StartReport> {
    let reports = BufReader::new(child.stdout.take()?);
    for line in reports.lines() {
        match serde_json::from_str(&line.ok()?).ok()? {
            StartReport::Knocking { words } => talk(&knocking(&words)),
            last @ (StartReport::Ready(_) | StartReport::Failed(_)) => return Some(last),
        }
    }
    None
}

/// The end of what the child wrote into the log.
fn last_words(home: &Home, from: u64) -> String {
    let read = || -> io::Result<String> {
        let mut log = File::open(home.log())?;
        let end = log.metadata()?.len();
        log.seek(SeekFrom::Start(from.max(end.saturating_sub(LAST_WORDS_BYTES))))?;
        let mut text = Vec::new();
        log.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    match read() {
        Ok(text) if !text.is_empty() => format!("\n{}", printable(&text)),
        Ok(_) | Err(_) => String::new(),
    }
}
