//! `chat man`: the manual page, of chat or of one of its commands.

use clap::{Args, Command};
use clap_mangen::Man;

use crate::error::CliError;
use crate::text::ui::Ui;

/// Arguments of `chat man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command; without it, the page of chat
    command: Option<String>,
}

/// Prints the page, for `man -l -`.
///
/// # Errors
/// When there is no such command, or standard output is closed.
pub(crate) fn run(args: ManArgs, mut definition: Command, ui: &mut Ui) -> Result<(), CliError> {
    definition.build();
    let man = match args.command {
        None => Man::new(definition),
        Some(name) => match definition.find_subcommand(&name) {
            Some(found) => Man::new(found.clone()).title(format!("chat-{name}")),
            None => return Err(CliError::UnknownCommand(name)),
        },
    };
    let mut page = Vec::new();
    man.render(&mut page)?;
    ui.bytes(&page)?;
    ui.flush()
}
