//! `chat` alone: the room to type in on a terminal; from a file or a pipe, each line is sent.

mod editor;
mod own;
mod piped;
mod poster;
mod room;
mod terminal;
mod typed;

use std::io::{self, IsTerminal};

use crate::client::Client;
use crate::error::Failure;
use crate::ui::Ui;

/// Opens the room, or sends the lines of standard input.
///
/// # Errors
/// Says why it ended, unless it was left.
pub(crate) async fn run(client: &mut Client, ui: &mut Ui) -> Result<(), Failure> {
    match (io::stdin().is_terminal(), io::stdout().is_terminal()) {
        (true, true) => room::run(client, ui).await,
        (true, false) => Err(Failure::NotATerminal),
        (false, _) => piped::run(client, io::stdin().lock()).await,
    }
}
