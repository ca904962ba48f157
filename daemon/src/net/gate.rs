//! Who may speak the room protocol.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_core::membership::roster::Roster;
use chat_core::wire::ROOM_ALPN;
use chat_proto::id::PeerId;
use iroh::endpoint::{AfterHandshakeOutcome, Connection, EndpointHooks};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::net::context::peer_id;
use crate::net::transport::close::CloseCode;

/// Most peers trusted before the log has arrived: those that let this peer in, the newest first.
pub const DOORS_MAX: usize = 8;

/// How long a stranger on the room protocol is kept waiting for the news that it is a member: somebody who was let in a
/// moment ago dials before the entry that says so has reached everybody.
const NEWS_MAX: Duration = Duration::from_secs(1);

/// Decides who may speak the room protocol: members, and until this peer's own membership has arrived, the peers that
/// let it in.
#[derive(Debug)]
pub struct Gate {
    me: PeerId,
    roster: watch::Sender<Arc<Roster>>,
    doors: Mutex<Vec<PeerId>>,
    changed: watch::Sender<u64>,
}

impl Gate {
    /// A gate over the roster that is shared with the rest of the daemon.
    pub fn new(me: PeerId, roster: watch::Sender<Arc<Roster>>) -> Arc<Self> {
        Arc::new(Self { me, roster, doors: Mutex::default(), changed: watch::Sender::new(0) })
    }

    /// Puts a new roster in place, for everybody who shares it, and closes the connections of those who are no longer
    /// members.
    pub fn set_roster(&self, roster: Arc<Roster>) {
        self.roster.send_replace(roster);
        self.changed.send_modify(|version| *version += 1);
    }

    /// The roster in place.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.borrow().clone()
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
        let roster = self.roster.borrow();
        if roster.people.contains_key(peer) || roster.is_member(&self.me) {
            return roster.is_member(peer);
        }
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).contains(peer)
    }
}

impl Gate {
    /// A receiver that wakes whenever [`Gate::admits`] may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits a little for a peer to become a member.
    async fn admits_soon(&self, peer: &PeerId) -> bool {
        let mut changes = self.changes();
        timeout(NEWS_MAX, changes.wait_for(|_| self.admits(peer))).await.is_ok_and(|changed| changed.is_ok())
    }
}

/// Runs the gate after every handshake, of incoming and outgoing connections alike.
#[derive(Clone, Debug)]
pub(crate) struct Hook(pub(crate) Arc<Gate>);

impl EndpointHooks for Hook {
    async fn after_handshake<'a>(&'a self, connection: &'a Connection) -> AfterHandshakeOutcome {
        let members_only = connection.alpn() == ROOM_ALPN;
        if !members_only || self.0.admits_soon(&peer_id(connection.remote_id())).await {
            return AfterHandshakeOutcome::Accept;
        }
        AfterHandshakeOutcome::Reject { error_code: CloseCode::NotMember.var_int(), reason: Vec::new() }
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
            let peer = PeerRef { id, name: "somebody".into(), tag: id.tag() };
            (id, Person { peer, active, role: MemberRole::Member, keys: None })
        };
        Arc::new(Roster { people: people.iter().map(person).collect(), ..Roster::default() })
    }

    fn gate() -> Arc<Gate> {
        Gate::new(ME, watch::Sender::default())
    }

    #[test]
    fn members_pass_and_former_ones_do_not() {
        let gate = gate();
        assert!(!gate.admits(&DOOR));
        gate.set_roster(roster(&[(ME, true), (DOOR, true)]));
        assert!(gate.admits(&DOOR));
        gate.set_roster(roster(&[(ME, true), (DOOR, false)]));
        assert!(!gate.admits(&DOOR));
    }

    #[test]
    fn a_door_is_trusted_until_the_log_decides() {
        let gate = gate();
        gate.open_door(DOOR);
        assert!(gate.admits(&DOOR));
        gate.set_roster(roster(&[(DOOR, false)]));
        assert!(!gate.admits(&DOOR), "the log knows the door as removed");
        gate.set_roster(roster(&[(ME, true)]));
        assert!(!gate.admits(&DOOR), "the log knows me and not the door");
    }

    #[test]
    fn doors_are_bounded_and_the_newest_stay() {
        let gate = gate();
        for n in 0..=DOORS_MAX {
            gate.open_door(PeerId::from_bytes([u8::try_from(n).expect("a byte") + 10; 32]));
        }
        assert!(!gate.admits(&PeerId::from_bytes([10; 32])));
        assert!(gate.admits(&PeerId::from_bytes([11; 32])));
    }

    #[tokio::test]
    async fn news_that_arrive_in_time_open_the_gate() {
        let gate = gate();
        let (admitted, ()) = tokio::join!(gate.admits_soon(&DOOR), async {
            gate.set_roster(roster(&[(ME, true), (DOOR, true)]));
        });
        assert!(admitted);
    }
}
