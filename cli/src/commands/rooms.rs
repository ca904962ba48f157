//! `chat rooms`: rooms on the local network.

use chat_client::Client;
use chat_proto::api::members::NearbyRoom;
use clap::Args;

use crate::error::CliError;
use crate::text::render::label;
use crate::text::table::{Row, Side, table};
use crate::text::ui::{self, Ui};

const COLUMNS: [(&str, Side); 5] =
    [("ROOM", Side::Left), ("ID", Side::Left), ("DOOR", Side::Left), ("MEMBER", Side::Left), ("ADDRESSES", Side::Left)];

/// Arguments of `chat rooms`.
#[derive(Debug, Args)]
pub(crate) struct RoomsArgs {
    /// One room per line as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the rooms.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: RoomsArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let rooms = client.rooms().await?;
    if args.json {
        return rooms.iter().try_for_each(|room| ui.json(room));
    }
    if rooms.is_empty() {
        ui::say("no room found on the local network");
        return Ok(());
    }
    let rows: Vec<Row> = rooms.iter().map(row).collect();
    table(&COLUMNS, &rows, ui.colour).iter().try_for_each(|line| ui.line(line))?;
    ui.flush()?;
    ui::say("'chat join ADDRESS' asks for admission there");
    Ok(())
}

fn row(nearby: &NearbyRoom) -> Row {
    let door = if nearby.room.open { "open" } else { "by invitation" };
    let addrs: Vec<String> = nearby.addrs.iter().map(ToString::to_string).collect();
    vec![label(&nearby.room.name), nearby.room.id.short(), door.into(), nearby.peer.tag().to_string(), addrs.join(" ")]
        .into()
}
