//! What every state of the role works with: identity, settings, time, knowledge, neighbours, and the queue of outputs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::connectivity::measure::Measures;
use crate::input::Now;
use crate::rendezvous::events::{Delivery, RoleOutput};
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::history::History;
use crate::rendezvous::protocol::signed::{Signed, Statement};
use crate::rendezvous::settings::RoleSettings;
use crate::rendezvous::state::known_claim::KnownClaim;
use crate::rendezvous::state::neighbours::Neighbours;
use crate::rendezvous::state::stall_detector::StallDetector;

/// Shared by all states of one peer's part in the role.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) me: PeerId,
    pub(crate) room: RoomId,
    key: SigningKey,
    pub(crate) settings: RoleSettings,
    /// The time of the input that is being handled.
    pub(crate) now: Now,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) members: RoleMembers,
    pub(crate) neighbours: Neighbours,
    pub(crate) measures: Measures,
    pub(crate) known: KnownClaim,
    pub(crate) history: History,
    pub(crate) stalls: StallDetector,
    pub(crate) out: VecDeque<RoleOutput>,
}

/// The members of the room, as the role has to know them.
#[derive(Debug)]
pub(crate) struct RoleMembers {
    pub(crate) active: BTreeSet<PeerId>,
    pub(crate) former: BTreeSet<PeerId>,
    /// Members believed online, and since when.
    pub(crate) online: BTreeMap<PeerId, Duration>,
    /// Since when this peer is online.
    pub(crate) started: Duration,
}

impl RoleMembers {
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.active.contains(peer)
    }

    /// The number of members.
    pub(crate) fn len(&self) -> usize {
        self.active.len()
    }
}

impl Context {
    pub(crate) fn new(room: RoomId, key: SigningKey, settings: RoleSettings, seed: u64, now: Now) -> Self {
        Self {
            me: PeerId::from_bytes(key.verifying_key().to_bytes()),
            room,
            key,
            settings,
            now,
            rng: ChaCha8Rng::seed_from_u64(seed),
            members: RoleMembers {
                active: BTreeSet::new(),
                former: BTreeSet::new(),
                online: BTreeMap::new(),
                started: now.mono,
            },
            neighbours: Neighbours::default(),
            measures: Measures::default(),
            known: KnownClaim::default(),
            history: History::default(),
            stalls: StallDetector::new(now),
            out: VecDeque::new(),
        }
    }

    /// Signs a statement of this peer.
    pub(crate) fn sign<T: Statement>(&self, statement: T) -> Signed<T> {
        Signed::sign(statement, &self.key)
    }

    /// Sends a frame to these neighbours.
    pub(crate) fn send(&mut self, to: Vec<PeerId>, frame: &RoleFrame, delivery: Delivery) {
        if !to.is_empty() {
            self.out.push_back(RoleOutput::Send { to, frame: frame.encode().into(), delivery });
        }
    }

    /// Sends a frame to every neighbour but one.
    pub(crate) fn flood(&mut self, frame: &RoleFrame, except: Option<PeerId>) {
        let to = self.neighbours.peers().copied().filter(|peer| Some(*peer) != except).collect();
        self.send(to, frame, Delivery::Stream);
    }

    /// Sends a frame to a neighbour, or to all so that one of them forwards it.
    pub(crate) fn send_towards(&mut self, to: PeerId, frame: &RoleFrame, source: Option<PeerId>) {
        if self.neighbours.contains(&to) {
            self.send(vec![to], frame, Delivery::Stream);
        } else {
            self.flood(frame, source);
        }
    }

    /// Sends a neighbour all this peer knows of the role, unless that happened a moment ago.
    pub(crate) fn send_state(&mut self, peer: PeerId) {
        let now = self.now.mono;
        if self.known.claim().is_some() && self.neighbours.get_mut(&peer).is_some_and(|link| link.may_send_state(now)) {
            self.send(vec![peer], &self.known.state_frame(), Delivery::Stream);
        }
    }

    pub(crate) fn nonce(&mut self) -> u64 {
        self.rng.random()
    }

    /// Whether this peer may claim the role at all.
    pub(crate) fn may_claim(&self) -> bool {
        self.members.contains(&self.me)
    }

    /// Number of members other than this peer believed online.
    pub(crate) fn others_online(&self) -> usize {
        self.members.online.len().max(self.neighbours.len())
    }

    /// How long an answer over the connection to `peer` may take.
    pub(crate) fn patience(&self, peer: &PeerId) -> Duration {
        self.measures.get(peer).and_then(|measure| measure.rtt).map_or(Duration::ZERO, |rtt| rtt.patience())
    }

    /// Factor for timeouts on other peers: more than 1 while this peer itself is late.
    pub(crate) fn stretch(&self) -> u32 {
        self.stalls.stretch(self.now.mono)
    }
}
