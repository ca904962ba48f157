//! Gaps: control entries on this peer's disk that are damaged, until good copies have come from members.
//!
//! A peer that starts without some of its control entries may know none of its members, and would believe that their messages
//! are void. Therefore the peers that it saw as members before may connect, and no message is hidden or shown again on account
//! of what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::{PeerId, RoomId};

use crate::log::entry::{Dep, Entry, Hlc, LogId, Seq};
use crate::membership::control_log::{ControlLog, StoredStart};
use crate::membership::roster::Roster;

/// Time after a start for which entries of others are not taken while a control entry is damaged: what counts as an act of an
/// admin is decided when it is taken, and may depend on what is missing.
const HOLD_OFF: Duration = Duration::from_secs(30);

/// A stored control entry, none while it is damaged, with its place, if that can be read, and its order time.
type Stored = (Option<Dep>, Option<Arc<Entry>>, Hlc);

/// What a start found, as long as some of it is damaged, and what is put off on account of that.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// The control entries on disk, in the order in which they were stored.
    stored: Vec<Stored>,
    /// How every log on disk began.
    logs: BTreeMap<LogId, StoredStart>,
    /// Entries that were applied since the start, with the logs on which branches build that begin with them.
    later: Vec<(Arc<Entry>, Hlc, Option<LogId>)>,
    /// The peers that were seen as members before.
    seen: BTreeSet<PeerId>,
    /// Cuts that followed from the entries that are whole, not written so far.
    cuts: BTreeMap<LogId, Seq>,
    /// Whether the cuts of the start have been put off.
    withheld: bool,
    /// Until when entries of others are not taken.
    hold_until: Duration,
}

impl Gaps {
    pub(crate) fn new(
        stored: Vec<Stored>,
        logs: BTreeMap<LogId, StoredStart>,
        seen: impl Iterator<Item = PeerId>,
        now: Duration,
    ) -> Self {
        Self { stored, logs, seen: seen.collect(), hold_until: now + HOLD_OFF, ..Self::default() }
    }

    pub(crate) fn are_open(&self) -> bool {
        self.stored.iter().any(|(_, entry, _)| entry.is_none())
    }

    /// Whether entries of others are not taken for now.
    pub(crate) fn hold_off(&self, now: Duration) -> bool {
        self.are_open() && now < self.hold_until
    }

    /// An entry was applied.
    pub(crate) fn applied(&mut self, entry: &Arc<Entry>, order: Hlc, parent: Option<LogId>) {
        if self.are_open() && (entry.seq() == Seq(1) || parent.is_some() || entry.control().is_some()) {
            self.later.push((entry.clone(), order, parent));
        }
    }

    /// A good copy of an entry arrived; returns whether it was missing.
    pub(crate) fn repaired(&mut self, entry: &Arc<Entry>) -> bool {
        let place = Dep { log: entry.log(), seq: entry.seq() };
        let missing = |(at, entry, _): &&mut Stored| entry.is_none() && at.is_none_or(|at| at == place);
        let Some(slot) = self.stored.iter_mut().find(missing) else { return false };
        slot.1 = Some(entry.clone());
        true
    }

    /// The control log that follows from the entries that are whole: all of it is worked out anew, as positions depend on
    /// what comes before.
    pub(crate) fn control_log(&self, room: &RoomId) -> ControlLog {
        let mut controls = ControlLog::default();
        let whole = |(_, entry, order): &Stored| Some((entry.clone()?, *order));
        controls.restore(self.stored.iter().filter_map(whole), &self.logs, room);
        for (entry, order, parent) in &self.later {
            controls.begin_with(entry, *order, *parent);
            controls.add(entry, *order, room);
        }
        controls
    }

    /// Forgets what was kept to work out the control log again, when nothing is missing any more.
    pub(crate) fn close_if_whole(&mut self) {
        if !self.are_open() {
            *self = Self { cuts: std::mem::take(&mut self.cuts), ..Self::default() };
        }
    }

    /// A derived roster with the peers that may be members: those of which others say so, and while entries are damaged,
    /// those that were seen as members before.
    pub(crate) fn mark(&self, derived: &Arc<Roster>, vouched: impl Iterator<Item = PeerId>) -> Arc<Roster> {
        let seen = self.seen.iter().copied().filter(|_| self.are_open());
        let unsure: BTreeSet<PeerId> = vouched.chain(seen).filter(|peer| !derived.people.contains_key(peer)).collect();
        let mut roster = derived.clone();
        if !unsure.is_empty() {
            Arc::make_mut(&mut roster).unsure = unsure;
        }
        roster
    }

    /// The logs whose cuts are not written so far, as they may follow from what is missing.
    pub(crate) fn withheld(&self) -> BTreeSet<LogId> {
        self.cuts.keys().copied().collect()
    }

    /// Returns which of the cuts that moved are to be written: those of the start only when no entry is missing any more.
    pub(crate) fn withhold(&mut self, moved: Vec<(LogId, Seq)>) -> BTreeMap<LogId, Seq> {
        let moved: BTreeMap<LogId, Seq> = moved.into_iter().collect();
        if !self.are_open() {
            let mut all = std::mem::take(&mut self.cuts);
            all.extend(moved);
            return all;
        }
        if !std::mem::replace(&mut self.withheld, true) {
            self.cuts = moved;
            return BTreeMap::new();
        }
        self.cuts.retain(|log, _| !moved.contains_key(log));
        moved
    }
}
