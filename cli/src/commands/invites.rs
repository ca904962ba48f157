//! `chat invites`: every invite of the room.

use chat_client::Client;
use chat_proto::api::invites::Invite;
use chat_proto::time::Timestamp;
use clap::Args;
use jiff::tz::TimeZone;

use crate::error::CliError;
use crate::text::render;
use crate::text::table::{Row, Side, table};
use crate::text::ui::{self, Ui};

const COLUMNS: [(&str, Side); 5] =
    [("ID", Side::Left), ("BY", Side::Left), ("USED", Side::Right), ("EXPIRES", Side::Left), ("STATE", Side::Left)];

/// Arguments of `chat invites`.
#[derive(Debug, Args)]
pub(crate) struct InvitesArgs {
    /// One invite per line as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the invites.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: InvitesArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let invites = client.invites().await?;
    if args.json {
        return invites.iter().try_for_each(|invite| ui.json(invite));
    }
    if invites.is_empty() {
        ui::say("there are no invites: 'chat invite' writes one");
        return Ok(());
    }
    let (now, zone) = (render::now(), TimeZone::system());
    let rows: Vec<Row> = invites.iter().map(|invite| row(invite, now, &zone)).collect();
    table(&COLUMNS, &rows, ui.colour, ui::columns()).iter().try_for_each(|line| ui.line(line))
}

fn row(invite: &Invite, now: Timestamp, zone: &TimeZone) -> Row {
    let state = if invite.revoked {
        "revoked"
    } else if invite.expires <= now {
        "expired"
    } else if invite.used >= invite.uses {
        "used up"
    } else {
        "valid"
    };
    let cells = vec![
        invite.id.short(),
        render::name(&invite.by),
        format!("{}/{}", invite.used, invite.uses),
        render::date_time(invite.expires, zone),
        state.into(),
    ];
    Row { cells, sgr: (state != "valid").then_some("2") }
}
