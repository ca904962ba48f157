//! `chatd man`: the manual page, of chatd or of one of its commands, in roff.

use clap_mangen::Man;

use crate::life::args::ChatdArgs;
use crate::life::failure::{Failure, Kind};
use crate::life::report::print;

/// There is no such command.
#[derive(Debug, thiserror::Error)]
#[error("chatd has no command '{0}': see 'chatd --help'")]
struct UnknownCommand(String);

/// Prints the page, for `man -l -`.
pub(crate) fn run(command: Option<String>) -> Result<(), Failure> {
    let mut root = ChatdArgs::definition();
    root.build();
    let man = match command {
        None => Man::new(root),
        Some(name) => match root.find_subcommand(&name) {
            Some(found) => Man::new(found.clone()).title(format!("chatd-{name}")),
            None => return Err(Failure::new(Kind::Usage, &UnknownCommand(name))),
        },
    };
    let mut page = Vec::new();
    man.render(&mut page)?;
    Ok(print(&String::from_utf8_lossy(&page))?)
}
