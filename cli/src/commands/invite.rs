//! `chat invite`: a ticket on standard output, and nothing else there.

use std::time::Duration;

use chat_client::Client;
use chat_proto::api::invites::InviteRequest;
use clap::Args;
use jiff::tz::TimeZone;

use crate::error::CliError;
use crate::text::ui::{self, Ui};
use crate::text::{render, time_arg};

/// Arguments of `chat invite`.
#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// How long the ticket is valid, up to a year [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = time_arg::invite_expiry)]
    expires: Option<Duration>,
    /// Maximum number of newcomers it admits [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    uses: Option<u32>,
    /// Invite and ticket as JSON
    #[arg(long)]
    json: bool,
}

/// Prints a new ticket.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: InviteArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let expires_ms = args.expires.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let request = InviteRequest { expires_ms, uses: args.uses };
    let new = client.invite(&request).await?;
    if args.json {
        return ui.json(&new);
    }
    ui.line(&new.ticket)?;
    ui.flush()?;
    let until = render::date_time(new.invite.expires, &TimeZone::system());
    let uses = render::count(new.invite.uses.into(), "newcomer", "newcomers");
    ui::say(&format!("anyone with this ticket can join, up to {uses} until {until}: 'chatd start --join TICKET'"));
    ui::say(&format!("to revoke it: 'chat revoke {}'", new.invite.id.short()));
    Ok(())
}
