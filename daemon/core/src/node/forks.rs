//! Forks: two entries of one author with one sequence number. They are kept as proof, and all peers cut the log before it.
//!
//! A fork shows as an entry whose backlink does not match the head that is held, or as two heads of one log that differ.
//! Then the entries up to that one are fetched from the peer that holds the other side and compared with the disk, from
//! the newest back to the first difference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;
use rand::RngExt;

use crate::delivery::sync::LoadFor;
use crate::input::Now;
use crate::log::entry::{Dep, Entry, Incarnation, LogId, Seq, SignedEntry};
use crate::node::Node;
use crate::node::timers::Timer;
use crate::wire::Frame;

/// Number of sequence numbers that are compared at a time.
const COMPARE_SPAN: u64 = 64;

/// Maximum number of logs that are compared at a time.
const SUSPECTS_MAX: usize = 16;

/// Timeout for the entries that are compared.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of proofs kept of authors that are not known yet, as happens while a newcomer catches up.
const EARLY_MAX: usize = 64;

/// Two entries with one sequence number, without their bodies: header and signature prove it.
type Proof = (SignedEntry, SignedEntry);

/// Forked logs, and those that may be.
#[derive(Debug, Default)]
pub(crate) struct Forks {
    proven: BTreeMap<LogId, (Seq, Proof)>,
    early: BTreeMap<LogId, Proof>,
    suspects: BTreeMap<LogId, Suspect>,
}

/// A log that is compared with what a peer holds of it.
#[derive(Debug)]
struct Suspect {
    peer: PeerId,
    /// The last sequence number at which a difference can be.
    to: Seq,
    /// What the peer sent, without bodies.
    kept: BTreeMap<Seq, SignedEntry>,
}

impl Forks {
    /// Takes a proof from the disk.
    pub(super) fn restore(&mut self, one: SignedEntry, other: SignedEntry) {
        if let (Ok(a), Ok(b)) = (Entry::from_trusted(one.clone()), Entry::from_trusted(other.clone()))
            && let Some(cut) = proves(&a, &b)
        {
            self.proven.insert(a.log(), (cut, (one, other)));
        }
    }

    /// The last sequence number before each fork.
    pub(super) fn cuts(&self) -> BTreeMap<LogId, Seq> {
        self.proven.iter().map(|(log, (cut, _))| (*log, *cut)).collect()
    }

    pub(super) fn logs(&self) -> BTreeSet<LogId> {
        self.proven.keys().copied().collect()
    }

    /// What the peer that is compared with sent of a log.
    pub(super) fn keep(&mut self, from: &PeerId, place: &Dep, signed: &SignedEntry) {
        if let Some(suspect) = self.suspects.get_mut(&place.log).filter(|suspect| suspect.peer == *from)
            && place.seq <= suspect.to
            && place.seq.0 + COMPARE_SPAN > suspect.to.0
        {
            suspect.kept.insert(place.seq, SignedEntry { body: None, ..signed.clone() });
        }
    }

    #[cfg(test)]
    pub(super) fn suspects(&self) -> usize {
        self.suspects.len()
    }
}

/// The last sequence number before the fork that two entries prove.
fn proves(a: &Entry, b: &Entry) -> Option<Seq> {
    (a.log() == b.log() && a.seq() == b.seq() && a.hash() != b.hash()).then(|| Seq(a.seq().0.saturating_sub(1)))
}

impl Node {
    /// A log may be forked at an entry or before it, as a peer's entries show.
    pub(super) fn suspect(&mut self, place: Dep, from: Option<PeerId>, now: Now) {
        let Some(peer) = from else { return };
        let to = place.seq.min(self.logs.heads.durable_seq(&place.log));
        let known =
            self.logs.forks.suspects.contains_key(&place.log) || self.logs.forks.proven.contains_key(&place.log);
        if to == Seq::ZERO || known || self.logs.forks.suspects.len() >= SUSPECTS_MAX {
            return;
        }
        self.compare_at(peer, place.log, to, now);
    }

    fn compare_at(&mut self, peer: PeerId, log: LogId, to: Seq, now: Now) {
        self.logs.forks.suspects.insert(log, Suspect { peer, to, kept: BTreeMap::new() });
        self.timers.set(Timer::Compare(log), now.mono + COMPARE_TIMEOUT);
        let from = Seq(to.0.saturating_sub(COMPARE_SPAN - 1).max(1));
        self.send(&peer, &Frame::Want { log, from, to });
    }

    /// The peer did not send what is to be compared. What was suspicious will show again.
    pub(super) fn forget_suspect(&mut self, log: &LogId) {
        self.logs.forks.suspects.remove(log);
        self.timers.cancel(Timer::Compare(*log));
    }

    /// Reads the part of a suspicious log for which the other side has arrived.
    pub(super) fn compare_what_came(&mut self, from: PeerId, log: LogId) {
        let Some(suspect) = self.logs.forks.suspects.get(&log).filter(|suspect| suspect.peer == from) else { return };
        let came = suspect.kept.keys().next().copied().zip(suspect.kept.keys().next_back().copied());
        if let Some((first, last)) = came {
            self.sync().load(LoadFor::Compare(log), log, first, last);
        }
    }

    /// Compares what is held of a suspicious log with what another peer sent of it.
    pub(super) fn compare(&mut self, log: LogId, held: Vec<SignedEntry>, now: Now) {
        let Some(suspect) = self.logs.forks.suspects.remove(&log) else { return };
        self.timers.cancel(Timer::Compare(log));
        let mut last_alike = Seq::ZERO;
        for ours in held {
            let Ok(entry) = Entry::from_trusted(ours) else { continue };
            let theirs = suspect.kept.get(&entry.seq()).cloned();
            let Some(theirs) = theirs.and_then(|signed| Entry::verify(signed, &self.local.room).ok()) else { continue };
            if theirs.hash() == entry.hash() {
                last_alike = entry.seq();
                continue;
            }
            if theirs.header().backlink == entry.header().backlink {
                return self.on_fork(entry.signed().clone(), theirs.signed().clone());
            }
            // The first difference lies before everything that was compared.
            return self.compare_at(suspect.peer, log, Seq(entry.seq().0 - 1), now);
        }
        if Seq::ZERO < last_alike && last_alike < suspect.to {
            // The answer was cut short: the difference lies behind it.
            let to = Seq(last_alike.0.saturating_add(COMPARE_SPAN)).min(suspect.to);
            self.logs.forks.suspects.insert(log, Suspect { to, kept: BTreeMap::new(), ..suspect });
            self.timers.set(Timer::Compare(log), now.mono + COMPARE_TIMEOUT);
            self.send(&suspect.peer, &Frame::Want { log, from: last_alike.next(), to });
        }
    }

    /// A proof was found here or arrived from a peer: when it is valid, the log is cut before the fork and neighbours
    /// are informed.
    pub(super) fn on_fork(&mut self, one: SignedEntry, other: SignedEntry) {
        let [one, other] = [one, other].map(|signed| SignedEntry { body: None, ..signed });
        let (Ok(a), Ok(b)) =
            (Entry::verify(one.clone(), &self.local.room), Entry::verify(other.clone(), &self.local.room))
        else {
            return;
        };
        let (log, Some(cut)) = (a.log(), proves(&a, &b)) else { return };
        if self.logs.forks.proven.get(&log).is_some_and(|(held, _)| *held <= cut) {
            return;
        }
        if !self.membership.roster.people.contains_key(&log.author) {
            if self.logs.forks.early.len() < EARLY_MAX {
                self.logs.forks.early.insert(log, (one, other));
            }
            return;
        }
        tracing::warn!(author = %log.author.short(), seq = a.seq().0, "log was forked, it ends before the fork");
        self.forget_suspect(&log);
        self.logs.forks.proven.insert(log, (cut, (one.clone(), other.clone())));
        self.logs.disk.changes.forks.push((one.clone(), other.clone()));
        let frame = Frame::Fork(Box::new(one), Box::new(other));
        self.peers.connections.send_to_all(&mut self.out, &frame);
        self.cuts_changed();
        if log == self.local.log {
            self.renew_incarnation("this peer's log was forked");
        }
    }

    /// Proofs that came before their authors were known are looked at again.
    pub(super) fn early_proofs(&mut self) {
        for (one, other) in std::mem::take(&mut self.logs.forks.early).into_values() {
            self.on_fork(one, other);
        }
    }

    /// Sends all proofs to a new neighbour: it may hold another side of a fork and not know of it.
    pub(super) fn send_forks(&mut self, to: &PeerId) {
        let frames: Vec<Frame> = self
            .logs
            .forks
            .proven
            .values()
            .map(|(_, (one, other))| Frame::Fork(Box::new(one.clone()), Box::new(other.clone())))
            .collect();
        for frame in frames {
            self.send(to, &frame);
        }
    }

    /// What waited for entries that will never come is looked at again.
    pub(super) fn reconsider_pending(&mut self, now: Now) {
        for entry in self.logs.pending.release_all() {
            self.consider(entry, None, now);
        }
    }

    /// This peer's log is not continued: from now on it writes under a new incarnation.
    pub(super) fn renew_incarnation(&mut self, reason: &'static str) {
        let incarnation = Incarnation(self.rng.random());
        tracing::warn!(reason, "a new incarnation begins");
        for (command, waiting) in self.delivery.receipts.drain() {
            self.reply_posted(command, &waiting);
        }
        self.local.log = LogId { author: self.local.me, incarnation };
        self.confirmed();
        self.delivery.receipts.begin(self.local.log, None);
        self.logs.disk.changes.incarnation = Some(incarnation);
    }
}
