//! Version vectors from and to neighbours, and what differs.

use chat_proto::id::PeerId;

use crate::delivery::sync::{Exchange, SyncHandler, digest};
use crate::input::{LoadId, Now};
use crate::log::entry::{Dep, Head, SignedEntry};
use crate::node::Node;
use crate::node::timers::Timer;
use crate::wire::Frame;

impl Node {
    pub(super) fn sync(&mut self) -> SyncHandler<'_> {
        SyncHandler {
            sync: &mut self.delivery.sync,
            logs: &mut self.logs,
            news: &mut self.membership.news,
            peers: &mut self.peers,
            timers: &mut self.timers,
            out: &mut self.out,
        }
    }

    /// The periodic exchange with one neighbour, chosen at random.
    pub(super) fn exchange_vectors(&mut self, now: Now) {
        let spread = 0.8 + 0.4 * self.jitter();
        self.timers.set(Timer::AntiEntropy, now.mono + self.settings.anti_entropy.mul_f64(spread));
        self.presence_changed(now);
        let connected = self.peers.connections.connected_ids();
        if connected.is_empty() {
            return;
        }
        // Entries from a peer that is gone may wait for what no neighbour has: a peer that holds them sends them again.
        self.logs.pending.drop_orphans(|place| self.peers.connections.who_knows(place).is_some());
        let at = (self.jitter() * connected.len() as f64) as usize;
        if let Some(peer) = connected.get(at.min(connected.len() - 1)) {
            let digest = digest(&self.logs.heads.vector());
            self.send(peer, &Frame::Digest { digest, reply: true });
            self.show_clock(peer, now);
        }
    }

    /// A peer sends a digest of its vector. Where it equals this peer's, nothing more follows: a quiet room exchanges
    /// no vectors, which grow with the number of members.
    pub(super) fn on_digest(&mut self, peer: PeerId, theirs: [u8; 32], exchange: Exchange, now: Now) {
        let heads = self.logs.heads.vector();
        let own = digest(&heads);
        if own == theirs {
            if exchange == Exchange::Opening {
                self.send(&peer, &Frame::Digest { digest: own, reply: false });
            }
            self.on_vector(peer, heads, Exchange::Answer, now);
        } else if exchange == Exchange::Opening {
            self.sync().send_vector(&peer, Exchange::Opening);
        }
    }

    pub(super) fn on_vector(&mut self, peer: PeerId, heads: Vec<Head>, exchange: Exchange, now: Now) {
        self.peers.connections.holds(&peer, &heads);
        for head in &heads {
            self.check_head(&peer, head, now);
        }
        if exchange == Exchange::Opening {
            self.sync().send_vector(&peer, Exchange::Answer);
        }
        self.sync().fetch_causes(peer, now);
        self.receipts_changed();
    }

    /// Handles one head of a peer's vector: a receipt for this peer's log, or the other side of a fork.
    fn check_head(&mut self, peer: &PeerId, head: &Head, now: Now) {
        self.shows_own_head(peer, &head.log, head.seq, &head.hash);
        let own = self.logs.heads.head(&head.log).copied();
        let same_place = own.is_some_and(|own| own.seq == head.seq);
        let differs = same_place && own.is_some_and(|own| own.hash != head.hash);
        let mine = head.log == self.local.log;
        if differs || (mine && self.delivery.receipts.contradicts(head.seq, &head.hash)) {
            self.suspect(Dep { log: head.log, seq: head.seq }, Some(*peer), now);
        } else if mine && self.membership.roster.is_member(peer) {
            self.delivery.receipts.held(*peer, head.seq, &head.hash);
        }
    }

    pub(super) fn on_loaded(&mut self, id: LoadId, entries: Vec<SignedEntry>, now: Now) {
        if let Some((log, entries)) = self.sync().loaded(id, entries) {
            self.compare(log, entries, now);
        }
    }
}
