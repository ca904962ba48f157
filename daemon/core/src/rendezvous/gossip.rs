//! Pings between neighbours: they measure, and they compare what both know of the role.

use std::cmp::Ordering;
use std::time::Duration;

use chat_proto::id::{PeerId, Term};
use rand::RngExt;

use super::Rendezvous;
use super::claim::{Claim, compare};
use super::follow::millis;
use super::frames::{Gossip, RoleFrame};
use super::io::{Delivery, RoleFault};
use super::part::Part;
use super::signed::{Opened, SignedBytes};
use crate::input::Now;

/// Most neighbours that a peer without a holder asks at once.
const ASK_MAX: usize = 16;

impl Rendezvous {
    /// What this peer knows, for a neighbour to compare.
    pub(super) fn gossip(&self, now: Duration) -> Gossip {
        let sign = match &self.part {
            Part::Holding(holding) if holding.doubt.is_none() => Some(now),
            Part::Following(following) => following.watch.fresh,
            Part::Holding(_) | Part::Seeking { .. } | Part::Gone => None,
        };
        Gossip {
            term: self.ledger.term(),
            serial: self.ledger.serial(),
            age_ms: sign.map_or(u32::MAX, |at| millis(now.saturating_sub(at))),
            claim: self.ledger.claim_id(),
            digest: self.history.digest(),
        }
    }

    /// Time between two pings over all connections: each connection in its turn, and never more than the budget.
    pub(super) fn ping_every(&self) -> Duration {
        let links = u32::try_from(self.links.len()).unwrap_or(u32::MAX).max(1);
        let budget = Duration::from_secs(1) / self.settings.pings_per_second.max(1);
        (self.settings.ping / links).max(budget)
    }

    /// Pings the connection whose turn it is.
    pub(super) fn ping_in_turn(&mut self, now: Duration) {
        if now < self.ping_at {
            return;
        }
        self.ping_at = now + self.ping_every().mul_f64(self.rng.random_range(0.8..1.2));
        if let Some(peer) = self.links.next_ping(now) {
            self.ping(peer, now);
        }
    }

    /// Pings a peer now.
    pub(super) fn ping(&mut self, peer: PeerId, now: Duration) {
        let nonce = self.nonce();
        self.measures.ping(&peer, nonce, now);
        let gossip = self.gossip(now);
        self.send(vec![peer], &RoleFrame::Ping { nonce, gossip }, Delivery::Datagram);
    }

    /// Asks neighbours who holds the role: a ping is answered by who knows more.
    pub(super) fn ask_neighbours(&mut self, now: Duration) {
        let peers: Vec<PeerId> = self.links.peers().copied().take(ASK_MAX).collect();
        for peer in peers {
            self.ping(peer, now);
        }
    }

    /// A ping arrived.
    pub(super) fn pinged(&mut self, peer: PeerId, nonce: u64, gossip: Gossip, now: Now) {
        let own = self.gossip(now.mono);
        self.send(vec![peer], &RoleFrame::Pong { nonce, gossip: own }, Delivery::Datagram);
        self.hear_gossip(peer, gossip, now);
    }

    /// A pong arrived.
    pub(super) fn ponged(&mut self, peer: PeerId, nonce: u64, gossip: Gossip, now: Now) {
        let answers = self.measures.pong(&peer, nonce, now.mono);
        if Some(peer) == self.ledger.holder() {
            self.suspect_answered(nonce, now.mono);
            if let Part::Following(following) = &mut self.part
                && answers
            {
                following.watch.lives(now.mono);
            }
        }
        self.doubt_answered(nonce, gossip.term);
        self.hear_gossip(peer, gossip, now);
    }

    fn hear_gossip(&mut self, peer: PeerId, gossip: Gossip, now: Now) {
        self.note_follows(&peer, gossip.term, now.mono);
        match gossip.term.cmp(&self.ledger.term()) {
            // It learns so from this peer's answer or next ping, and tells.
            Ordering::Greater => {}
            Ordering::Less => self.tell(peer, now.mono),
            Ordering::Equal if gossip.term == Term(0) => {}
            Ordering::Equal if gossip.claim != self.ledger.claim_id() => self.tell(peer, now.mono),
            Ordering::Equal => self.compare_details(peer, gossip, now.mono),
        }
    }

    fn compare_details(&mut self, peer: PeerId, gossip: Gossip, now: Duration) {
        if let Part::Following(following) = &mut self.part
            && gossip.age_ms != u32::MAX
            && let Some(at) = now.checked_sub(Duration::from_millis(u64::from(gossip.age_ms)))
        {
            following.watch.hearsay(at, peer);
        }
        if gossip.serial < self.ledger.serial() {
            self.tell(peer, now);
        }
        if gossip.digest != self.history.digest()
            && self.links.get_mut(&peer).is_some_and(|link| link.ask_history(gossip.digest, now))
        {
            self.send(vec![peer], &RoleFrame::HistoryWant, Delivery::Stream);
        }
    }

    /// A neighbour said which term it follows.
    pub(super) fn note_follows(&mut self, peer: &PeerId, term: Term, now: Duration) {
        if let Some(link) = self.links.get_mut(peer) {
            link.follows = Some((term, now));
        }
    }

    /// Tells a neighbour all this peer knows, unless that happened a moment ago.
    pub(super) fn tell(&mut self, peer: PeerId, now: Duration) {
        if self.ledger.claim().is_some() && self.links.get_mut(&peer).is_some_and(|link| link.tell(now)) {
            self.send(vec![peer], &self.ledger.state(), Delivery::Stream);
        }
    }

    /// A neighbour asked for the history.
    pub(super) fn history_wanted(&mut self, peer: PeerId, now: Duration) {
        if !self.links.get_mut(&peer).is_some_and(|link| link.give_history(now)) {
            return;
        }
        let claims = self.history.signed();
        self.send(vec![peer], &RoleFrame::History(claims), Delivery::Stream);
    }

    /// A neighbour sent its history. Only claims of people who are or were members count, and none above the term that
    /// is known: such a claim comes as what it is, or not at all.
    pub(super) fn history_came(&mut self, peer: PeerId, claims: Vec<SignedBytes>, now: Now) -> Result<(), RoleFault> {
        for raw in claims {
            let opened: Opened<Claim> = raw.open(&self.room)?;
            let (term, claimant) = (opened.value().term, opened.value().claimant);
            let known = self.members.contains(&claimant) || self.former.contains(&claimant);
            if !known || term > self.ledger.term() || self.history.contains(term, &claimant) {
                continue;
            }
            let claim = opened.verify()?;
            let beats = self.ledger.claim().is_some_and(|own| compare(&claim, own) == Ordering::Greater);
            if beats {
                self.receive_claim(peer, claim.raw().clone(), None, now)?;
            } else {
                self.history.learned(&claim);
            }
        }
        Ok(())
    }
}
