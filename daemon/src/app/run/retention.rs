//! Retention while a room runs: has the store drop the texts of messages that it has held for longer than the setting says.
//!
//! The store drops a bounded number at a time, with pauses in between. Age is the time for which this daemon has held a message
//! ([`store::retention`](crate::store)), so only this machine's own clock can be wrong: nothing is dropped right after a start,
//! when a clock may not be set yet, nor while the clock differs from those of the neighbours.

use std::time::Duration;

use chat_core::input::Command;
use chat_core::output::Reply;
use chat_proto::time::is_clock_off;
use tokio::time::sleep;

use crate::app::settings::RetentionDays;
use crate::clock::wall_clock;
use crate::node::handle::NodeHandle;
use crate::store::Store;

/// Delay after the start of a room.
const SETTLE: Duration = Duration::from_secs(10);

/// Pause between two steps, so that messages pass in between.
const STEP_PAUSE: Duration = Duration::from_millis(500);

/// Interval between two looks for messages that have become old.
const ROUND_EVERY: Duration = Duration::from_secs(10 * 60);

/// Drops what is old, until the room ends.
pub(super) async fn run(days: RetentionDays, node: NodeHandle, store: Store) {
    sleep(SETTLE).await;
    let mut dropping = false;
    loop {
        let more = match node.command(Command::Status).await {
            Ok(Reply::Status(status)) if status.clock_off_ms.is_none_or(|off_ms| !is_clock_off(&off_ms)) => {
                match store.drop_bodies(wall_clock().before(days.span())).await {
                    Ok(more) => more,
                    Err(error) => {
                        tracing::warn!(%error, "old texts could not be dropped and are looked at again later");
                        false
                    }
                }
            }
            Ok(_) => {
                tracing::warn!("old texts are not dropped while this clock differs from the neighbours'");
                false
            }
            Err(_) => return,
        };
        if more && !dropping {
            tracing::info!(days = days.days(), "dropping texts of old messages");
        }
        dropping = more;
        sleep(if more { STEP_PAUSE } else { ROUND_EVERY }).await;
    }
}
