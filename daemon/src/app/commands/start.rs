//! `chatd start`: leaves a ready daemon in the background, or runs it in the foreground.

use std::io::{self, BufRead, IsTerminal, Read};

use chat_proto::ticket::Ticket;

use crate::app::home::{self, Home};
use crate::app::report::exit_error::{ExitError, ExitKind};
use crate::app::report::readiness::{OutputFormat, StartReporter};
use crate::app::report::startup_report::{print, print_json};
use crate::app::run::background;
use crate::app::run::daemon;
use crate::app::settings::args::StartArgs;
use crate::app::settings::start_options::StartOptions;

/// Maximum bytes read from standard input as a target; a full ticket has about 2,400 characters.
const TARGET_BYTES_MAX: u64 = 64 * 1024;

/// The target that means standard input.
const STDIN: &str = "-";

/// `--join -`, and standard input cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("--join -: standard input has no ticket")]
struct InputError(#[source] io::Error);

/// Starts the daemon, or reports the running one.
pub(crate) fn run(mut args: StartArgs, home: Home) -> Result<(), ExitError> {
    if args.background_child {
        return child(home);
    }
    if args.join.as_deref() == Some(STDIN) {
        args.join = Some(read_target().map_err(|error| ExitError::new(ExitKind::Usage, &InputError(error)))?);
    }
    let format = OutputFormat::from_flag(args.json);
    let plan = StartOptions::new(&args, |name| std::env::var_os(name), home)?;
    home::prepare(&plan.home).map_err(|error| ExitError::refused(&error))?;
    if args.foreground {
        return daemon::run(plan, StartReporter::Terminal { format });
    }
    let started = background::start(&args, &plan.home)?;
    match format {
        OutputFormat::Text => print(&started.lines(&plan.home))?,
        OutputFormat::Json => print_json(&started)?,
    }
    Ok(())
}

/// The process in the background.
fn child(home: Home) -> Result<(), ExitError> {
    let (reporter, args) = StartReporter::detach().map_err(|error| ExitError::new(ExitKind::Usage, &error))?;
    match StartOptions::new(&args, |name| std::env::var_os(name), home) {
        Ok(plan) => daemon::run(plan, reporter),
        // The parent has checked them: they were changed in between.
        Err(failure) => {
            reporter.failed(&failure);
            Err(failure)
        }
    }
}

fn read_target() -> io::Result<String> {
    let mut target = String::new();
    let mut input = io::stdin().lock().take(TARGET_BYTES_MAX);
    if !io::stdin().is_terminal() {
        input.read_to_string(&mut target)?;
        return Ok(target.trim().to_owned());
    }
    eprintln!("paste the ticket, then press Enter twice:");
    // A terminal may have folded it into several lines.
    while !input.read_line(&mut target).map(|read| target[target.len() - read..].trim().is_empty())? {
        if target.parse::<Ticket>().is_ok() {
            break;
        }
    }
    Ok(target.trim().to_owned())
}
