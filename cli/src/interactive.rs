//! The room line by line: on a terminal, messages are printed above the line that is typed; from a file or a pipe, each line is
//! sent. [`crate::screen`] is the room on the whole screen.

pub(crate) mod echo_filter;
mod editor;
mod line_command;
mod piped;
mod room;
mod sender;
mod terminal;

use std::io::{self, IsTerminal};

use chat_client::Client;

use crate::error::CliError;
use crate::text::ui::Ui;

/// Opens the room, or sends the lines of standard input.
///
/// # Errors
/// Says why it ended, unless the user left.
pub(crate) async fn run(client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    match (io::stdin().is_terminal(), io::stdout().is_terminal()) {
        (true, true) => room::run(client, ui).await,
        (true, false) => Err(CliError::NotATerminal),
        (false, _) => piped::run(client).await,
    }
}
