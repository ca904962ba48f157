//! Who may speak the room protocol.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use chat_core::membership::roster::Roster;
use chat_proto::id::PeerId;
use tokio::sync::watch;

/// Most peers trusted before the log has arrived: those that let this peer in, the newest first.
pub const DOORS_MAX: usize = 8;

/// Decides who may speak the room protocol: members, and until this peer's own membership has arrived, the peers that
/// let it in.
#[derive(Debug)]
pub struct Gate {
    me: PeerId,
    roster: Arc<ArcSwap<Roster>>,
    doors: Mutex<Vec<PeerId>>,
    changed: watch::Sender<u64>,
}

impl Gate {
    /// A gate over the roster that is shared with the rest of the daemon.
    pub fn new(me: PeerId, roster: Arc<ArcSwap<Roster>>) -> Arc<Self> {
        Arc::new(Self { me, roster, doors: Mutex::default(), changed: watch::Sender::new(0) })
    }

    /// Puts a new roster in place, for everybody who shares it, and closes the connections of those who are no longer
    /// members.
    pub fn set_roster(&self, roster: Arc<Roster>) {
        self.roster.store(roster);
        self.changed.send_modify(|version| *version += 1);
    }

    /// The roster in place.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.load_full()
    }

    /// Trusts a peer that let this one in until the log that says so has arrived.
    pub fn open_door(&self, peer: PeerId) {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.retain(|door| *door != peer);
        doors.insert(0, peer);
        doors.truncate(DOORS_MAX);
        drop(doors);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Whether the peer may speak the room protocol now.
    pub fn admits(&self, peer: &PeerId) -> bool {
        let roster = self.roster.load();
        if roster.people.contains_key(peer) || roster.is_member(&self.me) {
            return roster.is_member(peer);
        }
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).contains(peer)
    }
}
