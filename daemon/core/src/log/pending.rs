//! Entries that wait for their dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chat_proto::id::{EntryHash, PeerId};

use crate::log::entry::{Dep, Entry, Head, LogId, Seq};

/// Maximum number of waiting entries. Beyond, new ones are dropped: anti-entropy fetches them again when there is room,
/// and an entry that can be applied never needs to wait, so progress does not depend on room here.
const ENTRIES_MAX: usize = 4096;

/// Maximum number of waiting bytes (16 MiB), for the same reason.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// What waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    entries: BTreeMap<Dep, WaitingEntry>,
    waiting: BTreeMap<Dep, BTreeSet<Dep>>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct WaitingEntry {
    entry: Arc<Entry>,
    /// What it waits for.
    missing: Dep,
}

impl Pending {
    /// Whether an entry with that log and sequence number waits.
    pub(crate) fn contains(&self, place: &Dep) -> bool {
        self.entries.contains_key(place)
    }

    /// The entry that waits with that log and sequence number.
    pub(crate) fn get(&self, place: &Dep) -> Option<&Arc<Entry>> {
        self.entries.get(place).map(|waiting| &waiting.entry)
    }

    /// The last sequence number up to a head at which something waits that is not in the chain of that head.
    pub(crate) fn differs(&self, head: &Head) -> Option<Seq> {
        let (mut seq, mut hash) = (head.seq, head.hash);
        while let Some(entry) = self.get(&Dep { log: head.log, seq }) {
            if entry.hash() != hash {
                return Some(seq);
            }
            (seq, hash) = (Seq(seq.0.saturating_sub(1)), entry.header().backlink?);
        }
        None
    }

    /// The entries of a log that wait, in their order.
    pub(crate) fn of_log(&self, log: &LogId) -> impl Iterator<Item = &Arc<Entry>> {
        let places = Dep { log: *log, seq: Seq::ZERO }..=Dep { log: *log, seq: Seq::MAX };
        self.entries.range(places).map(|(_, waiting)| &waiting.entry)
    }

    /// Keeps an entry until `missing` is there; returns whether there was room. It replaces one of the same place, as where a
    /// log is forked.
    pub(crate) fn wait(&mut self, entry: Arc<Entry>, missing: Dep) -> bool {
        let bytes = entry.signed().len_bytes();
        if self.entries.len() >= ENTRIES_MAX || self.bytes + bytes > BYTES_MAX {
            return false;
        }
        let place = Dep { log: entry.log(), seq: entry.seq() };
        if let Some(replaced) = self.take(&place)
            && let Some(places) = self.waiting.get_mut(&replaced.missing)
        {
            places.remove(&place);
            if places.is_empty() {
                self.waiting.remove(&replaced.missing);
            }
        }
        self.bytes += bytes;
        self.waiting.entry(missing).or_default().insert(place);
        self.entries.insert(place, WaitingEntry { entry, missing });
        true
    }

    /// Takes out the entries that waited for an entry that is held now.
    pub(crate) fn release(&mut self, place: &Dep) -> Vec<Arc<Entry>> {
        let places = self.waiting.remove(place).unwrap_or_default();
        places.iter().filter_map(|place| Some(self.take(place)?.entry)).collect()
    }

    /// The same for entries with which branches of an author begin: they wait for an entry of a log that is not known yet.
    pub(crate) fn release_branches(&mut self, author: PeerId, seq: Seq) -> Vec<Arc<Entry>> {
        let logs = LogId::range_of(author);
        let places = Dep { log: *logs.start(), seq: Seq::ZERO }..=Dep { log: *logs.end(), seq: Seq::MAX };
        let missing: Vec<Dep> =
            self.waiting.range(places).map(|(missing, _)| *missing).filter(|missing| missing.seq == seq).collect();
        missing.iter().flat_map(|missing| self.release(missing)).collect()
    }

    /// The log of an author in which an entry waits.
    pub(crate) fn log_of(&self, author: PeerId, seq: Seq, hash: &EntryHash) -> Option<LogId> {
        let logs = LogId::range_of(author);
        let places = Dep { log: *logs.start(), seq: Seq::ZERO }..=Dep { log: *logs.end(), seq: Seq::MAX };
        let mut waiting = self.entries.range(places);
        waiting.find(|(place, held)| place.seq == seq && held.entry.hash() == *hash).map(|(place, _)| place.log)
    }

    /// Takes out everything, to be looked at anew: after a cut, nothing of a log will come any more.
    pub(crate) fn release_all(&mut self) -> Vec<Arc<Entry>> {
        self.waiting.clear();
        self.bytes = 0;
        std::mem::take(&mut self.entries).into_values().map(|waiting| waiting.entry).collect()
    }

    /// How far a log reaches from `held` on when what waits is counted in.
    pub(crate) fn reach(&self, log: &LogId, held: Seq) -> Seq {
        let mut reach = held;
        while self.contains(&Dep { log: *log, seq: reach.next() }) {
            reach = reach.next();
        }
        reach
    }

    /// What is missing, and what waits for it.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (&Dep, &Dep)> {
        self.waiting.iter().flat_map(|(missing, places)| places.iter().map(move |place| (missing, place)))
    }

    /// The last sequence number of a log that an entry waits for; zero where there is none.
    pub(crate) fn awaited(&self, log: &LogId) -> Seq {
        let places = Dep { log: *log, seq: Seq::ZERO }..=Dep { log: *log, seq: Seq::MAX };
        self.waiting.range(places).next_back().map_or(Seq::ZERO, |(missing, _)| missing.seq)
    }

    /// The same of what entries of other authors wait for.
    pub(crate) fn awaited_by_others(&self, log: &LogId) -> Seq {
        let places = Dep { log: *log, seq: Seq::ZERO }..=Dep { log: *log, seq: Seq::MAX };
        let by_others = |waiting: &BTreeSet<Dep>| waiting.iter().any(|place| place.log.author != log.author);
        let mut awaited = self.waiting.range(places).rev();
        awaited.find(|(_, waiting)| by_others(waiting)).map_or(Seq::ZERO, |(missing, _)| missing.seq)
    }

    /// Drops entries that no peer can complete any more: neither the entry nor what it waits for, directly or through
    /// other waiting entries, is held by a peer according to `known`.
    pub(crate) fn drop_orphans(&mut self, known: impl Fn(&Dep) -> bool) {
        let mut kept: BTreeSet<Dep> = self.entries.keys().filter(|place| known(place)).copied().collect();
        let mut causes: Vec<Dep> = self.waiting.keys().filter(|missing| known(missing)).copied().collect();
        causes.extend(&kept);
        while let Some(cause) = causes.pop() {
            let behind = self.waiting.get(&cause).into_iter().flatten();
            causes.extend(behind.filter(|place| kept.insert(**place)));
        }
        for places in self.waiting.values_mut() {
            places.retain(|place| kept.contains(place));
        }
        self.waiting.retain(|_, places| !places.is_empty());
        let orphans: Vec<Dep> = self.entries.keys().filter(|place| !kept.contains(place)).copied().collect();
        for place in orphans {
            self.take(&place);
        }
    }

    /// Number of waiting entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn take(&mut self, place: &Dep) -> Option<WaitingEntry> {
        let waiting = self.entries.remove(place)?;
        self.bytes -= waiting.entry.signed().len_bytes();
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::entry::Incarnation;
    use crate::log::sample::entry;

    #[test]
    fn entry_of_the_same_place_replaces_the_one_that_waits() {
        let [short, long] = ["a", "a longer text"].map(|text| Arc::new(entry(2, text)));
        let log = |n| LogId { author: PeerId::from_bytes([n; 32]), incarnation: Incarnation(1) };
        let (first, second) = (Dep { log: log(7), seq: Seq(1) }, Dep { log: log(8), seq: Seq(1) });
        let mut pending = Pending::default();
        assert!(pending.wait(Arc::clone(&short), first));
        assert!(pending.wait(Arc::clone(&long), second));
        assert_eq!(pending.bytes, long.signed().len_bytes());
        assert_eq!(pending.release(&first), []);
        assert_eq!(pending.release(&second), [long]);
        assert_eq!((pending.len(), pending.bytes), (0, 0));
        assert!(pending.wait(short, first));
        assert_eq!(pending.missing().count(), 1);
    }
}
