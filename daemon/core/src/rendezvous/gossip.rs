//! Pings between neighbours: they measure the path, and they compare what both peers know of the role.

use std::cmp::Ordering;
use std::time::Duration;

use chat_proto::id::{PeerId, Term};
use rand::RngExt;

use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::{Delivery, RoleFault};
use crate::rendezvous::protocol::claim::{Claim, compare};
use crate::rendezvous::protocol::frames::{Gossip, RoleFrame, millis};
use crate::rendezvous::protocol::signed::{Opened, SignedBytes};
use crate::rendezvous::state::RoleState;
use crate::rendezvous::state::context::Context;

/// Maximum number of neighbours that a peer without a holder asks at once.
const ASK_MAX: usize = 16;

impl Context {
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
        let links = u32::try_from(self.neighbours.len()).unwrap_or(u32::MAX).max(1);
        let budget = Duration::from_secs(1) / self.settings.pings_per_second.max(1);
        (self.settings.ping / links).max(budget)
    }

    /// Pings a neighbour now.
    pub(crate) fn ping(&mut self, peer: PeerId, sign: Option<Duration>) {
        let now = self.now.mono;
        let nonce = self.nonce();
        self.measures.ping(&peer, nonce, now);
        let gossip = self.gossip(sign, now);
        self.send(vec![peer], &RoleFrame::Ping { nonce, gossip }, Delivery::Datagram);
    }

    /// Asks neighbours for the holder: a neighbour that knows more answers a ping with it.
    pub(crate) fn ask_neighbours(&mut self, sign: Option<Duration>) {
        let peers: Vec<PeerId> = self.neighbours.peers().copied().take(ASK_MAX).collect();
        for peer in peers {
            self.ping(peer, sign);
        }
    }

    /// A neighbour reported the term it follows.
    pub(crate) fn note_follows(&mut self, peer: &PeerId, term: Term) {
        if let Some(link) = self.neighbours.get_mut(peer) {
            link.follows = Some((term, self.now.mono));
        }
    }
}

impl Rendezvous {
    /// Pings the connection whose turn it is.
    pub(super) fn ping_in_turn(&mut self) {
        let now = self.cx.now.mono;
        if now < self.ping_at {
            return;
        }
        self.ping_at = now + self.cx.ping_every().mul_f64(self.cx.rng.random_range(0.8..1.2));
        if let Some(peer) = self.cx.neighbours.next_ping(now) {
            self.ping(peer);
        }
    }

    /// Pings a neighbour now.
    pub(super) fn ping(&mut self, peer: PeerId) {
        let sign = self.state.newest_sign(self.cx.now.mono);
        self.cx.ping(peer, sign);
    }

    /// A ping arrived.
    pub(super) fn receive_ping(&mut self, peer: PeerId, nonce: u64, gossip: Gossip) {
        let now = self.cx.now.mono;
        let own = self.cx.gossip(self.state.newest_sign(now), now);
        self.cx.send(vec![peer], &RoleFrame::Pong { nonce, gossip: own }, Delivery::Datagram);
        self.receive_gossip(peer, gossip);
    }

    /// A pong arrived.
    pub(super) fn receive_pong(&mut self, peer: PeerId, nonce: u64, gossip: Gossip) {
        let now = self.cx.now.mono;
        let answers = self.cx.measures.pong(&peer, nonce, now);
        match &mut self.state {
            RoleState::Following(following) if Some(peer) == self.cx.known.holder() => {
                following.receive_holder_pong(nonce, answers, now);
            }
            RoleState::Holding(holding) => holding.settle_doubt(&self.cx, nonce, gossip.term),
            RoleState::Following(_) | RoleState::Seeking(_) | RoleState::Gone => {}
        }
        self.receive_gossip(peer, gossip);
    }

    fn receive_gossip(&mut self, peer: PeerId, gossip: Gossip) {
        self.cx.note_follows(&peer, gossip.term);
        match gossip.term.cmp(&self.cx.known.term()) {
            // The neighbour learns so from this peer's answer or next ping, and sends its state.
            Ordering::Greater => {}
            Ordering::Less => self.cx.send_state(peer),
            Ordering::Equal if gossip.term == Term(0) => {}
            Ordering::Equal if gossip.claim != self.cx.known.claim_id() => self.cx.send_state(peer),
            Ordering::Equal => self.compare_details(peer, gossip),
        }
    }

    /// Both know the same claim: compares the holder's signs of life, the succession and the history.
    fn compare_details(&mut self, peer: PeerId, gossip: Gossip) {
        let now = self.cx.now.mono;
        if let RoleState::Following(following) = &mut self.state
            && gossip.age_ms != u32::MAX
            && let Some(at) = now.checked_sub(Duration::from_millis(u64::from(gossip.age_ms)))
        {
            following.detector.note_hearsay(at, peer);
        }
        let cx = &mut self.cx;
        if gossip.serial < cx.known.serial() {
            cx.send_state(peer);
        }
        if gossip.digest != cx.history.digest()
            && cx.neighbours.get_mut(&peer).is_some_and(|link| link.may_ask_history(gossip.digest, now))
        {
            cx.send(vec![peer], &RoleFrame::HistoryWant, Delivery::Stream);
        }
    }

    /// A neighbour asks for the history.
    pub(super) fn receive_history_want(&mut self, peer: PeerId) {
        let now = self.cx.now.mono;
        if !self.cx.neighbours.get_mut(&peer).is_some_and(|link| link.may_send_history(now)) {
            return;
        }
        let claims = self.cx.history.signed();
        self.cx.send(vec![peer], &RoleFrame::History(claims), Delivery::Stream);
    }

    /// A neighbour sent its history. Only claims of present and former members are valid, and none above the known
    /// term: such a claim arrives as what it is, or not at all.
    pub(super) fn receive_history(&mut self, peer: PeerId, claims: Vec<SignedBytes>) -> Result<(), RoleFault> {
        for raw in claims {
            let opened: Opened<Claim> = raw.open(&self.cx.room)?;
            let (term, claimant) = (opened.value().term, opened.value().claimant);
            let members = &self.cx.members;
            let known = members.contains(&claimant) || members.former.contains(&claimant);
            if !known || term > self.cx.known.term() || self.cx.history.contains(term, &claimant) {
                continue;
            }
            let claim = opened.verify()?;
            let beats = self.cx.known.claim().is_some_and(|own| compare(&claim, own) == Ordering::Greater);
            if beats {
                self.receive_claim(peer, claim.raw().clone(), None)?;
            } else {
                self.cx.history.learned(&claim);
            }
        }
        Ok(())
    }
}
