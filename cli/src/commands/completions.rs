//! `chat completions`: the script with which a shell completes the command line.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::error::CliError;
use crate::text::ui::Ui;

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
pub(crate) fn run(args: CompletionsArgs, mut definition: Command, ui: &mut Ui) -> Result<(), CliError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "chat", &mut text);
    ui.bytes(&text)?;
    ui.flush()
}
