//! `chatd completions`: what a shell needs to complete the command line.

use clap_complete::Shell;

use crate::life::args::ChatdArgs;
use crate::life::failure::Failure;
use crate::life::report::print;

/// Prints the script.
pub(crate) fn run(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut ChatdArgs::definition(), "chatd", &mut script);
    Ok(print(&String::from_utf8_lossy(&script))?)
}
