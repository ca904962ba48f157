//! Heads: how far each log is applied and on disk, where logs are cut, and what fits next.
//!
//! Two heads per log: *applied* (in memory, in causal order) and *durable* (on disk). A log may be cut: by a fork, a removal
//! or leaving; entries beyond the cut are void. [`Heads::fit`] decides whether an entry can be applied now, waits for a
//! dependency, or is rejected. *Tips* are the logs whose newest entry no other entry depends on yet: the next own entry
//! depends on them. The clock is the greatest order time of all applied entries.
//!
//! Invariant: a head moves by exactly one entry, and only to an entry whose backlink is the head before it.

use std::collections::{BTreeMap, BTreeSet};

use chat_proto::id::{EntryHash, PeerId};

use crate::config::{ENTRY_DEPS_MAX, PAST_CUT_MAX, REFUSED_LOGS_MAX, VOID_LOGS_MAX};
use crate::log::entry::{Dep, Entry, Head, Hlc, LogId, Seq};

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
    /// Logs whose authors were no members when they began.
    refused: BTreeSet<LogId>,
    frozen: BTreeSet<LogId>,
    /// Void logs of which no peer has more.
    forgone: BTreeSet<LogId>,
    /// Peers whose removal may turn out to be void because of what they wrote.
    admins: BTreeSet<PeerId>,
    tips: BTreeSet<LogId>,
    clock: Hlc,
}

impl Heads {
    /// Takes over what the store held.
    pub(crate) fn restore(&mut self, log: LogId, head: LogHead) {
        self.applied.insert(log, head);
        self.durable.insert(log, head);
        self.tips.insert(log);
        self.clock = self.clock.max(head.order);
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

    /// The last sequence number of a log that is accepted. Some entries beyond a cut are accepted although they are
    /// void: among them may be a removal of the peer that made the cut, and which removal is valid follows from both.
    /// Of a void log the first entry is accepted: it shows peers why entries that depend on the log wait in vain. Of a
    /// forked log there is more than one continuation, so none is accepted.
    pub(crate) fn limit(&self, log: &LogId) -> Seq {
        match self.cut(log) {
            None => Seq::MAX,
            Some(cut) if self.frozen.contains(log) || self.refused.contains(log) => cut,
            Some(Seq::ZERO) if !self.admins.contains(&log.author) => Seq(1),
            Some(cut) => Seq(cut.0.saturating_add(PAST_CUT_MAX)),
        }
    }

    /// The same where a valid entry depends on the log. More of a void log is accepted then: the entry's other
    /// dependencies may be known through it alone.
    pub(crate) fn limit_if_built_on(&self, log: &LogId) -> Seq {
        let limit = self.limit(log);
        let ends = self.frozen.contains(log) || self.refused.contains(log) || self.forgone.contains(log);
        if ends { limit } else { limit.max(Seq(PAST_CUT_MAX)) }
    }

    /// Marks that no peer has more of a void log: entries that depend on it are applied without it. Returns whether
    /// that is new.
    pub(crate) fn forgo(&mut self, log: LogId) -> bool {
        self.cut(&log) == Some(Seq::ZERO) && self.forgone.insert(log)
    }

    /// The last sequence number of a log that is served to others: what was not accepted of a forked log is of no use
    /// to them.
    pub(crate) fn served(&self, log: &LogId) -> Seq {
        let ends = self.frozen.contains(log) || self.refused.contains(log);
        if ends { self.durable_seq(log).min(self.limit(log)) } else { self.durable_seq(log) }
    }

    /// Replaces the cuts, those in `frozen` by forks; returns what changed, with [`Seq::MAX`] where there is none now.
    pub(crate) fn set_cuts(
        &mut self,
        mut cuts: BTreeMap<LogId, Seq>,
        frozen: BTreeSet<LogId>,
        admins: BTreeSet<PeerId>,
    ) -> Vec<(LogId, Seq)> {
        cuts.extend(self.refused.iter().map(|log| (*log, Seq::ZERO)));
        let moved = cuts.iter().filter(|(log, seq)| self.cuts.get(log) != Some(seq)).map(|(log, seq)| (*log, *seq));
        let lifted = self.cuts.keys().filter(|log| !cuts.contains_key(log)).map(|log| (*log, Seq::MAX));
        let changed: Vec<(LogId, Seq)> = moved.chain(lifted).collect();
        if !changed.is_empty() {
            // Dependencies of entries beyond a cut are no longer referenced by any valid entry.
            self.tips = self.applied.keys().copied().collect();
        }
        self.forgone.retain(|log| cuts.get(log) == Some(&Seq::ZERO));
        self.cuts = cuts;
        self.frozen = frozen;
        self.admins = admins;
        changed
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
        let log = header.log;
        let held = self.seq(&log);
        if header.seq > taken {
            return Fit::Cut;
        }
        if header.seq <= held {
            return Fit::Old;
        }
        if header.seq > held.next() {
            return Fit::Missing(Dep { log, seq: Seq(header.seq.0 - 1) });
        }
        if self.applied.get(&log).is_some_and(|head| header.backlink != Some(head.hash)) {
            return Fit::Mismatch;
        }
        // One that is taken only because others build on it carries their causes.
        let carries = self.counts(&log, header.seq) || header.seq > self.limit(&log);
        let limit = |log: &LogId| if carries { self.limit_if_built_on(log) } else { self.limit(log) };
        // What is held or is never taken is not waited for. One behind a cut that is taken is, though it does not count: it
        // may be the only one that builds on others that do.
        let waited_for = |dep: &&Dep| self.seq(&dep.log) < dep.seq && dep.seq <= limit(&dep.log);
        header.deps.iter().find(waited_for).map_or(Fit::Ready, |dep| Fit::Missing(*dep))
    }

    /// Applies an entry that is [`Fit::Ready`]; returns its order time.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Hlc {
        let header = entry.header();
        if self.counts(&header.log, header.seq) {
            for dep in &header.deps {
                if self.seq(&dep.log) <= dep.seq {
                    self.tips.remove(&dep.log);
                }
            }
        }
        self.tips.insert(header.log);
        let head = next_head(self.applied.get(&header.log), entry);
        self.clock = self.clock.max(head.order);
        self.applied.insert(header.log, head);
        head.order
    }

    /// An applied entry is on disk.
    pub(crate) fn persisted(&mut self, entry: &Entry) {
        let log = entry.log();
        let head = next_head(self.durable.get(&log), entry);
        self.durable.insert(log, head);
    }

    /// Dependencies of an entry of `me` written now: the newest entries that no entry depends on yet, those of
    /// the logs `first` before all others, at most [`ENTRY_DEPS_MAX`] with the order time; the rest goes into the next
    /// entry.
    pub(crate) fn deps(&self, me: &LogId, first: &BTreeSet<LogId>) -> Vec<Dep> {
        let dep = |log: &LogId| {
            let seq = self.applied.get(log)?.seq.min(self.cut(log).unwrap_or(Seq::MAX));
            (seq > Seq::ZERO).then_some(Dep { log: *log, seq })
        };
        let tips = self.tips.iter().filter(|log| *log != me && !first.contains(log));
        first.iter().filter(|log| *log != me).chain(tips).filter_map(dep).take(ENTRY_DEPS_MAX - 1).collect()
    }

    /// The version vector: the heads on disk of logs that are not void.
    pub(crate) fn vector(&self) -> Vec<Head> {
        let counts = |log: &LogId| self.cut(log) != Some(Seq::ZERO) || self.limit(log) > Seq(1);
        let held = self.durable.iter().filter(|(log, _)| counts(log));
        held.map(|(log, head)| Head { log: *log, seq: head.seq, hash: head.hash }).collect()
    }
}

fn next_head(before: Option<&LogHead>, entry: &Entry) -> LogHead {
    let order = entry.header().order_after(before.map(|head| head.order));
    LogHead { seq: entry.seq(), hash: entry.hash(), label: entry.header().time, order }
}
