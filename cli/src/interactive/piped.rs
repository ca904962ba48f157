//! Sends each line of a file or a pipe, in order, and stops at the first that is refused.

use std::io::BufRead;

use chat_proto::api::status::Status;

use crate::client::{Client, Repeat};
use crate::commands::send::OutgoingMessage;
use crate::error::CommandError;
use crate::text::{input, recipients, ui};

/// Sends the lines; `@name` in front makes one a direct message, as in the room. Blank lines are skipped, and none is a
/// command.
///
/// # Errors
/// Says which line could not be sent, and why; the lines before it were.
pub(super) async fn run(client: &mut Client, mut lines: impl BufRead) -> Result<(), CommandError> {
    client.get::<Status>("/v1/status").await?;
    let mut number = 0_u64;
    while let Some(line) = input::line(&mut lines).inspect_err(|_| stopped(number + 1))? {
        number += 1;
        if line.trim().is_empty() {
            continue;
        }
        let (to, text) = recipients::split(&line);
        OutgoingMessage::new(to, text).post(client, Repeat::Patient).await.inspect_err(|_| stopped(number))?;
    }
    Ok(())
}

fn stopped(number: u64) {
    ui::say(&format!("chat: line {number} was not sent, nor what follows it"));
}
