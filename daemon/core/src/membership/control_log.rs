//! The control entries of the room in the order that all peers agree on, and where each log began.
//!
//! The order is causal: an entry comes after everything that it names, whatever its date. Where neither of two follows the
//! other, order time and then the log decide; no rule lets a right depend on that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chat_proto::id::{EntryHash, PeerId, RoomId};

use crate::admission::codec::ticket_holds;
use crate::log::entry::{AdmitBy, Control, Dep, Entry, Hlc, LogId, Seq};
use crate::membership::roster::Sealing;

/// Position of an entry in the shared order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The order time, moved behind that of every control entry that this one names.
    pub(crate) order: Hlc,
    pub(crate) log: LogId,
    pub(crate) seq: Seq,
}

impl Position {
    /// The entry there.
    pub(crate) fn place(&self) -> Dep {
        Dep { log: self.log, seq: self.seq }
    }
}

/// A control entry.
#[derive(Clone, Debug)]
pub(crate) struct ControlItem {
    pub(crate) author: PeerId,
    pub(crate) hash: EntryHash,
    pub(crate) control: Control,
    /// How direct messages are sealed with the keys that it publishes.
    pub(crate) sealing: Sealing,
    /// Its date, for people to read.
    pub(crate) label: Hlc,
    /// The newest control entries that it names, directly or by the entry before it.
    causes: Vec<Position>,
}

impl ControlItem {
    /// Whether it names another control entry, or a later one of the same log.
    pub(crate) fn names(&self, other: &Position) -> bool {
        self.causes.iter().any(|cause| cause.log == other.log && cause.seq >= other.seq)
    }
}

/// How a log began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogStart {
    /// The order time of its first entry.
    first: Hlc,
    /// The same, moved behind the admissions that it names.
    pub(crate) order: Hlc,
    /// What the first entry depends on.
    roots: Vec<Dep>,
    /// The log on which a branch builds.
    parent: Option<LogId>,
    /// The admissions of its author that the first entry names, directly or by a former log of its author.
    pub(crate) admissions: BTreeSet<Dep>,
}

/// All control entries that are held. None is dropped because another makes it obsolete: a cut or the proof of a fork
/// may take the newer one away again, and then all peers must go back to the same older one.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControlLog {
    in_order: BTreeMap<Position, ControlItem>,
    places: BTreeMap<LogId, BTreeMap<Seq, Position>>,
    admissions: BTreeMap<PeerId, BTreeSet<Dep>>,
    starts: BTreeMap<LogId, Arc<LogStart>>,
    /// For each branch of a forked log, the log that its entries name.
    branches: BTreeMap<LogId, LogId>,
    /// Whether an admission came in a branch since this was asked last.
    admitted_in_branch: bool,
}

/// How a log that the store held began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredStart {
    /// The order time of its first entry.
    pub(crate) first: Hlc,
    /// What that entry depends on.
    pub(crate) roots: Vec<Dep>,
    /// The log that its entries name.
    pub(crate) signed: LogId,
    /// The log on which a branch builds.
    pub(crate) parent: Option<LogId>,
}

impl ControlLog {
    /// How a log would begin with this order time and these dependencies, or as a branch that builds on another log.
    pub(crate) fn start(&self, log: &LogId, first: Hlc, roots: &[Dep], parent: Option<LogId>) -> LogStart {
        let mut start = LogStart { first, order: first, roots: roots.to_vec(), parent, admissions: BTreeSet::new() };
        start.admissions = self.admissions_of(log, &start);
        let before = parent.and_then(|parent| self.starts.get(&parent)).map(|parent| parent.order);
        let newest = self.certain(&start.admissions).map(|at| at.order.next()).max();
        start.order = [before, newest].into_iter().flatten().fold(first, Hlc::max);
        start
    }

    /// The admissions from which a log follows. An entry that names a place beyond a fork may mean any branch there, so the
    /// admissions of all branches count, whenever they arrive.
    fn admissions_of(&self, log: &LogId, start: &LogStart) -> BTreeSet<Dep> {
        if let Some(parent) = start.parent {
            return self.starts.get(&parent).map(|parent| parent.admissions.clone()).unwrap_or_default();
        }
        let names = |dep: &Dep, log: &LogId| dep.log == *log || self.branches.get(log) == Some(&dep.log);
        let covered =
            |admission: &&Dep| start.roots.iter().any(|dep| names(dep, &admission.log) && dep.seq >= admission.seq);
        let direct = self.admissions.get(&log.author).into_iter().flatten().filter(covered).copied();
        let former = start.roots.iter().filter(|dep| dep.log.author == log.author && dep.log != *log);
        let former = former.filter_map(|dep| self.starts.get(&dep.log)).filter(|former| former.first < start.first);
        direct.chain(former.flat_map(|former| former.admissions.iter().copied())).collect()
    }

    /// Where those of a log's admissions stand that it names without doubt. The others may arrive later than what follows
    /// from them: the shared order must not depend on them.
    fn certain<'a>(&'a self, admissions: &'a BTreeSet<Dep>) -> impl Iterator<Item = &'a Position> {
        admissions
            .iter()
            .filter(|place| !self.branches.contains_key(&place.log))
            .filter_map(|place| self.position(place))
    }

    /// An admission of this author arrived in a branch: logs that began before may follow from it, and so may some that wait.
    fn start_anew(&mut self, author: &PeerId) {
        let mut logs: Vec<(Hlc, LogId)> = self.logs_of(author).map(|(log, start)| (start.first, *log)).collect();
        logs.sort_unstable();
        for (_, log) in logs {
            let Some(start) = self.starts.get(&log) else { continue };
            let mut anew = start.as_ref().clone();
            anew.admissions.extend(self.admissions_of(&log, start));
            self.starts.insert(log, Arc::new(anew));
        }
        self.admitted_in_branch = true;
    }

    /// Whether an admission came in a branch since this was asked last: logs may follow from it that did not before.
    pub(crate) fn take_admitted_in_branch(&mut self) -> bool {
        std::mem::take(&mut self.admitted_in_branch)
    }

    /// An entry was applied: if it is the first one of a log, the log begins; returns whether it does. A branch begins with
    /// an entry that builds on another log, its parent.
    pub(crate) fn begin_with(&mut self, entry: &Entry, order: Hlc, parent: Option<LogId>) -> bool {
        let begins = (entry.seq() == Seq(1) || parent.is_some()) && !entry.is_genesis();
        if begins {
            let start = self.start(&entry.log(), order, &entry.header().deps, parent);
            self.begin(entry.log(), entry.header().log, start);
        }
        begins
    }

    /// A log begins whose entries name the log `signed`.
    fn begin(&mut self, log: LogId, signed: LogId, start: LogStart) {
        if signed != log {
            self.branches.insert(log, signed);
        }
        self.starts.entry(log).or_insert_with(|| Arc::new(start));
    }

    /// How a log began.
    pub(crate) fn started(&self, log: &LogId) -> Option<&Arc<LogStart>> {
        self.starts.get(log)
    }

    /// The logs of an author, as they began.
    pub(crate) fn logs_of(&self, author: &PeerId) -> impl Iterator<Item = (&LogId, &LogStart)> {
        let first = LogId { author: *author, incarnation: crate::log::entry::Incarnation(0) };
        let last = LogId { author: *author, incarnation: crate::log::entry::Incarnation(u64::MAX) };
        self.starts.range(first..=last).map(|(log, start)| (log, start.as_ref()))
    }

    /// Every log, as it began.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (&LogId, &LogStart)> {
        self.starts.iter().map(|(log, start)| (log, start.as_ref()))
    }

    /// Where the entry at a place in its log stands in the shared order.
    pub(crate) fn position(&self, place: &Dep) -> Option<&Position> {
        self.places.get(&place.log)?.get(&place.seq)
    }

    /// The newest control entry of a log up to a place.
    fn newest(&self, place: &Dep) -> Option<&Position> {
        self.places.get(&place.log)?.range(..=place.seq).next_back().map(|(_, position)| position)
    }

    /// Whether a log has control entries.
    pub(crate) fn has_items(&self, log: &LogId) -> bool {
        self.places.contains_key(log)
    }

    /// Adds a control entry with its order time; gives its position, unless it is void in itself.
    pub(crate) fn add(&mut self, entry: &Entry, order: Hlc, room: &RoomId) -> Option<Position> {
        let control = entry.control()?;
        if let Control::Admit { peer, name, by: AdmitBy::Invite { key, signature } } = control
            && !ticket_holds(key, room, peer, name, *signature)
        {
            return None;
        }
        let (log, seq) = (entry.log(), entry.seq());
        let before = Dep { log, seq: Seq(seq.0.saturating_sub(1)) };
        let named = entry.header().deps.iter().chain([&before]).filter_map(|dep| self.newest(dep));
        let admissions = self.starts.get(&log).map(|start| start.admissions.clone()).unwrap_or_default();
        let causes: BTreeSet<Position> = named.chain(self.certain(&admissions)).copied().collect();
        let order = causes.iter().map(|cause| cause.order.next()).fold(order, Hlc::max);
        let position = Position { order, log, seq };
        let mut admitted = None;
        match control {
            Control::Genesis { .. } => {
                self.admissions.entry(entry.author()).or_default().insert(position.place());
                let admissions = BTreeSet::from([position.place()]);
                let start = LogStart { first: order, order, admissions, ..LogStart::default() };
                self.starts.insert(log, Arc::new(start));
            }
            Control::Admit { peer, .. } => {
                self.admissions.entry(*peer).or_default().insert(position.place());
                admitted = Some(*peer).filter(|_| self.branches.contains_key(&log));
            }
            Control::Invite { .. }
            | Control::Revoke { .. }
            | Control::Remove { .. }
            | Control::Rename { .. }
            | Control::Role { .. }
            | Control::Leave
            | Control::Keys { .. } => {}
        }
        let (author, control, label) = (entry.author(), control.clone(), entry.header().time);
        let sealing = if entry.reads_padded() { Sealing::Padded } else { Sealing::Plain };
        self.places.entry(log).or_default().insert(seq, position);
        self.in_order.insert(
            position,
            ControlItem { author, hash: entry.hash(), control, sealing, label, causes: causes.into_iter().collect() },
        );
        if let Some(peer) = admitted {
            self.start_anew(&peer);
        }
        Some(position)
    }

    /// Takes what the store held: control entries in the order in which they were stored, and for every log the order time of
    /// its first entry and what that depends on.
    pub(crate) fn restore(
        &mut self,
        entries: impl Iterator<Item = (Arc<Entry>, Hlc)>,
        logs: &BTreeMap<LogId, StoredStart>,
        room: &RoomId,
    ) {
        for (entry, order) in entries {
            if !entry.is_genesis() {
                self.restore_start(&entry.log(), logs);
            }
            self.add(&entry, order, room);
        }
        logs.keys().for_each(|log| self.restore_start(log, logs));
    }

    /// A log that is held began after its author's admission and former logs, which were stored before it.
    fn restore_start(&mut self, log: &LogId, logs: &BTreeMap<LogId, StoredStart>) {
        let mut unstarted = vec![*log];
        while let Some(log) = unstarted.last().copied() {
            let Some(stored) = logs.get(&log).filter(|_| !self.starts.contains_key(&log)) else {
                unstarted.pop();
                continue;
            };
            let earlier = |other: &LogId| {
                other.author == log.author
                    && !self.starts.contains_key(other)
                    && logs.get(other).is_some_and(|other| other.first < stored.first)
            };
            let mut former = stored.roots.iter().map(|dep| dep.log).chain(stored.parent);
            if let Some(former) = former.find(earlier) {
                unstarted.push(former);
            } else {
                let start = self.start(&log, stored.first, &stored.roots, stored.parent);
                self.begin(log, stored.signed, start);
                unstarted.pop();
            }
        }
    }

    /// The item at a position.
    pub(crate) fn get(&self, position: &Position) -> Option<&ControlItem> {
        self.in_order.get(position)
    }

    /// Every item, in the shared order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Position, &ControlItem)> {
        self.in_order.iter()
    }

    /// Every position that follows one, as far as control entries name each other.
    pub(crate) fn followers(&self, of: &Position) -> BTreeSet<Position> {
        let mut followers = BTreeSet::from([*of]);
        for (position, item) in self.in_order.range(of..).skip(1) {
            if item.causes.iter().any(|cause| followers.contains(cause)) {
                followers.insert(*position);
            }
        }
        followers
    }
}
