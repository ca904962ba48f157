//! What the simulation reads from outside.

use std::time::Duration;

use chat_proto::id::PeerId;

use crate::rendezvous::Rendezvous;
use crate::types::Change;

impl Rendezvous {
    /// The peers on the succession list, in order.
    pub(crate) fn succession_list(&self) -> Vec<PeerId> {
        self.cx.known.line().list.clone()
    }

    /// The changes of the role in this peer's history, newest term first.
    pub(crate) fn known_changes(&self) -> impl Iterator<Item = &Change> {
        self.cx.history.changes()
    }

    /// Digest of this peer's history.
    pub(crate) const fn history_digest(&self) -> u32 {
        self.cx.history.digest()
    }

    /// Age in milliseconds of the last sign of life of the holder, as this peer would report it now.
    pub(crate) fn holder_age_ms(&self, now: Duration) -> u32 {
        self.cx.gossip(self.state.newest_sign(now), now).age_ms
    }
}
