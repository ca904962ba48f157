//! Sends each line of a file or a pipe, in order, stopping at the first that is refused.

use std::io;

use chat_client::Client;
use chat_proto::api::messages::SendRequest;

use crate::commands::send::many::send_all;
use crate::error::CliError;
use crate::text::{input, recipients};

/// Sends the lines; `@name` in front makes one a direct message, as in the room. Blank lines are skipped, and no
/// line is a command.
///
/// # Errors
/// Says which line could not be sent, and why; the lines before it were.
pub(super) async fn run(client: &Client) -> Result<(), CliError> {
    client.status().await?;
    let lines = input::read_ahead(|| {
        let (mut stdin, mut number) = (io::stdin().lock(), 0);
        move || {
            number += 1;
            input::line(&mut stdin, number)
        }
    });
    let request = |line: String| {
        let (to, text) = recipients::split(&line);
        let request = || SendRequest { text: text.to_owned(), to, ..SendRequest::default() };
        (!line.trim().is_empty()).then(request)
    };
    send_all(client, "line", lines, request).await.map(|_| ())
}
