//! `chat join`: moves to another room, with a ticket or by knocking.

use std::io;

use chat_client::Client;
use chat_proto::api::members::JoinRequest;
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
    // A member there may take a while to decide: Ctrl-C is the way to stop waiting.
    let joined = client
        .join_with_words(&request, |words| {
            ui::say(&format!("knocked, with the words '{}': a member there has to run 'chat admit'", label(words)));
        })
        .await?;
    if args.json {
        return ui.json(&joined);
    }
    ui::say(&format!("joined {}", label(&joined.room.name)));
    Ok(())
}
