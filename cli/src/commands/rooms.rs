//! `chat rooms`: rooms on the local network.

use std::process::Command;

use chat_client::{Client, ClientError};
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
    let (rooms, join) = match client.rooms().await {
        Err(error @ ClientError::NoDaemon { .. }) => (search().ok_or(error)?, "chatd start --join ROOM"),
        listed => (listed?, "chat join ROOM"),
    };
    if args.json {
        return rooms.iter().try_for_each(|room| ui.json(room));
    }
    if rooms.is_empty() {
        ui::say(
            "no room found on the local network; some networks block multicast: then 'chat join' takes an address or a ticket",
        );
        return Ok(());
    }
    let rows: Vec<Row> = rooms.iter().map(row).collect();
    table(&COLUMNS, &rows, ui.colour, ui::columns()).iter().try_for_each(|line| ui.line(line))?;
    ui.flush()?;
    ui::say(&format!("'{join}' asks for admission there"));
    Ok(())
}

/// Finds rooms without a daemon: `chatd rooms` asks on the network. `None`, when that does not run.
fn search() -> Option<Vec<NearbyRoom>> {
    let beside = std::env::current_exe().ok().map(|chat| chat.with_file_name("chatd")).filter(|chatd| chatd.exists());
    let found = Command::new(beside.unwrap_or_else(|| "chatd".into())).args(["rooms", "--json"]).output().ok()?;
    let lines = found.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let rooms = lines.map(serde_json::from_slice).collect::<Result<_, _>>();
    rooms.ok().filter(|_| found.status.success())
}

fn row(nearby: &NearbyRoom) -> Row {
    let door = if nearby.room.open { "open" } else { "by invitation" };
    let addrs: Vec<String> = nearby.addrs.iter().map(ToString::to_string).collect();
    vec![label(&nearby.room.name), nearby.room.id.short(), door.into(), nearby.peer.tag().to_string(), addrs.join(" ")]
        .into()
}
