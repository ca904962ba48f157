//! `chatd man`: the manual page, of chatd or of one of its commands, in roff.

use clap_mangen::Man;

use crate::app::report::exit_error::{ExitError, ExitKind};
use crate::app::report::startup_report::print;
use crate::app::settings::args::ChatdArgs;

/// There is no such command.
#[derive(Debug, thiserror::Error)]
#[error("chatd has no command '{0}': see 'chatd --help'")]
struct UnknownCommand(String);

/// Prints the page, for `man -l -`.
pub(crate) fn run(command: Option<String>) -> Result<(), ExitError> {
    let mut root = ChatdArgs::definition();
    root.build();
    let man = match command {
        None => Man::new(root),
        Some(name) => match root.find_subcommand(&name) {
            Some(found) => Man::new(found.clone()).title(format!("chatd-{name}")),
            None => return Err(ExitError::new(ExitKind::Usage, &UnknownCommand(name))),
        },
    };
    let mut page = Vec::new();
    man.render(&mut page)?;
    Ok(print(&String::from_utf8_lossy(&page))?)
}
