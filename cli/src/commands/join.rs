//! `chat join`: moves to another room, with a ticket or by knocking.

use std::convert::Infallible;
use std::io;

use chat_client::{Client, ClientError, EventFeed, FeedItem};
use chat_proto::api::members::JoinRequest;
use chat_proto::event::{Event, KnockState};
use clap::Args;

use crate::commands::completions;
use crate::error::CliError;

use crate::text::input;
use crate::text::render::label;
use crate::text::ui::{self, Ui};

/// Arguments of `chat join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// A ticket, the address of a member, or the name of a room on the local network; '-' reads it from standard input, which keeps a ticket out of the shell's history
    #[arg(value_name = "TICKET|HOST[:PORT]|ROOM", required = true, num_args = 1.., add = completions::rooms())]
    target: Vec<String>,
    /// Your name in that room
    #[arg(long)]
    name: Option<String>,
    /// The room as JSON
    #[arg(long)]
    json: bool,
}

/// Joins.
///
/// # Errors
/// Says why the daemon was not admitted, or how the call failed.
pub(crate) async fn run(args: JoinArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    // A ticket that a terminal has folded arrives as several words.
    let given = args.target.join(" ");
    let target = if given == "-" { input::target(io::stdin().lock())? } else { given };
    let request = JoinRequest { target: target.trim().to_owned(), name: args.name };
    let feed = match client.events(None).await {
        Ok(feed) => Some(feed),
        Err(error @ ClientError::NoDaemon { .. }) => return Err(error.into()),
        // A daemon that is not in a room has no events, and may join one.
        Err(_) => None,
    };
    // A member there may take a while to decide: Ctrl-C is the way to stop waiting.
    let joined = tokio::select! {
        joined = client.join(&request) => joined?,
        never = print_words(feed) => match never {},
    };
    if args.json {
        return ui.json(&joined);
    }
    ui::say(&format!("joined {}", label(&joined.room.name)));
    Ok(())
}

/// Prints the words of the knock that this daemon makes, which the admitting member compares. The answer to the call
/// reports the result, so this never ends.
async fn print_words(feed: Option<EventFeed>) -> Infallible {
    let Some(mut feed) = feed else { return std::future::pending().await };
    loop {
        let received = match feed.next().await {
            Ok(FeedItem::Event(received)) => received,
            Ok(FeedItem::Lost | FeedItem::Back) => continue,
            Err(_) => return std::future::pending().await,
        };
        if let Some(Event::Knock { words, state: KnockState::Waiting, .. }) = received.envelope.map(|read| read.event) {
            ui::say(&format!("knocked, with the words '{}': a member there has to run 'chat admit'", label(&words)));
        }
    }
}
