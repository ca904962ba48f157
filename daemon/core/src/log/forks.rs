//! Forks: an author's log that was continued twice from one entry on, as happens when a home is rolled back.
//!
//! Nothing of a fork is lost: every branch becomes a log of its own, which all members hold and show. Two entries that
//! name the same log, sequence number and backlink are the *proof* of a fork at that point. Once a member has it, the log
//! ends before the fork, and each branch is filed under an id that follows from the hash of its first entry
//! ([`LogId::branch`]), so all members name it alike without agreeing on anything. Version vectors, requests and receipts
//! name branches like other logs. A branch may be forked again, by the same rule: the log of an entry is the branch that
//! begins at the last fork on the chain of backlinks that leads to it. What an author signed does not change: headers and
//! dependencies name the original log, and no entry names a branch, except that removals name the last valid entry of
//! each.
//!
//! An author that sees the proof goes on under a new incarnation. Branches end when their authors learn of it, not by a
//! rule: members learn of a fork at different times, and an end that depends on that would differ between them. What
//! bounds them is the number of valid logs of an author ([`AUTHOR_LOGS_MAX`](crate::config::AUTHOR_LOGS_MAX)).
//!
//! Where entries beyond the fork are held already, they are filed anew on disk, in the transaction of the proof, and the
//! node takes over what the disk then holds, as after a start ([`Disk`](crate::log::disk::Disk)). Acts of admins beyond a
//! fork are void: dependencies name them by log and sequence number, and cannot tell one branch from another.
//!
//! A fork shows as an entry whose backlink does not match the head that is held, or as two heads of one log that differ.
//! Then the entries up to that one are fetched from the peer that holds the other side and compared with the disk, from
//! the newest back to the first difference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::{EntryHash, PeerId};

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::log::Logs;
use crate::log::entry::{Dep, Entry, Head, Header, LogId, Seq, SignedEntry};
use crate::log::heads::Heads;
use crate::log::local::Local;
use crate::membership::roster::Roster;
use crate::peers::connections::Connections;
use crate::wire::Frame;

/// Number of sequence numbers that are compared at a time.
const COMPARE_SPAN: u64 = 64;

/// Maximum number of logs that are compared at a time.
const SUSPECTS_MAX: usize = 16;

/// Maximum number of heads of void logs that are known to begin alike; one that is forgotten is compared again.
const ALIKE_MAX: usize = 1024;

/// Timeout for the entries that are compared.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of proofs kept of authors that are not known yet, as happens while a newcomer catches up.
const EARLY_MAX: usize = 64;

/// Maximum number of forks of one author's logs; further ones are not split into branches. Each rolled-back disk makes one.
const FORKS_PER_AUTHOR_MAX: usize = 64;

/// Two entries with one sequence number, without their bodies: header and signature prove it.
pub(crate) type Proof = (SignedEntry, SignedEntry);

/// Where a log was continued twice: the log that its entries name, the sequence number at which the branches begin, and the
/// entry before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ForkPoint {
    log: LogId,
    seq: Seq,
    backlink: Option<EntryHash>,
}

impl ForkPoint {
    /// The point right before an entry.
    fn before(header: &Header) -> Self {
        Self { log: header.log, seq: header.seq, backlink: header.backlink }
    }
}

/// Forked logs, and those that may be.
#[derive(Debug, Default)]
pub(crate) struct Forks {
    proven: BTreeMap<ForkPoint, Proof>,
    /// The branches that are named in proofs, with the last sequence numbers before them.
    branches: BTreeMap<LogId, Seq>,
    early: BTreeMap<ForkPoint, Proof>,
    suspects: BTreeMap<LogId, Suspect>,
    /// Newest entries that peers showed of logs which are void here, and which begin alike.
    alike: BTreeSet<EntryHash>,
}

/// A log that is compared with what a peer holds of it.
#[derive(Debug)]
struct Suspect {
    peer: PeerId,
    /// The last sequence number at which a difference can be.
    to: Seq,
    /// What the peer sent, without bodies.
    kept: BTreeMap<Seq, SignedEntry>,
    /// The newest entry that the peer showed of a log which is void here.
    void_head: Option<EntryHash>,
}

impl Forks {
    /// Takes a proof from the disk.
    pub(crate) fn restore(&mut self, one: SignedEntry, other: SignedEntry) {
        if let (Ok(a), Ok(b)) = (Entry::from_trusted(one), Entry::from_trusted(other)) {
            self.add(&a, &b);
        }
    }

    /// Keeps a proof; returns whether it is valid and new.
    fn add(&mut self, a: &Entry, b: &Entry) -> Option<ForkPoint> {
        let point = proves(a, b).filter(|point| !self.proven.contains_key(point))?;
        for entry in [a, b] {
            let before = Seq(point.seq.0.saturating_sub(1));
            self.branches.insert(LogId::branch(entry.author(), &entry.hash()), before);
        }
        self.proven.insert(point, (a.signed().clone(), b.signed().clone()));
        Some(point)
    }

    /// The log in which an entry is filed: the one that it names, or a branch. Where that log is forked, it is known from
    /// the entry before, which `holder` finds; none where that one is not known yet.
    pub(crate) fn file(
        &self,
        header: &Header,
        hash: impl FnOnce() -> EntryHash,
        holder: impl FnOnce(&EntryHash) -> Option<LogId>,
    ) -> Option<LogId> {
        if self.branches.contains_key(&header.log) {
            // No honest author begins a log under the number of a branch.
            return None;
        }
        if !self.reaches_fork(&header.log, header.seq) {
            return Some(header.log);
        }
        if self.proven.contains_key(&ForkPoint::before(header)) {
            return Some(LogId::branch(header.log.author, &hash()));
        }
        holder(header.backlink.as_ref()?)
    }

    /// Whether a log is forked at this sequence number or before it.
    pub(crate) fn reaches_fork(&self, log: &LogId, seq: Seq) -> bool {
        let first = ForkPoint { log: *log, seq: Seq::ZERO, backlink: None };
        self.proven.range(first..).next().is_some_and(|(point, _)| point.log == *log && point.seq <= seq)
    }

    /// Whether some log of an author is forked.
    pub(crate) fn concern(&self, author: PeerId) -> bool {
        self.of(author).next().is_some()
    }

    fn of(&self, author: PeerId) -> impl Iterator<Item = &ForkPoint> {
        let first = ForkPoint { log: *LogId::range_of(author).start(), seq: Seq::ZERO, backlink: None };
        self.proven.range(first..).map(|(point, _)| point).take_while(move |point| point.log.author == author)
    }

    /// The last sequence number before a branch that is named in a proof.
    pub(crate) fn base(&self, branch: &LogId) -> Seq {
        self.branches.get(branch).copied().unwrap_or_default()
    }

    /// Shows the heads where logs are forked.
    pub(crate) fn show(&self, heads: &mut Heads) {
        let mut ends = BTreeMap::new();
        for point in self.proven.keys() {
            ends.entry(point.log).or_insert(Seq(point.seq.0.saturating_sub(1)));
        }
        heads.set_forks(ends, self.proven.keys().filter_map(|point| point.backlink).collect());
    }

    /// Proofs that came before their authors were known, to be looked at again.
    pub(crate) fn take_early(&mut self) -> Vec<Proof> {
        std::mem::take(&mut self.early).into_values().collect()
    }

    /// What the peer that is compared with sent of a log.
    pub(crate) fn keep(&mut self, from: &PeerId, header: &Header, signed: &SignedEntry) {
        if let Some((_, suspect)) = self.suspect_of(from, header.log.author)
            && header.seq <= suspect.to
            && header.seq.0 + COMPARE_SPAN > suspect.to.0
        {
            suspect.kept.insert(header.seq, SignedEntry { body: None, ..signed.clone() });
        }
    }

    /// The log of an author that is compared with what a peer holds; one at a time.
    fn suspect_of(&mut self, peer: &PeerId, author: PeerId) -> Option<(&LogId, &mut Suspect)> {
        self.suspects.range_mut(LogId::range_of(author)).find(|(_, suspect)| suspect.peer == *peer)
    }

    /// The peer did not send what is to be compared. What was suspicious will show again.
    pub(crate) fn forget_suspect(&mut self, log: &LogId) {
        self.suspects.remove(log);
    }

    /// A suspicious log of which the other side has arrived from this peer, and the first and last sequence number of that.
    pub(crate) fn came(&mut self, from: &PeerId, author: PeerId) -> Option<(LogId, (Seq, Seq))> {
        let (log, suspect) = self.suspect_of(from, author)?;
        let range = suspect.kept.keys().next().copied().zip(suspect.kept.keys().next_back().copied())?;
        Some((*log, range))
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn suspects(&self) -> usize {
        self.suspects.len()
    }
}

/// The fork that two entries prove.
fn proves(a: &Entry, b: &Entry) -> Option<ForkPoint> {
    let point = ForkPoint::before(a.header());
    (point == ForkPoint::before(b.header()) && a.hash() != b.hash()).then_some(point)
}

/// Whether an entry contradicts what waits.
pub(crate) enum Contradiction {
    /// It does not.
    None,
    /// Both have the same entry before them: they prove a fork.
    Proven(Box<Proof>),
    /// They differ before that, too: what is there is asked of the peer that sent it.
    Earlier,
}

/// Finds forks and ends logs before them: borrows the logs that this changes.
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
        let to = place.seq.min(self.logs.reach(&place.log));
        let suspects = &self.logs.forks.suspects;
        let known = suspects.range(LogId::range_of(place.log.author)).next().is_some();
        let free = suspects.len() < SUSPECTS_MAX && !self.logs.disk.is_refiling();
        if to > Seq::ZERO && !known && free {
            self.compare_at(peer, place.log, to);
        }
    }

    /// A peer shows a log that is void here: it may have two beginnings. Those that begin alike are compared once.
    pub(crate) fn suspect_void(&mut self, head: &Head, peer: PeerId) {
        let known = self.logs.forks.suspects.contains_key(&head.log) || self.logs.forks.alike.contains(&head.hash);
        if !known {
            self.suspect(Dep { log: head.log, seq: head.seq }, peer);
            if let Some(suspect) = self.logs.forks.suspects.get_mut(&head.log) {
                suspect.void_head = Some(head.hash);
            }
        }
    }

    fn compare_at(&mut self, peer: PeerId, log: LogId, to: Seq) {
        let from = Seq(to.0.saturating_sub(COMPARE_SPAN - 1).max(1));
        self.request(peer, log, from, to);
    }

    /// Requests what is to be compared.
    fn request(&mut self, peer: PeerId, log: LogId, from: Seq, to: Seq) {
        self.logs.forks.suspects.insert(log, Suspect { peer, to, kept: BTreeMap::new(), void_head: None });
        self.cx.set(Timer::Compare(log), COMPARE_TIMEOUT);
        self.connections.send(&mut self.cx.out, &peer, &Frame::Want { log, from, to });
    }

    /// Compares an entry that arrived with those that wait in its place or before it. Where they differ, the log was forked:
    /// what waits may never be complete, and must not keep the other branch out. Returns the proof, where this is it.
    pub(crate) fn contradiction(&mut self, entry: &Entry, from: PeerId) -> Contradiction {
        let at = |seq| self.logs.pending.get(&Dep { log: entry.log(), seq });
        let before = Seq(entry.seq().0.saturating_sub(1));
        let other = at(entry.seq()).filter(|other| other.hash() != entry.hash());
        if let Some(other) = other.filter(|other| other.header().backlink == entry.header().backlink) {
            return Contradiction::Proven(Box::new((other.signed().clone(), entry.signed().clone())));
        }
        let differs = other.is_some() || at(before).is_some_and(|last| Some(last.hash()) != entry.header().backlink);
        if !differs || entry.begins() {
            return Contradiction::None;
        }
        self.suspect(Dep { log: entry.log(), seq: before }, from);
        Contradiction::Earlier
    }

    /// Compares what is held of a suspicious log, and what waits of it, with what another peer sent; returns the proof of a
    /// fork.
    pub(crate) fn compare(&mut self, log: LogId, mut held: Vec<SignedEntry>) -> Option<Proof> {
        let suspect = self.logs.forks.suspects.remove(&log)?;
        let waiting = self.logs.pending.of_log(&log).filter(|entry| suspect.kept.contains_key(&entry.seq()));
        held.extend(waiting.map(|entry| entry.signed().clone()));
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
        } else if let Some(head) = suspect.void_head.filter(|_| last_alike > Seq::ZERO) {
            let alike = &mut self.logs.forks.alike;
            if alike.len() >= ALIKE_MAX {
                alike.pop_first();
            }
            alike.insert(head);
        }
        None
    }

    /// A proof was found here or arrived from a peer: when it is valid, it is kept, neighbours are informed, and the log
    /// that ends before the fork is returned. Where entries beyond the fork are held, they have to be filed anew.
    pub(crate) fn prove(&mut self, (one, other): Proof) -> Option<LogId> {
        let [one, other] = [one, other].map(|signed| SignedEntry { body: None, ..signed });
        let a = Entry::verify(one.clone(), &self.local.room).ok()?;
        let b = Entry::verify(other.clone(), &self.local.room).ok()?;
        let (point, author) = (proves(&a, &b)?, a.author());
        let forks = &mut self.logs.forks;
        if forks.proven.contains_key(&point) || forks.of(author).count() >= FORKS_PER_AUTHOR_MAX {
            return None;
        }
        if !self.roster.people.contains_key(&author) {
            if forks.early.len() < EARLY_MAX {
                forks.early.insert(point, (one, other));
            }
            return None;
        }
        tracing::warn!(author = %author.short(), seq = point.seq.0, "log was continued twice, each branch becomes a log");
        forks.add(&a, &b)?;
        self.logs.disk.changes.forks.push((one.clone(), other.clone()));
        let heads = &mut self.logs.heads;
        let beyond = |log: &&LogId| heads.signed(log) == point.log && heads.seq(log) >= point.seq;
        if heads.logs().any(|log| beyond(&log)) {
            self.logs.disk.refile();
        }
        forks.show(heads);
        for log in forks.suspects.keys().filter(|log| log.author == author).copied().collect::<Vec<_>>() {
            forks.forget_suspect(&log);
            self.cx.timers.cancel(Timer::Compare(log));
        }
        self.connections.send_to_all(&mut self.cx.out, &Frame::Fork(Box::new(one), Box::new(other)));
        Some(point.log)
    }

    /// Sends all proofs to a new neighbour: it may hold another side of a fork and not know of it.
    pub(crate) fn send_proofs(&mut self, to: &PeerId) {
        for (one, other) in self.logs.forks.proven.values() {
            let frame = Frame::Fork(Box::new(one.clone()), Box::new(other.clone()));
            self.connections.send(&mut self.cx.out, to, &frame);
        }
    }
}
