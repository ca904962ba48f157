//! Decides which peers may speak the room protocol.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_core::membership::roster::Roster;
use chat_proto::id::PeerId;
use tokio::sync::watch;
use tokio::time::timeout;

/// Maximum number of peers trusted before the log has arrived: those that admitted this peer, the newest first.
pub const DOORS_MAX: usize = 8;

/// How long a stranger on the room protocol waits to become a member: a peer that was admitted a moment ago dials before
/// the entry that admits it has reached every member.
const ADMITTED_SOON_MAX: Duration = Duration::from_secs(1);

/// Admits members, and until this peer's own membership has arrived, the peers that admitted it.
#[derive(Debug)]
pub struct Gate {
    me: PeerId,
    roster: watch::Sender<Arc<Roster>>,
    doors: Mutex<Vec<PeerId>>,
    changed: watch::Sender<u64>,
}

impl Gate {
    /// Creates a gate over the roster that is shared with the rest of the daemon.
    pub fn new(me: PeerId, roster: watch::Sender<Arc<Roster>>) -> Arc<Self> {
        Arc::new(Self { me, roster, doors: Mutex::default(), changed: watch::Sender::new(0) })
    }

    /// Replaces the roster, for every part that shares it, and closes the connections of former members.
    pub fn set_roster(&self, roster: Arc<Roster>) {
        self.roster.send_replace(roster);
        self.changed.send_modify(|version| *version += 1);
    }

    /// The current roster.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.borrow().clone()
    }

    /// Trusts a peer that admitted this one, until the log that records it has arrived.
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
        let roster = self.roster.borrow();
        if roster.unsure.contains(peer) {
            return true;
        }
        if roster.people.contains_key(peer) || roster.is_member(&self.me) {
            return roster.is_member(peer);
        }
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).contains(peer)
    }

    /// A receiver that wakes whenever [`Gate::admits`] may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits a little for a peer to become a member.
    pub(crate) async fn admits_soon(&self, peer: &PeerId) -> bool {
        let mut changes = self.changes();
        timeout(ADMITTED_SOON_MAX, changes.wait_for(|_| self.admits(peer))).await.is_ok_and(|changed| changed.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_core::membership::roster::Person;
    use chat_proto::api::peers::{MemberRole, PeerRef};

    const ME: PeerId = PeerId::from_bytes([1; 32]);
    const DOOR: PeerId = PeerId::from_bytes([2; 32]);

    fn roster(people: &[(PeerId, bool)]) -> Arc<Roster> {
        let person = |&(id, active): &(PeerId, bool)| {
            let peer = PeerRef { id, name: "alice".into(), tag: id.tag() };
            (id, Arc::new(Person { peer, active, role: MemberRole::Member, keys: None }))
        };
        Arc::new(Roster { people: people.iter().map(person).collect(), ..Roster::default() })
    }

    fn gate() -> Arc<Gate> {
        Gate::new(ME, watch::Sender::default())
    }

    #[test]
    fn former_member_is_rejected() {
        let gate = gate();
        assert!(!gate.admits(&DOOR));
        gate.set_roster(roster(&[(ME, true), (DOOR, true)]));
        assert!(gate.admits(&DOOR));
        gate.set_roster(roster(&[(ME, true), (DOOR, false)]));
        assert!(!gate.admits(&DOOR));
    }

    #[test]
    fn door_is_trusted_until_the_log_decides() {
        let gate = gate();
        gate.open_door(DOOR);
        assert!(gate.admits(&DOOR));
        gate.set_roster(roster(&[(DOOR, false)]));
        assert!(!gate.admits(&DOOR), "the log knows the door as removed");
        gate.set_roster(roster(&[(ME, true)]));
        assert!(!gate.admits(&DOOR), "the log knows me and not the door");
    }

    #[test]
    fn peer_that_was_a_member_before_the_disk_was_damaged_is_admitted() {
        let gate = gate();
        let unsure = [DOOR].into_iter().collect();
        gate.set_roster(Arc::new(Roster { unsure, ..(*roster(&[(ME, true)])).clone() }));
        assert!(gate.admits(&DOOR));
        gate.set_roster(roster(&[(ME, true)]));
        assert!(!gate.admits(&DOOR));
    }

    #[test]
    fn doors_beyond_the_bound_drop_the_oldest() {
        let gate = gate();
        for n in 0..=DOORS_MAX {
            gate.open_door(PeerId::from_bytes([u8::try_from(n).expect("a byte") + 10; 32]));
        }
        assert!(!gate.admits(&PeerId::from_bytes([10; 32])));
        assert!(gate.admits(&PeerId::from_bytes([11; 32])));
    }

    #[tokio::test]
    async fn stranger_that_becomes_a_member_in_time_is_admitted() {
        let gate = gate();
        let (admitted, ()) = tokio::join!(gate.admits_soon(&DOOR), async {
            gate.set_roster(roster(&[(ME, true), (DOOR, true)]));
        });
        assert!(admitted);
    }
}
