//! Sends each line of a file or a pipe, in order, stopping at the first that is refused.

use std::io::BufRead;

use chat_client::{Client, OutgoingMessage, Repeat};

use crate::commands::send;
use crate::error::CliError;
use crate::text::{input, recipients, ui};

/// Sends the lines; `@name` in front makes one a direct message, as in the room. Blank lines are skipped, and no
/// line is a command.
///
/// # Errors
/// Says which line could not be sent, and why; the lines before it were.
pub(super) async fn run(client: &Client, mut lines: impl BufRead) -> Result<(), CliError> {
    client.status().await?;
    let mut number = 0_u64;
    while let Some(line) = input::line(&mut lines, number + 1).inspect_err(|_| stopped(number + 1))? {
        number += 1;
        if line.trim().is_empty() {
            continue;
        }
        let (to, text) = recipients::split(&line);
        send::post(client, &OutgoingMessage::new(to, text), Repeat::Patient).await.inspect_err(|_| stopped(number))?;
    }
    Ok(())
}

fn stopped(number: u64) {
    ui::say(&format!("chat: line {number} was not sent, nor the lines after it"));
}
