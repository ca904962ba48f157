//! Where relayed packets go: whose relay is tried, in which order.
//!
//! Two peers that need a relay must be at the same one, so all go by the same order: the holder, its list, the ranking, as
//! published; last those of whom it is known that nobody outside reaches them. A peer that is in touch with nobody asks
//! elsewhere before its own relay, where nobody would come.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;

use super::Rendezvous;
use super::part::Part;

/// Members that run the relay: the one that is used, and the one that is there when it goes away.
const RUNNING: usize = 2;

impl Rendezvous {
    /// Whose relay this peer tries, in this order; each of them may turn out not to run one.
    pub fn relays(&self, now: Duration) -> Vec<PeerId> {
        if !self.lone(now) {
            return self.published_relays();
        }
        // Whom it lost comes first: it may be this peer that is cut off from all but the relay.
        let before = self.ledger.claim().and_then(|claim| claim.value().from);
        let ranked = self.ledger.rows().iter().map(|row| row.peer);
        let mut order: Vec<PeerId> = Vec::new();
        for peer in before.into_iter().chain(ranked) {
            if peer != self.me && self.members.contains(&peer) && !order.contains(&peer) {
                order.push(peer);
            }
        }
        order.push(self.me);
        order
    }

    /// The holder that is declared gone: its relay is used only as long as it answers.
    pub fn doubted_relay(&self) -> Option<PeerId> {
        match &self.part {
            Part::Following(following) => following.vacancy.map(|_| following.watch.holder),
            Part::Seeking { .. } | Part::Holding(_) | Part::Gone => None,
        }
    }

    /// The holder and the next of the order relay, the latter so that it is there when needed.
    pub(super) fn wants_relay(&self) -> bool {
        match &self.part {
            Part::Holding(_) => true,
            Part::Following(_) => self.published_relays().iter().take(RUNNING).any(|peer| *peer == self.me),
            Part::Seeking { .. } | Part::Gone => false,
        }
    }

    fn published_relays(&self) -> Vec<PeerId> {
        let ranked = self.ledger.rows().iter().map(|row| row.peer);
        let mut order: Vec<PeerId> = Vec::new();
        for peer in self.ledger.holder().into_iter().chain(self.ledger.line().list).chain(ranked) {
            if self.members.contains(&peer) && !order.contains(&peer) {
                order.push(peer);
            }
        }
        let refuses = |peer: &PeerId| {
            self.ledger.rows().iter().any(|row| row.peer == *peer && row.figures.inbound == Some(false))
        };
        order.sort_by_key(refuses);
        order
    }

    /// Whether this peer holds the role for itself alone, though it was not always alone.
    fn lone(&self, now: Duration) -> bool {
        let Part::Holding(_) = &self.part else { return false };
        let alone = self.ledger.claim().is_some_and(|claim| {
            let claim = claim.value();
            claim.component <= 1 && claim.reason != ChangeReason::HandedOver
        });
        self.members.len() > 1 && (alone || self.links.len() == 0) && self.component(now) <= 1
    }
}

#[cfg(test)]
mod tests;
