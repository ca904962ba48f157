//! What every state of the role works with: identity, settings, time, knowledge, neighbours, and the queue of outputs.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use chat_proto::id::{PeerId, RoomId, Term};
use ed25519_dalek::SigningKey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::connectivity::report::{ReportRow, rows};
use crate::input::Now;
use crate::rendezvous::context::known_claim::KnownClaim;
use crate::rendezvous::context::peers::PeerRecords;
use crate::rendezvous::context::stall_detector::StallDetector;
use crate::rendezvous::events::{FrameChannel, RoleOutput};
use crate::rendezvous::protocol::claim::Claim;
use crate::rendezvous::protocol::frames::{Gossip, RoleFrame, millis};
use crate::rendezvous::protocol::history::History;
use crate::rendezvous::protocol::signed::{Signed, Statement};
use crate::rendezvous::settings::RoleSettings;
use crate::types::Change;

pub(crate) mod decision;
pub(crate) mod known_claim;
pub(crate) mod neighbour;
pub(crate) mod peers;
pub(crate) mod stall_detector;

/// Maximum number of neighbours that a peer without a holder asks at once.
const ASK_MAX: usize = 16;

/// Minimum time between two reports of a member, per member of the room: the holder gets about ten reports a second.
const REPORT_PER_MEMBER: Duration = Duration::from_millis(100);

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
    pub(crate) peers: PeerRecords,
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
            members: RoleMembers { active: BTreeSet::new(), former: BTreeSet::new(), started: now.mono },
            peers: PeerRecords::default(),
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
    pub(crate) fn send(&mut self, to: Vec<PeerId>, frame: &RoleFrame, delivery: FrameChannel) {
        if !to.is_empty() {
            self.out.push_back(RoleOutput::Send { to, frame: frame.encode().into(), delivery });
        }
    }

    /// Sends a frame to every neighbour but one.
    pub(crate) fn flood(&mut self, frame: &RoleFrame, except: Option<PeerId>) {
        let to = self.peers.linked().copied().filter(|peer| Some(*peer) != except).collect();
        self.send(to, frame, FrameChannel::Stream);
    }

    /// Sends a frame to a neighbour, or to all so that one of them forwards it.
    pub(crate) fn send_towards(&mut self, to: PeerId, frame: &RoleFrame, source: Option<PeerId>) {
        if self.peers.is_linked(&to) {
            self.send(vec![to], frame, FrameChannel::Stream);
        } else {
            self.flood(frame, source);
        }
    }

    /// Sends a neighbour all this peer knows of the role, unless that happened a moment ago.
    pub(crate) fn send_state(&mut self, peer: PeerId) {
        let now = self.now.mono;
        if self.known.claim().is_some() && self.peers.link_mut(&peer).is_some_and(|link| link.may_send_state(now)) {
            self.send(vec![peer], &self.known.state_frame(), FrameChannel::Stream);
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
        self.peers.online_len().max(self.peers.links_len())
    }

    /// How long an answer over the connection to `peer` may take.
    pub(crate) fn patience(&self, peer: &PeerId) -> Duration {
        self.peers.measure(peer).and_then(|measure| measure.rtt).map_or(Duration::ZERO, |rtt| rtt.patience())
    }

    /// Factor for timeouts on other peers: more than 1 while this peer itself is late.
    pub(crate) fn stretch(&self) -> u32 {
        self.stalls.stretch(self.now.mono)
    }

    /// What this peer knows, for a neighbour to compare; `sign` is when the holder was last known to be alive.
    pub(crate) fn gossip(&self, sign: Option<Duration>, now: Duration) -> Gossip {
        Gossip {
            term: self.known.term(),
            serial: self.known.serial(),
            age_ms: sign.map_or(u32::MAX, |at| millis(now.saturating_sub(at))),
            claim: self.known.claim_id(),
            digest: self.history.digest(),
        }
    }

    /// Time between two pings over all connections: each connection in its turn, within the budget.
    pub(crate) fn ping_every(&self) -> Duration {
        let links = u32::try_from(self.peers.links_len()).unwrap_or(u32::MAX).max(1);
        let budget = Duration::from_secs(1) / self.settings.pings_per_second.max(1);
        (self.settings.ping / links).max(budget)
    }

    /// Pings a neighbour now.
    pub(crate) fn ping(&mut self, peer: PeerId, sign: Option<Duration>) {
        let now = self.now.mono;
        let nonce = self.nonce();
        self.peers.pinged(&peer, nonce, now);
        let gossip = self.gossip(sign, now);
        self.send(vec![peer], &RoleFrame::Ping { nonce, gossip }, FrameChannel::Datagram);
    }

    /// Asks neighbours for the holder: a neighbour that knows more answers a ping with it.
    pub(crate) fn ask_neighbours(&mut self, sign: Option<Duration>) {
        let peers: Vec<PeerId> = self.peers.linked().copied().take(ASK_MAX).collect();
        for peer in peers {
            self.ping(peer, sign);
        }
    }

    /// A neighbour reported the term it follows.
    pub(crate) fn note_follows(&mut self, peer: &PeerId, term: Term) {
        if let Some(link) = self.peers.link_mut(peer) {
            link.follows = Some((term, self.now.mono));
        }
    }

    /// A neighbour asks for the history.
    pub(crate) fn receive_history_want(&mut self, peer: PeerId) {
        let now = self.now.mono;
        if self.peers.link_mut(&peer).is_some_and(|link| link.may_send_history(now)) {
            let claims = self.history.signed();
            self.send(vec![peer], &RoleFrame::History(claims), FrameChannel::Stream);
        }
    }

    /// Time between two reports of a member.
    pub(crate) fn report_every(&self) -> Duration {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        self.settings.report.max(REPORT_PER_MEMBER.saturating_mul(members))
    }

    /// What this peer measured, candidates for the role first.
    pub(crate) fn report_rows(&self) -> Vec<ReportRow> {
        let succession = self.known.succession();
        let ranked = succession.map(|succession| succession.rows.iter().take(8).map(|row| row.peer));
        let listed = succession.map(|succession| succession.list.iter().copied());
        let candidates: BTreeSet<PeerId> =
            ranked.into_iter().flatten().chain(listed.into_iter().flatten()).chain(self.known.holder()).collect();
        let mut rows = rows(self.peers.measures(self.now.mono), &candidates);
        rows.retain(|row| row.peer != self.me);
        rows
    }

    /// Notes a claim that this peer follows from now on, or makes.
    pub(crate) fn record_claim(&mut self, claim: &Signed<Claim>, change: Change) {
        self.known.terms.reach(claim.value().term);
        if self.known.claim().is_some() || claim.value().claimant == self.me {
            self.history.seen(claim, change);
        } else {
            // A newcomer did not see what led to this.
            self.history.learned(claim);
        }
    }
}
