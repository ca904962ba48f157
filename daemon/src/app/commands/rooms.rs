//! `chatd rooms`: rooms on the local network, found without a daemon. `chat rooms` runs it where no daemon answers.

use chat_client::display::label;
use chat_proto::api::members::NearbyRoom;

use crate::app::commands::runtime;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::{print, print_json, talk};
use crate::app::settings::args::OutputArgs;
use crate::net;

/// Prints what is announced.
pub(crate) fn run(output: OutputArgs) -> Result<(), ExitError> {
    let rooms = runtime()?.block_on(net::search()).map_err(|error| ExitError::refused(&error))?;
    if output.json {
        return Ok(rooms.iter().try_for_each(print_json)?);
    }
    match &rooms[..] {
        [] => talk(
            "no room found on the local network; some networks block multicast: then give an address or a ticket\n",
        ),
        rooms => {
            print(&rooms.iter().map(line).collect::<String>())?;
            talk("'chatd start --join ROOM' asks for admission there\n");
        }
    }
    Ok(())
}

fn line(nearby: &NearbyRoom) -> String {
    let door = if nearby.room.open { "open" } else { "by invitation" };
    let addrs: Vec<String> = nearby.addrs.iter().map(ToString::to_string).collect();
    format!("{}  {}  {door}  {}\n", label(&nearby.room.name), nearby.room.id.short(), addrs.join(" "))
}
