//! Moves a running daemon from one room into another that has let it in.

use chat_core::input::Now;
use chat_core::output::Relays;
use chat_core::rendezvous::io::Switch;

use crate::life::leave::set_aside;
use crate::life::room::{Base, Beginning, Prepared, RoomError, RunningRoom, open_store};
use crate::net::join::Joined;
use crate::node::driver::Clock;

/// Stops the room, sets its files aside and begins the new one; when that cannot be, goes back. No room is given when
/// neither can be had: the daemon cannot go on then.
pub(crate) async fn relocate(
    base: &Base,
    room: RunningRoom,
    joined: Joined,
) -> (Option<RunningRoom>, Result<(), RoomError>) {
    let Some(net_events) = room.stop().await else {
        return (None, Err(RoomError::Broken));
    };
    // What the room before wanted of the network ends with it.
    base.net.switch_relay(Switch::Off);
    base.net.set_relays(Relays::default());
    let Now { wall, .. } = Clock::start().now();
    let begun = match set_aside(base.home.root(), wall) {
        Err(source) => Err((RoomError::SetAside(source), None)),
        Ok(aside) => prepare(base, Beginning::Admitted(Box::new(joined))).await.map_err(|error| (error, Some(aside))),
    };
    let (error, aside) = match begun {
        Ok(prepared) => {
            tracing::info!("moved to another room");
            return (Some(prepared.launch(base, net_events)), Ok(()));
        }
        Err(failed) => failed,
    };
    tracing::error!(%error, "the other room cannot be begun, going back");
    if let Some(Err(error)) = aside.map(|aside| aside.undo()) {
        tracing::error!(%error, "the room before cannot be put back");
        return (None, Err(RoomError::SetAside(error)));
    }
    match prepare(base, Beginning::Return).await {
        Ok(prepared) => (Some(prepared.launch(base, net_events)), Err(error)),
        Err(lost) => {
            tracing::error!(error = %lost, "the room before cannot be used any more");
            (None, Err(error))
        }
    }
}

async fn prepare(base: &Base, beginning: Beginning) -> Result<Prepared, RoomError> {
    let opened = open_store(&base.home, &base.key).await?;
    Prepared::new(base, opened, beginning).await
}
