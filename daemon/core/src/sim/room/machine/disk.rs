//! A machine's disk. What is flushed survives a crash; waiting writes are lost, in whole batches and in order.

mod branches;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use chat_proto::id::{EntryHash, MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;

use crate::input::{BatchId, CommandId, PersistError};
use crate::log::entry::{Control, Dep, Entry, Hlc, Incarnation, LogId, Seq, SignedEntry};
use crate::membership::authority::AuthorityClock;
use crate::output::{Batch, BatchEntry, Changes, LoadScope};
use crate::peers::addrs::AddrRecord;
use crate::restore::{Restored, StoredHead};

/// Sorts messages in the shared order.
pub(in crate::sim::room) type ShownPosition = (Hlc, Hlc, LogId, Seq, u16);

/// Names a send that its client repeats until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim::room) struct SendKey(pub(in crate::sim::room) u64);

/// A write.
#[derive(Clone, Debug)]
pub(in crate::sim::room) enum Op {
    /// Entries, and the idempotency keys of the commands behind them.
    Batch(Batch, BTreeMap<CommandId, SendKey>),
    Addrs(Vec<AddrRecord>),
    Seen(Vec<(PeerId, Timestamp)>),
}

/// Whether the disk accepts entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sim::room) enum Health {
    #[default]
    Fine,
    Broken(PersistError),
}

/// The contents of a disk.
#[derive(Clone, Debug)]
pub(in crate::sim::room) struct HeldData {
    pub(in crate::sim::room) room: RoomId,
    pub(in crate::sim::room) incarnation: Incarnation,
    pub(in crate::sim::room) logs: BTreeMap<LogId, Vec<Arc<Entry>>>,
    controls: Vec<(LogId, SignedEntry, Hlc)>,
    clocks: Vec<(LogId, Seq, AuthorityClock)>,
    /// The order time of each entry.
    orders: BTreeMap<EntryHash, Hlc>,
    limits: BTreeMap<LogId, Seq>,
    messages: BTreeMap<ShownPosition, (MessageId, bool)>,
    /// Every message that was shown, in the order of the events.
    pub(in crate::sim::room) shown: Vec<MessageId>,
    shown_once: BTreeSet<MessageId>,
    /// The process that wrote each event: a cursor names it, so that events a rolled-back database lost are missed.
    pub(in crate::sim::room) runs: Vec<u32>,
    /// The process that writes now.
    pub(in crate::sim::room) run: u32,
    addrs: BTreeMap<PeerId, AddrRecord>,
    forks: Vec<(SignedEntry, SignedEntry)>,
    seen: BTreeMap<PeerId, Timestamp>,
    /// The message of each idempotency key, written with it.
    pub(in crate::sim::room) keys: BTreeMap<SendKey, MessageId>,
    /// Entries whose copy is damaged.
    pub(in crate::sim::room) rotten: BTreeSet<Dep>,
    /// The second record of the newest own entry, in a file of its own; none of an incarnation that has written nothing.
    pub(in crate::sim::room) mark: Option<(LogId, Seq, EntryHash)>,
}

/// A disk: its contents and the writes that wait.
#[derive(Debug, Default)]
pub(in crate::sim::room) struct SimDisk {
    pub(in crate::sim::room) held: Option<HeldData>,
    pub(in crate::sim::room) ops: VecDeque<Op>,
    pub(in crate::sim::room) health: Health,
    pub(in crate::sim::room) busy: bool,
    /// The last write that failed and may be on the disk after all, until another one succeeds.
    pub(in crate::sim::room) ghost: Option<Op>,
    /// While the disk lies about flushes: what it really holds, and what it only says that it holds.
    pub(in crate::sim::room) lie: Option<FlushLie>,
}

/// A disk that reports flushes and keeps the writes in its cache.
#[derive(Debug)]
pub(in crate::sim::room) struct FlushLie {
    flushed: HeldData,
    cached: Vec<Op>,
}

/// Called before each entry is written, with the contents at that time.
pub(in crate::sim::room) type Witness<'a> = &'a mut dyn FnMut(&HeldData, &BatchEntry);

/// The result of a write.
#[derive(Debug)]
pub(in crate::sim::room) enum Wrote {
    Batch(BatchId),
    Failed(BatchId, PersistError, Op),
    Other,
}

impl HeldData {
    pub(in crate::sim::room) fn new(room: RoomId, incarnation: Incarnation, addrs: Vec<AddrRecord>) -> Self {
        Self {
            room,
            incarnation,
            logs: BTreeMap::new(),
            controls: Vec::new(),
            clocks: Vec::new(),
            orders: BTreeMap::new(),
            limits: BTreeMap::new(),
            messages: BTreeMap::new(),
            shown: Vec::new(),
            shown_once: BTreeSet::new(),
            runs: Vec::new(),
            run: 0,
            addrs: addrs.into_iter().map(|record| (record.peer, record)).collect(),
            forks: Vec::new(),
            seen: BTreeMap::new(),
            keys: BTreeMap::new(),
            rotten: BTreeSet::new(),
            mark: None,
        }
    }

    pub(in crate::sim::room) fn seq(&self, log: &LogId) -> Seq {
        self.logs.get(log).map_or(Seq::ZERO, |entries| entries.last().map_or(Seq::ZERO, |last| last.seq()))
    }

    /// The last sequence number of each log whose messages are shown.
    pub(in crate::sim::room) fn view(&self) -> BTreeMap<LogId, Seq> {
        self.logs
            .keys()
            .map(|log| (*log, self.seq(log).min(self.limits.get(log).copied().unwrap_or(Seq::MAX))))
            .collect()
    }

    /// The messages that are shown, in the shared order.
    pub(in crate::sim::room) fn visible(&self) -> Vec<(ShownPosition, MessageId)> {
        self.messages.iter().filter(|(_, (_, visible))| *visible).map(|(place, (id, _))| (*place, *id)).collect()
    }

    /// The sequence number of the last entry of a log of which messages are shown.
    pub(in crate::sim::room) fn last_shown(&self, log: &LogId) -> Option<Seq> {
        self.visible().into_iter().filter(|((_, _, of, ..), _)| of == log).map(|((.., seq, _), _)| seq).max()
    }

    /// The logs of which some messages are hidden.
    fn hidden(&self) -> Vec<LogId> {
        let hidden = self.messages.iter().filter(|(_, (_, visible))| !visible).map(|((_, _, log, ..), _)| *log);
        hidden.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether a log is held up to there, in one branch at least where it is forked.
    pub(in crate::sim::room) fn holds(&self, log: &LogId, seq: Seq) -> bool {
        let named = self.logs.range(LogId::range_of(log.author)).flat_map(|(_, entries)| entries.last());
        named.filter(|last| [last.log(), last.header().log].contains(log)).any(|last| seq <= last.seq())
    }

    /// The mark follows what was written and not marked, as the store does when it opens the database.
    pub(in crate::sim::room) fn mark_newest(&mut self) {
        let Some((log, ..)) = self.mark else { return };
        let newest = self.logs.get(&log).and_then(|entries| entries.last());
        self.mark = newest.map(|entry| (log, entry.seq(), entry.hash())).or(self.mark);
    }

    /// Whether the database lacks what the mark names: it was rolled back.
    pub(in crate::sim::room) fn lacks_marked(&self) -> bool {
        self.mark.is_some_and(|(log, seq, hash)| log.incarnation != self.incarnation || !self.has(&log, seq, &hash))
    }

    /// Whether exactly this entry is held.
    pub(in crate::sim::room) fn has(&self, log: &LogId, seq: Seq, hash: &EntryHash) -> bool {
        let entries = self.logs.range(LogId::range_of(log.author)).flat_map(|(_, entries)| entries);
        entries.filter(|entry| entry.header().log == *log).any(|entry| entry.seq() == seq && entry.hash() == *hash)
    }

    pub(in crate::sim::room) fn addrs(&self) -> Vec<AddrRecord> {
        self.addrs.values().cloned().collect()
    }

    pub(in crate::sim::room) fn restored(&self) -> Restored {
        let order = |entry: &Arc<Entry>| self.orders.get(&entry.hash()).copied();
        let head = |(log, entries): (&LogId, &Vec<Arc<Entry>>)| {
            let (first, last) = (entries.first()?, entries.last()?);
            Some(StoredHead {
                log: *log,
                seq: last.seq(),
                hash: last.hash(),
                label: last.header().time,
                order: order(last)?,
                first: order(first)?,
                roots: first.header().deps.clone(),
                signed: first.header().log,
                parent: first.header().backlink.and_then(|hash| self.log_of(&hash)),
            })
        };
        Restored {
            room: self.room,
            incarnation: self.incarnation,
            heads: self.logs.iter().filter_map(head).collect(),
            controls: self
                .controls
                .iter()
                .map(|(log, signed, order)| (*log, self.as_read(*log, signed), *order))
                .collect(),
            clocks: self.clocks.clone(),
            addrs: self.addrs(),
            forks: self.forks.clone(),
            seen: self.seen.iter().map(|(peer, at)| (*peer, *at)).collect(),
            mark_agrees: self.mark.is_some(),
            lacking: self.lacking(),
            hidden: self.hidden(),
        }
    }

    /// A stored entry as the disk gives it back, with other bytes where its copy is damaged.
    fn as_read(&self, log: LogId, signed: &SignedEntry) -> SignedEntry {
        let is_rotten = |entry: Entry| self.rotten.contains(&Dep { log, seq: entry.seq() });
        let mut read = signed.clone();
        if !self.rotten.is_empty() && Entry::from_trusted(signed.clone()).is_ok_and(is_rotten) {
            read.body = Some(vec![0; 9]);
        }
        read
    }

    /// Replaces a damaged copy.
    pub(in crate::sim::room) fn repair(&mut self, entry: &Entry) {
        let place = Dep { log: entry.log(), seq: entry.seq() };
        if self.has(&entry.header().log, place.seq, &entry.hash()) {
            self.rotten.remove(&place);
        }
    }

    /// The control entries that are held, with their authors.
    pub(in crate::sim::room) fn control_entries(&self) -> impl Iterator<Item = (PeerId, &Control)> {
        let all = self.logs.values().flatten();
        all.filter_map(|entry| Some((entry.author(), entry.control()?)))
    }

    /// Entries of a log, at least one and about `bytes_max` bytes.
    pub(in crate::sim::room) fn load(
        &self,
        log: &LogId,
        range: RangeInclusive<Seq>,
        bytes_max: usize,
        scope: LoadScope,
    ) -> Vec<SignedEntry> {
        let mut bytes = 0;
        let all = self.logs.get(log).map(Vec::as_slice).unwrap_or_default();
        all.iter()
            .filter(|entry| range.contains(&entry.seq()))
            .filter(|entry| scope == LoadScope::All || !entry.lacks_body())
            .take_while(|entry| !self.rotten.contains(&Dep { log: *log, seq: entry.seq() }))
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.signed().len_bytes();
                first || bytes <= bytes_max
            })
            .map(|entry| entry.signed().clone())
            .collect()
    }

    /// The order time of an entry that is not written yet and is the next one of its log.
    pub(in crate::sim::room) fn next_order(&self, entry: &Entry) -> Hlc {
        let before = entry.header().backlink.and_then(|hash| self.orders.get(&hash)).copied();
        entry.header().order_after(before)
    }

    fn insert(&mut self, item: &BatchEntry) {
        let entry = &item.entry;
        let log = entry.log();
        let held = self.seq(&log);
        let follows = entry.seq() == held.next() || (held == Seq::ZERO && entry.begins());
        assert!(follows, "entry {:?} of {log:?} leaves a hole or comes twice", entry.seq());
        if let Some(before) = self.logs.get(&log).and_then(|entries| entries.last()) {
            assert_eq!(entry.header().backlink, Some(before.hash()), "the chain on disk is broken");
        }
        let order = self.next_order(entry);
        self.orders.insert(entry.hash(), order);
        if let Some(clock) = &item.clock {
            self.clocks.push((log, entry.seq(), clock.as_ref().clone()));
        }
        if entry.control().is_some() {
            self.controls.push((log, entry.signed().clone(), order));
        }
        self.list(item, order);
        self.logs.entry(log).or_default().push(entry.clone());
    }

    /// Adds the messages of an entry to those that are shown or hidden.
    fn list(&mut self, item: &BatchEntry, order: Hlc) {
        let entry = &item.entry;
        for index in 0..entry.messages().len() {
            let index = u16::try_from(index).expect("an entry's messages are few");
            let id = MessageId { entry: entry.hash(), index };
            self.messages.insert((order, entry.header().time, entry.log(), entry.seq(), index), (id, item.visible));
            if item.visible {
                self.show(id);
            }
        }
    }

    /// The body of an entry came that was written without it.
    fn fill(&mut self, item: &BatchEntry) {
        let entry = &item.entry;
        let mut held = self.logs.get_mut(&entry.log()).into_iter().flatten();
        let Some(held) = held.find(|held| held.hash() == entry.hash() && held.lacks_body()) else { return };
        *held = entry.clone();
        let order = self.orders[&entry.hash()];
        self.list(item, order);
    }

    /// Entries that were written without their bodies.
    fn lacking(&self) -> Vec<(LogId, Seq)> {
        let lacking = self.logs.values().flatten().filter(|entry| entry.lacks_body());
        lacking.map(|entry| (entry.log(), entry.seq())).collect()
    }

    fn show(&mut self, id: MessageId) {
        if self.shown_once.insert(id) {
            self.shown.push(id);
            self.runs.push(self.run);
        }
    }

    /// Whether this limit hides or shows a message that is not hidden or shown already.
    pub(in crate::sim::room) fn is_news(&self, log: &LogId, limit: Seq) -> bool {
        self.messages.iter().any(|((_, _, of, seq, _), (_, visible))| of == log && *visible != (*seq <= limit))
    }

    fn limit(&mut self, log: LogId, limit: Seq) {
        self.limits.insert(log, limit);
        let mut again = Vec::new();
        for ((_, _, of, seq, _), (id, visible)) in &mut self.messages {
            if *of == log {
                let shown = *seq <= limit;
                if shown && !*visible {
                    again.push(*id);
                }
                *visible = shown;
            }
        }
        for id in again {
            self.show(id);
        }
    }

    pub(in crate::sim::room) fn keep_addrs(&mut self, records: &[AddrRecord]) {
        for record in records {
            let newer = self.addrs.get(&record.peer).is_none_or(|held| held.time < record.time);
            if newer {
                self.addrs.insert(record.peer, record.clone());
            }
        }
    }

    fn apply(&mut self, op: &Op, witness: Witness<'_>) {
        match op {
            Op::Batch(batch, keys) => {
                for item in &batch.entries {
                    witness(self, item);
                    self.insert(item);
                    self.keep_keys(item, keys);
                }
                for item in &batch.bodies {
                    self.fill(item);
                }
                self.change(&batch.changes);
                let own = batch.entries.iter().rev().find(|item| item.entry.log().incarnation == self.incarnation);
                self.mark = own.map(|item| (item.entry.log(), item.entry.seq(), item.entry.hash())).or(self.mark);
            }
            Op::Addrs(records) => self.keep_addrs(records),
            Op::Seen(seen) => self.seen.extend(seen.iter().copied()),
        }
    }

    /// As the store does, in the transaction of the entry.
    fn keep_keys(&mut self, item: &BatchEntry, keys: &BTreeMap<CommandId, SendKey>) {
        for (index, origin) in item.origins.iter().enumerate() {
            if let Some(key) = keys.get(origin) {
                let index = u16::try_from(index).expect("an entry's messages are few");
                self.keys.insert(*key, MessageId { entry: item.entry.hash(), index });
            }
        }
    }

    fn change(&mut self, changes: &Changes) {
        // In the order of the store.
        for proof in &changes.forks {
            self.file_branches(proof);
            self.forks.push(proof.clone());
        }
        for (log, limit) in &changes.cuts {
            self.limit(*log, *limit);
        }
        if let Some(incarnation) = changes.incarnation {
            self.incarnation = incarnation;
            self.mark = None;
        }
    }
}

impl SimDisk {
    /// Carries out the oldest write.
    pub(in crate::sim::room) fn write(&mut self, witness: Witness<'_>) -> Wrote {
        let Some(op) = self.ops.pop_front() else { return Wrote::Other };
        match (&op, self.health) {
            (Op::Batch(batch, _), Health::Broken(error)) => Wrote::Failed(batch.id, error, op),
            (Op::Batch(batch, _), Health::Fine) => {
                let first = batch.entries.first();
                if let Some(genesis) = first.filter(|item| item.entry.is_genesis() && self.held.is_none()) {
                    let room = RoomId::from_bytes(*genesis.entry.hash().as_bytes());
                    self.held = Some(HeldData::new(room, genesis.entry.log().incarnation, Vec::new()));
                }
                let id = batch.id;
                self.ghost = None;
                self.carry_out(op, witness);
                Wrote::Batch(id)
            }
            (Op::Addrs(_) | Op::Seen(_), _) => {
                self.carry_out(op, witness);
                Wrote::Other
            }
        }
    }

    fn carry_out(&mut self, op: Op, witness: Witness<'_>) {
        if let Some(held) = &mut self.held {
            held.apply(&op, witness);
            if let Some(lie) = &mut self.lie {
                lie.cached.push(op);
            }
        }
    }

    /// From now on flushes are reported and not carried out.
    pub(in crate::sim::room) fn begin_lie(&mut self) {
        self.lie = self.held.clone().map(|flushed| FlushLie { flushed, cached: Vec::new() });
    }

    /// Number of reported writes that a loss of power can take.
    pub(in crate::sim::room) fn cached(&self) -> usize {
        self.lie.as_ref().map_or(0, |lie| lie.cached.len())
    }

    /// Loses power: the first `survive` waiting writes reached the disk, though their completion was never reported.
    pub(in crate::sim::room) fn lose_power(&mut self, survive: usize, witness: Witness<'_>) {
        for _ in 0..survive.min(self.ops.len()) {
            self.write(witness);
        }
        self.ops.clear();
        self.busy = false;
    }

    /// Of the reported writes in the cache of a disk that lies, only the first `survive` were flushed. Returns the entries
    /// of the others.
    pub(in crate::sim::room) fn lose_cache(&mut self, survive: usize, mark: MarkFate) -> Vec<Arc<Entry>> {
        let Some(FlushLie { mut flushed, cached }) = self.lie.take() else { return Vec::new() };
        for op in cached.iter().take(survive) {
            flushed.apply(op, &mut |_, _| {});
        }
        if let (MarkFate::Flushed, Some(held)) = (mark, &self.held) {
            flushed.mark = held.mark;
        }
        self.held = Some(flushed);
        let lost = cached.iter().skip(survive).filter_map(|op| match op {
            Op::Batch(batch, _) => Some(&batch.entries),
            Op::Addrs(_) | Op::Seen(_) => None,
        });
        lost.flatten().map(|item| item.entry.clone()).collect()
    }

    /// A failed write turns out to be on the disk.
    pub(in crate::sim::room) fn show_ghost(&mut self, witness: Witness<'_>) {
        if let Some(op) = self.ghost.take() {
            self.carry_out(op, witness);
        }
    }
}

/// What becomes of the second record of the head when a disk loses its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::room) enum MarkFate {
    /// It was flushed and shows that the database is older.
    Flushed,
    /// It is as old as the database.
    Lost,
}
