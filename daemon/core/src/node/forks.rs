//! Forks: two entries of one author at one place. They are kept as proof, and the log ends before them, everywhere.

use chat_proto::id::PeerId;

use crate::input::Now;
use crate::log::entry::{Entry, Incarnation, LogId, Seq, SignedEntry};
use crate::node::{NO_HASH, Node};
use crate::output::Output;
use crate::wire::Frame;
use rand::RngExt;

impl Node {
    /// Compares what is held of a suspicious log with what another peer sent of it.
    pub(super) fn compare(&mut self, log: LogId, held: Vec<SignedEntry>, now: Now) {
        let Some(others) = self.sync.suspects.remove(&log) else { return };
        for ours in held {
            let Ok(entry) = Entry::from_trusted(ours.clone()) else { continue };
            let Some(theirs) =
                others.get(&entry.seq()).and_then(|signed| Entry::verify(signed.clone(), &self.room).ok())
            else {
                continue;
            };
            if theirs.hash() == entry.hash() {
                continue;
            }
            let parents_agree =
                theirs.header().backlink.unwrap_or(NO_HASH) == entry.header().backlink.unwrap_or(NO_HASH);
            if parents_agree {
                return self.on_fork(ours, theirs.signed().clone(), now);
            }
            return self.look_further_back(log, entry.seq());
        }
    }

    /// The first difference lies before what was compared.
    fn look_further_back(&mut self, log: LogId, before: Seq) {
        let to = Seq(before.0.saturating_sub(1));
        let holder = self.links.connected().find(|(_, c)| c.known.get(&log).is_some_and(|seq| *seq >= to));
        if let Some(peer) = holder.map(|(peer, _)| *peer).filter(|_| to > Seq::ZERO) {
            self.sync.suspects.insert(log, std::collections::BTreeMap::new());
            self.compare_range(peer, log, to);
        }
    }

    /// A proof came, from here or from a peer: when it holds, the log is cut before the fork and others are told.
    pub(super) fn on_fork(&mut self, one: SignedEntry, other: SignedEntry, now: Now) {
        let (Ok(a), Ok(b)) = (Entry::verify(one.clone(), &self.room), Entry::verify(other.clone(), &self.room)) else {
            return;
        };
        let proves = a.log() == b.log() && a.seq() == b.seq() && a.hash() != b.hash();
        let cut = Seq(a.seq().0 - 1);
        let news = self.forks.get(&a.log()).is_none_or(|held| cut < *held);
        if !proves || !news || !self.roster.people.contains_key(&a.author()) {
            return;
        }
        tracing::warn!(author = %a.author().short(), seq = a.seq().0, "log was forked, it ends before the fork");
        self.forks.insert(a.log(), cut);
        self.out.push_back(Output::StoreFork(Box::new(one.clone()), Box::new(other.clone())));
        let frame = Frame::Fork(Box::new(one), Box::new(other));
        for peer in self.links.connected_ids() {
            self.send(&peer, &frame);
        }
        self.derive(now);
        self.reconsider_pending(now);
        if a.log() == self.log {
            self.renew_incarnation(now);
        }
    }

    /// What waited for entries that will never come is looked at again.
    pub(super) fn reconsider_pending(&mut self, now: Now) {
        for entry in self.pending.release_all() {
            self.consider(entry, None, now);
        }
    }

    /// This database's log went on elsewhere, or is cut: from now on this peer writes under a new number.
    pub(super) fn renew_incarnation(&mut self, _now: Now) {
        let incarnation = Incarnation(self.rng.random());
        tracing::warn!("this peer's log goes on elsewhere or is cut: a new incarnation begins");
        self.log = LogId { author: self.me, incarnation };
        self.receipts.reset();
        self.out.push_back(Output::StoreIncarnation(incarnation));
    }

    /// Sends a frame; one that does not fit is a fault of this peer and only logged.
    pub(super) fn send(&mut self, peer: &PeerId, frame: &Frame) {
        match frame.encode() {
            Ok(raw) => self.out.push_back(Output::Send(*peer, raw)),
            Err(error) => tracing::error!(%error, "frame not sent"),
        }
    }
}
