//! Heads: how far each log is applied and on disk, where logs are cut, and what fits next.
//!
//! Two heads per log: *applied* (in memory, in causal order) and *durable* (on disk). A log may be cut by a removal or by
//! leaving; entries beyond the cut are void. A forked log ends before the fork, and each branch is a log of its own, whose
//! first entry builds on the end of another ([`crate::log::forks`]). [`Heads::fit`] decides whether an entry can be applied now, waits for a
//! dependency, or is rejected. *Tips* are the logs whose newest entry no other entry depends on yet: the next own entry
//! depends on them. The clock is the greatest order time of all applied entries.
//!
//! Invariant: a head moves by exactly one entry, and only to an entry whose backlink is the head before it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chat_proto::id::{EntryHash, PeerId};

use crate::config::{ENTRY_DEPS_MAX, ORDER_STEP_MAX, PAST_CUT_MAX, REFUSED_LOGS_MAX, VOID_LOGS_MAX};
use crate::log::entry::{Dep, Entry, Head, Hlc, LogId, ORDER_LABEL_MAX, Seq};

/// Newest entry of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogHead {
    pub(crate) seq: Seq,
    pub(crate) hash: EntryHash,
    /// Its date.
    pub(crate) label: Hlc,
    /// Its order time.
    pub(crate) order: Hlc,
}

/// How an entry relates to what is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Everything it builds on is held: it can be applied.
    Ready,
    /// Already held, or another entry with its sequence number is.
    Old,
    /// Too far past the cut of its log: refused.
    Cut,
    /// Its order time is far beyond all that are held: not taken, and looked at again when a peer sends it again.
    Ahead,
    /// It builds on another entry than the one held before it: the log may be forked.
    Mismatch,
    /// Waits for this entry, and perhaps for more.
    Missing(Dep),
}

/// The logs as applied in memory, and how far they are on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heads {
    applied: BTreeMap<LogId, LogHead>,
    durable: BTreeMap<LogId, LogHead>,
    cuts: BTreeMap<LogId, Seq>,
    /// Logs whose cuts may follow from damaged control entries: own entries depend on what was shown of them.
    doubted: BTreeSet<LogId>,
    /// Logs whose authors were no members when they began.
    refused: BTreeSet<LogId>,
    /// The last sequence numbers before the first forks, of logs that are forked.
    ends: BTreeMap<LogId, Seq>,
    /// Entries with which logs and branches end, because they were continued twice.
    forked_after: BTreeSet<EntryHash>,
    /// For each branch that is held, the log that its entries name.
    branches: BTreeMap<LogId, LogId>,
    /// Logs that are void from some entry on, of which no peer has more.
    forgone: BTreeSet<LogId>,
    /// Peers whose removal may turn out to be void because of what they wrote.
    admins: BTreeSet<PeerId>,
    tips: BTreeSet<LogId>,
    clock: Hlc,
}

impl Heads {
    /// Takes over what the store held of a log whose entries name the log `signed`.
    pub(crate) fn restore(&mut self, log: LogId, signed: LogId, head: LogHead) {
        if signed != log {
            self.branches.insert(log, signed);
        }
        self.applied.insert(log, head);
        self.durable.insert(log, head);
        self.tips.insert(log);
        self.clock = self.clock.max(head.order);
    }

    /// Forgets which logs are held, to take over anew what the store holds.
    pub(crate) fn forget(&mut self) {
        let (cuts, clock) = (std::mem::take(&mut self.cuts), self.clock);
        *self = Self { cuts, clock, ..Self::default() };
    }

    /// The newest order time seen.
    pub(crate) fn clock(&self) -> Hlc {
        self.clock
    }

    /// The newest date of a head that is not beyond `limit`.
    pub(crate) fn newest_label(&self, limit: Hlc) -> Hlc {
        self.applied.values().map(|head| head.label).filter(|label| *label <= limit).max().unwrap_or_default()
    }

    /// Newest applied sequence number of a log; zero where nothing is held.
    pub(crate) fn seq(&self, log: &LogId) -> Seq {
        self.applied.get(log).map_or(Seq::ZERO, |head| head.seq)
    }

    /// Newest applied entry of a log.
    pub(crate) fn head(&self, log: &LogId) -> Option<&LogHead> {
        self.applied.get(log)
    }

    /// Newest entry of a log on disk.
    pub(crate) fn durable(&self, log: &LogId) -> Option<&LogHead> {
        self.durable.get(log)
    }

    /// Newest sequence number of a log on disk.
    pub(crate) fn durable_seq(&self, log: &LogId) -> Seq {
        self.durable.get(log).map_or(Seq::ZERO, |head| head.seq)
    }

    /// The last valid sequence number, where the log is cut.
    pub(crate) fn cut(&self, log: &LogId) -> Option<Seq> {
        self.cuts.get(log).copied()
    }

    /// Sets the logs whose cuts may be due to damage.
    pub(crate) fn set_doubted(&mut self, logs: BTreeSet<LogId>) {
        self.doubted = logs;
    }

    /// Sets where logs are forked: before which sequence numbers, and after which entries.
    pub(crate) fn set_forks(&mut self, ends: BTreeMap<LogId, Seq>, forked_after: BTreeSet<EntryHash>) {
        self.ends = ends;
        self.forked_after = forked_after;
    }

    /// The last sequence number before the fork, where a log is forked.
    pub(crate) fn end(&self, log: &LogId) -> Option<Seq> {
        self.ends.get(log).copied()
    }

    /// The log that the entries of a log name: the log itself, but for branches.
    pub(crate) fn signed(&self, log: &LogId) -> LogId {
        self.branches.get(log).copied().unwrap_or(*log)
    }

    /// Where acts of admins end: branches have none that are valid, whichever of them a peer holds.
    pub(crate) fn act_ends(&self) -> BTreeMap<LogId, Seq> {
        let branches = self.branches.keys().map(|log| (*log, Seq::ZERO));
        self.ends.iter().map(|(log, end)| (*log, *end)).chain(branches).collect()
    }

    /// The log of an author whose newest entry is this one.
    pub(crate) fn ending_with(&self, author: PeerId, hash: &EntryHash) -> Option<LogId> {
        find_head(&self.applied, author, hash).map(|(log, _)| *log)
    }

    /// The log on which a branch builds that begins with this entry.
    pub(crate) fn parent(&self, entry: &Entry) -> Option<LogId> {
        let backlink = entry.header().backlink.filter(|_| entry.begins())?;
        self.ending_with(entry.author(), &backlink)
    }

    /// The last sequence number of a log that is accepted. Some entries beyond a cut are accepted although they are
    /// void: among them may be a removal of the peer that made the cut, and which removal is valid follows from both.
    /// Of a void log the first entry is accepted: it shows peers why entries that depend on the log wait in vain.
    pub(crate) fn limit(&self, log: &LogId) -> Seq {
        self.limit_by_cut(log).min(self.limit_by_fork(log))
    }

    /// The last sequence number that is filed in a log: the held one, where that was continued twice.
    fn limit_by_fork(&self, log: &LogId) -> Seq {
        match self.applied.get(log) {
            Some(head) if self.forked_after.contains(&head.hash) => head.seq,
            None if self.end(log) == Some(Seq::ZERO) => Seq::ZERO,
            _ => Seq::MAX,
        }
    }

    fn limit_by_cut(&self, log: &LogId) -> Seq {
        match self.cut(log) {
            None => Seq::MAX,
            Some(cut) if self.refused.contains(log) => cut,
            Some(Seq::ZERO) if !self.admins.contains(&log.author) => Seq(1),
            Some(cut) => Seq(cut.0.saturating_add(PAST_CUT_MAX)),
        }
    }

    /// The same where a valid entry depends on the log. More of a void log is accepted then: the entry's other
    /// dependencies may be known through it alone.
    pub(crate) fn limit_if_built_on(&self, log: &LogId) -> Seq {
        let limit = self.limit(log);
        let void = self.refused.contains(log) || self.forgone.contains(log);
        if void {
            self.cut(log).filter(|cut| *cut > Seq::ZERO).map_or(limit, |cut| limit.min(cut))
        } else {
            limit.max(Seq(PAST_CUT_MAX)).min(self.limit_by_fork(log))
        }
    }

    /// Marks that no peer has more of a log that is void, or void from here on: entries that depend on it are applied without
    /// that. Returns whether it is new.
    pub(crate) fn forgo(&mut self, log: LogId) -> bool {
        self.cut(&log).is_some_and(|cut| self.seq(&log) >= cut) && self.forgone.insert(log)
    }

    /// The last sequence number of a log that is served to others.
    pub(crate) fn served(&self, log: &LogId) -> Seq {
        let held = self.durable_seq(log);
        if self.refused.contains(log) { held.min(self.limit(log)) } else { held }
    }

    /// Replaces the cuts; returns what changed, with [`Seq::MAX`] where there is none now.
    pub(crate) fn set_cuts(&mut self, mut cuts: BTreeMap<LogId, Seq>, admins: BTreeSet<PeerId>) -> Vec<(LogId, Seq)> {
        cuts.extend(self.refused.iter().map(|log| (*log, Seq::ZERO)));
        let changed = self.moved_cuts(&cuts);
        if !changed.is_empty() {
            // Dependencies of entries beyond a cut are no longer referenced by any valid entry.
            self.tips = self.applied.keys().copied().collect();
        }
        self.forgone.retain(|log| cuts.get(log) == self.cuts.get(log));
        self.cuts = cuts;
        self.admins = admins;
        changed
    }

    /// The logs that end elsewhere by these cuts than now, with the largest sequence number where they end no more.
    pub(crate) fn moved_cuts(&self, cuts: &BTreeMap<LogId, Seq>) -> Vec<(LogId, Seq)> {
        let moved = cuts.iter().filter(|(log, seq)| self.cuts.get(log) != Some(seq)).map(|(log, seq)| (*log, *seq));
        let lifted = self.cuts.keys().filter(|log| !cuts.contains_key(log) && !self.refused.contains(log));
        moved.chain(lifted.map(|log| (*log, Seq::MAX))).collect()
    }

    /// Whether there is room for the first entry of one more void log.
    pub(crate) fn has_room_for_void(&self) -> bool {
        self.cuts.iter().filter(|(log, cut)| **cut == Seq::ZERO && self.applied.contains_key(log)).count()
            < VOID_LOGS_MAX
    }

    /// Voids a log, because its author was not a member when it began.
    pub(crate) fn void(&mut self, log: LogId) {
        self.cuts.insert(log, Seq::ZERO);
    }

    /// The same without keeping its first entry: nothing waits for the log any more.
    pub(crate) fn refuse(&mut self, log: LogId) {
        if self.refused.len() >= REFUSED_LOGS_MAX
            && let Some(oldest) = self.refused.pop_first()
        {
            self.cuts.remove(&oldest);
        }
        self.refused.insert(log);
        self.cuts.insert(log, Seq::ZERO);
    }

    /// The membership changed: what was refused may be valid now.
    pub(crate) fn reconsider_refused(&mut self) {
        for log in std::mem::take(&mut self.refused) {
            self.cuts.remove(&log);
        }
    }

    /// Whether an entry is valid.
    pub(crate) fn counts(&self, log: &LogId, seq: Seq) -> bool {
        self.cut(log).is_none_or(|cut| seq <= cut)
    }

    /// Whether nothing at all is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.applied.is_empty()
    }

    /// The logs that are held.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &LogId> {
        self.applied.keys()
    }

    /// How an entry relates to what is held; `taken` is the last sequence number of its log that is accepted.
    pub(crate) fn fit(&self, entry: &Entry, taken: Seq) -> Fit {
        let header = entry.header();
        let log = entry.log();
        let before = head_before(&self.applied, entry);
        let held = before.map_or(Seq::ZERO, |head| head.seq);
        if header.seq > taken {
            return Fit::Cut;
        }
        if header.seq <= held {
            return Fit::Old;
        }
        if header.seq > held.next() {
            return Fit::Missing(Dep { log, seq: Seq(header.seq.0 - 1) });
        }
        if before.is_some_and(|head| header.backlink != Some(head.hash)) {
            return Fit::Mismatch;
        }
        // One that is taken only because others build on it carries their causes.
        let carries = self.counts(&log, header.seq) || header.seq > self.limit(&log);
        let limit = |log: &LogId| if carries { self.limit_if_built_on(log) } else { self.limit(log) };
        // What is held or is never taken is not waited for. One behind a cut that is taken is, though it does not count: it
        // may be the only one that builds on others that do.
        // What lies beyond a fork may be in any branch: only what is before it is waited for.
        let needed = |dep: &Dep| Dep { seq: dep.seq.min(self.end(&dep.log).unwrap_or(Seq::MAX)), ..*dep };
        let waited_for = |dep: &&Dep| {
            let needed = needed(dep);
            self.seq(&needed.log) < needed.seq && needed.seq <= limit(&needed.log)
        };
        match header.deps.iter().find(waited_for) {
            Some(dep) => Fit::Missing(needed(dep)),
            None if header.order_after(before.map(|head| head.order)) > self.order_end() => Fit::Ahead,
            None => Fit::Ready,
        }
    }

    /// The last order time that is taken now: one entry uses up few of them, so that none follows the last one. An honest
    /// author's is one more than those of what it builds on, or its label.
    fn order_end(&self) -> Hlc {
        Hlc(self.clock.max(ORDER_LABEL_MAX).0.saturating_add(ORDER_STEP_MAX))
    }

    /// Applies an entry that is [`Fit::Ready`]; returns its order time.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Hlc {
        let (log, header) = (entry.log(), entry.header());
        if self.counts(&log, header.seq) {
            for dep in &header.deps {
                self.followed(dep);
            }
        }
        if log != header.log {
            self.branches.insert(log, header.log);
        }
        self.tips.insert(log);
        let head = next_head(head_before(&self.applied, entry), entry);
        self.clock = self.clock.max(head.order);
        self.applied.insert(log, head);
        head.order
    }

    /// An entry depends on another: the next own entry need not name it again. Beyond a fork the name means any branch.
    fn followed(&mut self, dep: &Dep) {
        if self.seq(&dep.log) <= dep.seq {
            self.tips.remove(&dep.log);
        }
        let branches = self.branches.iter().filter(|(log, signed)| **signed == dep.log && self.seq(log) <= dep.seq);
        for log in branches.map(|(log, _)| *log).collect::<Vec<_>>() {
            self.tips.remove(&log);
        }
    }

    /// An applied entry is on disk.
    pub(crate) fn persisted(&mut self, entry: &Entry) {
        let head = next_head(head_before(&self.durable, entry), entry);
        self.durable.insert(entry.log(), head);
    }

    /// Dependencies of an entry of `me` written now: the newest entries that no entry depends on yet, those of
    /// the logs `first` before all others, at most [`ENTRY_DEPS_MAX`] with the order time; the rest goes into the next
    /// entry. Entries of branches are named as their headers name them: peers that do not know of the fork understand
    /// that. Tips of authors that are `left_out` are named later.
    pub(crate) fn deps(&self, me: &LogId, first: &BTreeSet<LogId>, left_out: impl Fn(&PeerId) -> bool) -> Vec<Dep> {
        let dep = |log: &LogId| {
            let cut = self.cut(log).filter(|_| !self.doubted.contains(log));
            let seq = self.applied.get(log)?.seq.min(cut.unwrap_or(Seq::MAX));
            (seq > Seq::ZERO).then_some(Dep { log: self.signed(log), seq })
        };
        let named = |log: &&LogId| *log != me && !first.contains(log) && !left_out(&log.author);
        let tips = self.fair_tips().into_iter().filter(named);
        let mut deps: Vec<Dep> = Vec::new();
        for dep in first.iter().filter(|log| *log != me).chain(tips).filter_map(dep) {
            let forked = self.end(&dep.log).is_some();
            if let Some(same) = deps.iter_mut().find(|other| forked && other.log == dep.log) {
                same.seq = same.seq.max(dep.seq);
            } else if deps.len() < ENTRY_DEPS_MAX - 1 {
                deps.push(dep);
            }
        }
        deps
    }

    /// The tips: the newest of every author first, so that no author's many logs leave out what others wrote.
    fn fair_tips(&self) -> Vec<&LogId> {
        let order = |log: &LogId| self.applied.get(log).map(|head| head.order);
        let mut tips: Vec<&LogId> = self.tips.iter().collect();
        tips.sort_by_key(|log| (log.author, Reverse(order(log))));
        let mut author = None;
        let mut rank = 0;
        let mut ranked: Vec<(usize, &LogId)> = Vec::new();
        for log in tips {
            rank = if author == Some(log.author) { rank + 1 } else { 0 };
            author = Some(log.author);
            ranked.push((rank, log));
        }
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, log)| log).collect()
    }

    /// Whether a log is void from its first entry on, and no more of it is accepted.
    pub(crate) fn is_void(&self, log: &LogId) -> bool {
        self.cut(log) == Some(Seq::ZERO) && self.limit(log) <= Seq(1)
    }

    /// The version vector: the heads on disk of logs that are not void.
    pub(crate) fn vector(&self) -> Vec<Head> {
        let held = self.durable.iter().filter(|(log, _)| !self.is_void(log));
        held.map(|(log, head)| Head { log: *log, seq: head.seq, hash: head.hash }).collect()
    }
}

fn find_head<'a>(
    heads: &'a BTreeMap<LogId, LogHead>,
    author: PeerId,
    hash: &EntryHash,
) -> Option<(&'a LogId, &'a LogHead)> {
    heads.range(LogId::range_of(author)).find(|(_, head)| head.hash == *hash)
}

/// The entry after which this one comes: the newest of its log, or of the log on which its branch builds.
fn head_before<'a>(heads: &'a BTreeMap<LogId, LogHead>, entry: &Entry) -> Option<&'a LogHead> {
    let parent = || find_head(heads, entry.author(), entry.header().backlink.as_ref()?).map(|(_, head)| head);
    heads.get(&entry.log()).or_else(|| if entry.begins() { parent() } else { None })
}

fn next_head(before: Option<&LogHead>, entry: &Entry) -> LogHead {
    let order = entry.header().order_after(before.map(|head| head.order));
    LogHead { seq: entry.seq(), hash: entry.hash(), label: entry.header().time, order }
}
