//! Forks: two entries of one author with one sequence number. They are kept as proof, and all peers cut the log before it.
//!
//! A fork shows as an entry whose backlink does not match the head that is held, or as two heads of one log that differ.
//! Then the entries up to that one are fetched from the peer that holds the other side and compared with the disk, from
//! the newest back to the first difference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::log::Logs;
use crate::log::entry::{Dep, Entry, LogId, Seq, SignedEntry};
use crate::log::local::Local;
use crate::membership::roster::Roster;
use crate::peers::connections::Connections;
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
pub(crate) type Proof = (SignedEntry, SignedEntry);

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
    pub(crate) fn restore(&mut self, one: SignedEntry, other: SignedEntry) {
        if let (Ok(a), Ok(b)) = (Entry::from_trusted(one.clone()), Entry::from_trusted(other.clone()))
            && let Some(cut) = proves(&a, &b)
        {
            self.proven.insert(a.log(), (cut, (one, other)));
        }
    }

    /// The last sequence number before each fork.
    pub(crate) fn cuts(&self) -> BTreeMap<LogId, Seq> {
        self.proven.iter().map(|(log, (cut, _))| (*log, *cut)).collect()
    }

    pub(crate) fn logs(&self) -> BTreeSet<LogId> {
        self.proven.keys().copied().collect()
    }

    /// Proofs that came before their authors were known, to be looked at again.
    pub(crate) fn take_early(&mut self) -> Vec<Proof> {
        std::mem::take(&mut self.early).into_values().collect()
    }

    /// What the peer that is compared with sent of a log.
    pub(crate) fn keep(&mut self, from: &PeerId, place: &Dep, signed: &SignedEntry) {
        if let Some(suspect) = self.suspects.get_mut(&place.log).filter(|suspect| suspect.peer == *from)
            && place.seq <= suspect.to
            && place.seq.0 + COMPARE_SPAN > suspect.to.0
        {
            suspect.kept.insert(place.seq, SignedEntry { body: None, ..signed.clone() });
        }
    }

    /// The peer did not send what is to be compared. What was suspicious will show again.
    pub(crate) fn forget_suspect(&mut self, log: &LogId) {
        self.suspects.remove(log);
    }

    /// First and last sequence number of a suspicious log of which the other side has arrived from this peer.
    pub(crate) fn came(&self, from: &PeerId, log: &LogId) -> Option<(Seq, Seq)> {
        let suspect = self.suspects.get(log).filter(|suspect| suspect.peer == *from)?;
        suspect.kept.keys().next().copied().zip(suspect.kept.keys().next_back().copied())
    }

    #[cfg(test)]
    pub(crate) fn suspects(&self) -> usize {
        self.suspects.len()
    }
}

/// The last sequence number before the fork that two entries prove.
fn proves(a: &Entry, b: &Entry) -> Option<Seq> {
    (a.log() == b.log() && a.seq() == b.seq() && a.hash() != b.hash()).then(|| Seq(a.seq().0.saturating_sub(1)))
}

/// Finds forks and cuts logs before them: borrows the logs that this changes.
pub(crate) struct ForkHandler<'a> {
    pub(crate) local: &'a Local,
    pub(crate) roster: &'a Roster,
    pub(crate) logs: &'a mut Logs,
    pub(crate) connections: &'a Connections,
    pub(crate) cx: &'a mut NodeContext,
}

impl ForkHandler<'_> {
    /// A log may be forked at an entry or before it, as a peer's entries show.
    pub(crate) fn suspect(&mut self, place: Dep, peer: PeerId) {
        let to = place.seq.min(self.logs.heads.durable_seq(&place.log));
        let forks = &self.logs.forks;
        let known = forks.suspects.contains_key(&place.log) || forks.proven.contains_key(&place.log);
        if to > Seq::ZERO && !known && forks.suspects.len() < SUSPECTS_MAX {
            self.compare_at(peer, place.log, to);
        }
    }

    fn compare_at(&mut self, peer: PeerId, log: LogId, to: Seq) {
        let from = Seq(to.0.saturating_sub(COMPARE_SPAN - 1).max(1));
        self.request(peer, log, from, to);
    }

    /// Requests what is to be compared.
    fn request(&mut self, peer: PeerId, log: LogId, from: Seq, to: Seq) {
        self.logs.forks.suspects.insert(log, Suspect { peer, to, kept: BTreeMap::new() });
        self.cx.set(Timer::Compare(log), COMPARE_TIMEOUT);
        self.connections.send(&mut self.cx.out, &peer, &Frame::Want { log, from, to });
    }

    /// Compares what is held of a suspicious log with what another peer sent of it; returns the proof of a fork.
    pub(crate) fn compare(&mut self, log: LogId, held: Vec<SignedEntry>) -> Option<Proof> {
        let suspect = self.logs.forks.suspects.remove(&log)?;
        self.cx.timers.cancel(Timer::Compare(log));
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
                return Some((entry.signed().clone(), theirs.signed().clone()));
            }
            // The first difference lies before everything that was compared.
            self.compare_at(suspect.peer, log, Seq(entry.seq().0 - 1));
            return None;
        }
        if Seq::ZERO < last_alike && last_alike < suspect.to {
            // The answer was cut short: the difference lies behind it.
            let to = Seq(last_alike.0.saturating_add(COMPARE_SPAN)).min(suspect.to);
            self.request(suspect.peer, log, last_alike.next(), to);
        }
        None
    }

    /// A proof was found here or arrived from a peer: when it is valid, it is kept, neighbours are informed, and the log
    /// that ends before the fork is returned.
    pub(crate) fn prove(&mut self, (one, other): Proof) -> Option<LogId> {
        let [one, other] = [one, other].map(|signed| SignedEntry { body: None, ..signed });
        let a = Entry::verify(one.clone(), &self.local.room).ok()?;
        let b = Entry::verify(other.clone(), &self.local.room).ok()?;
        let (log, cut) = (a.log(), proves(&a, &b)?);
        let forks = &mut self.logs.forks;
        if forks.proven.get(&log).is_some_and(|(held, _)| *held <= cut) {
            return None;
        }
        if !self.roster.people.contains_key(&log.author) {
            if forks.early.len() < EARLY_MAX {
                forks.early.insert(log, (one, other));
            }
            return None;
        }
        tracing::warn!(author = %log.author.short(), seq = a.seq().0, "log was forked, it ends before the fork");
        forks.forget_suspect(&log);
        self.cx.timers.cancel(Timer::Compare(log));
        forks.proven.insert(log, (cut, (one.clone(), other.clone())));
        self.logs.disk.changes.forks.push((one.clone(), other.clone()));
        self.connections.send_to_all(&mut self.cx.out, &Frame::Fork(Box::new(one), Box::new(other)));
        Some(log)
    }

    /// Sends all proofs to a new neighbour: it may hold another side of a fork and not know of it.
    pub(crate) fn send_proofs(&mut self, to: &PeerId) {
        for (_, (one, other)) in self.logs.forks.proven.values() {
            let frame = Frame::Fork(Box::new(one.clone()), Box::new(other.clone()));
            self.connections.send(&mut self.cx.out, to, &frame);
        }
    }
}
