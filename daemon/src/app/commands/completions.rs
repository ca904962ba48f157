//! `chatd completions`: the completion script of a shell.

use clap_complete::Shell;

use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::print;
use crate::app::settings::args::ChatdArgs;

/// Prints the script.
pub(crate) fn run(shell: Shell) -> Result<(), ExitError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut ChatdArgs::definition(), "chatd", &mut script);
    Ok(print(&String::from_utf8_lossy(&script))?)
}
