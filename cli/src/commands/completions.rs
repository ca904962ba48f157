//! `chat completions`: what a shell needs to complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::error::Failure;
use crate::ui::Ui;

/// Arguments of `chat completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the completions.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn run(args: CompletionsArgs, ui: &mut Ui) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::Args::command(), "chat", &mut text);
    ui.bytes(&text)?;
    ui.flush()
}
