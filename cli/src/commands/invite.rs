//! `chat invite`: a ticket on standard output, and nothing else there.

use std::time::Duration;

use chat_proto::api::invites::{InviteRequest, NewInvite};
use clap::Args;
use jiff::tz::TimeZone;

use crate::client::Client;
use crate::error::CommandError;
use crate::text::ui::{self, Ui};
use crate::text::{render, time_arg};

/// Arguments of `chat invite`.
#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// How long the ticket is valid, up to a year [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = time_arg::duration)]
    expires: Option<Duration>,
    /// How many newcomers it lets in [default: 1000]
    #[arg(long, value_name = "N")]
    uses: Option<u32>,
    /// Invite and ticket as JSON
    #[arg(long)]
    json: bool,
}

/// Prints a new ticket.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: InviteArgs, client: &mut Client, ui: &mut Ui) -> Result<(), CommandError> {
    let expires_ms = args.expires.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let request = InviteRequest { expires_ms, uses: args.uses };
    let new: NewInvite = client.post("/v1/invites", &request).await?;
    if args.json {
        return ui.json(&new);
    }
    ui.line(&new.ticket)?;
    ui.flush()?;
    let until = render::date_time(new.invite.expires, &TimeZone::system());
    let uses = render::count(new.invite.uses.into(), "newcomer", "newcomers");
    ui::say(&format!("whoever has this ticket can join, up to {uses} until {until}: 'chatd start --join TICKET'"));
    ui::say(&format!("to take it back: 'chat revoke {}'", new.invite.id.short()));
    Ok(())
}
