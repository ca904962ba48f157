//! `chat join`: moves to another room, with a ticket or by knocking.

use std::convert::Infallible;
use std::io;

use chat_proto::api::members::{JoinRequest, Joined};
use chat_proto::event::{Event, KnockState};
use clap::Args;

use crate::client::{Call, CallError, Client};
use crate::error::CommandError;
use crate::feed::{Feed, Item};
use crate::text::input;
use crate::text::render::label;
use crate::text::ui::{self, Ui};

/// Arguments of `chat join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// A ticket, or the address of a member; '-' reads it from standard input, which keeps a ticket out of the history
    #[arg(value_name = "TICKET|HOST[:PORT]")]
    target: String,
    /// Name to be known by there
    #[arg(long)]
    name: Option<String>,
    /// The room as JSON
    #[arg(long)]
    json: bool,
}

/// Joins.
///
/// # Errors
/// Says why the daemon was not let in, or how the call failed.
pub(crate) async fn run(args: JoinArgs, client: &mut Client, ui: &mut Ui) -> Result<(), CommandError> {
    let target = if args.target == "-" { input::whole(io::stdin().lock())? } else { args.target };
    let request = JoinRequest { target: target.trim().to_owned(), name: args.name };
    // Somebody there may take a while to say 'chat admit': Ctrl-C is the way to stop waiting.
    let call = Call::post("/v1/join", &request).timeout(None);
    let feed = match Feed::open(client, None).await {
        Ok(feed) => Some(feed),
        Err(failure @ CommandError::Call(CallError::NoDaemon { .. })) => return Err(failure),
        // A daemon that is in no room has no events, and may join one.
        Err(_) => None,
    };
    let joined: Joined = tokio::select! {
        answer = client.call(&call) => answer?.read()?,
        never = tell_words(feed) => match never {},
    };
    if args.json {
        return ui.json(&joined);
    }
    ui::say(&format!("joined {}", label(&joined.room.name)));
    Ok(())
}

/// Says the words of the knock that this daemon makes, which whoever admits it compares. The answer to the call says how it
/// ends, so this never does.
async fn tell_words(feed: Option<Feed>) -> Infallible {
    let Some(mut feed) = feed else { return std::future::pending().await };
    loop {
        let received = match feed.next().await {
            Ok(Item::Event(received)) => received,
            Ok(Item::Lost | Item::Back) => continue,
            Err(_) => return std::future::pending().await,
        };
        if let Some(Event::Knock { words, state: KnockState::Waiting, .. }) = received.envelope.map(|read| read.event) {
            ui::say(&format!("knocked, with the words '{}': somebody there has to say 'chat admit'", label(&words)));
        }
    }
}
