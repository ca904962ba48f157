//! What is on the disk of a node in tests, in the shared order.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chat_proto::id::EntryHash;

use super::Peer;
use crate::log::entry::{Dep, Entry, Hlc, LogId, MessageBody, Seq, SignedEntry};
use crate::output::{Batch, BatchEntry, LoadScope};
use crate::restore::{Restored, StoredHead};
use crate::sim::branches::file_branch;

impl Peer {
    /// The order time of every entry on disk.
    fn orders(&self) -> BTreeMap<EntryHash, Hlc> {
        let mut orders: BTreeMap<EntryHash, Hlc> = BTreeMap::new();
        let mut entries: Vec<&Arc<Entry>> = self.logs.values().flatten().collect();
        entries.sort_by_key(|entry| entry.seq());
        for entry in entries {
            let before = entry.header().backlink.and_then(|hash| orders.get(&hash)).copied();
            orders.insert(entry.hash(), entry.header().order_after(before));
        }
        orders
    }

    fn find(&self, hash: &EntryHash) -> Option<&Arc<Entry>> {
        self.logs.values().flatten().find(|entry| entry.hash() == *hash)
    }

    /// Files what lies beyond a fork in the branch that begins with the first of it.
    pub(super) fn file_branches(&mut self, (one, _): &(SignedEntry, SignedEntry)) {
        file_branch(&mut self.logs, &mut self.clocks, one);
    }

    pub(in crate::node::tests) fn write(&mut self, batch: &Batch) {
        self.hidden.extend(batch.changes.cuts.clone());
        self.incarnation = batch.changes.incarnation.unwrap_or(self.incarnation);
        for item in &batch.entries {
            let log = self.logs.entry(item.entry.log()).or_default();
            let next = log.last().map_or(item.entry.seq(), |last| last.seq().next());
            assert_eq!(
                item.entry.seq(),
                next,
                "a log on disk has no holes: {:?} {:?}",
                item.entry.log(),
                item.entry.body()
            );
            assert!(!log.is_empty() || item.entry.begins(), "a log on disk begins with its first entry");
            log.push(item.entry.clone());
            let (at, seq) = (item.entry.log(), item.entry.seq());
            self.clocks.retain(|(log, other, _)| *log != at || *other < seq);
            let clock = item.clock.iter().map(|clock| (item.entry.log(), item.entry.seq(), clock.as_ref().clone()));
            self.clocks.extend(clock);
            self.clocks_off.push(item.clock_off_ms);
            if item.visible {
                self.shown.extend(item.entry.messages().to_vec());
            } else {
                let limit = self.hidden.get(&item.entry.log());
                assert!(limit.is_some_and(|limit| item.entry.seq() > *limit), "hidden without a cut");
            }
        }
        for item in &batch.bodies {
            self.fill(item);
        }
        for proof in &batch.changes.forks {
            self.file_branches(proof);
            self.forks.push(proof.clone());
        }
    }

    /// Writes a body that came later.
    fn fill(&mut self, item: &BatchEntry) {
        let place = Dep { log: item.entry.log(), seq: item.entry.seq() };
        let log = self.logs.get_mut(&place.log).into_iter().flatten();
        let lacks = |held: &&mut Arc<Entry>| held.hash() == item.entry.hash() && held.lacks_body();
        for held in log.filter(lacks).filter(|_| !self.dropped.contains(&place)) {
            *held = item.entry.clone();
            self.shown.extend(item.entry.messages().to_vec());
        }
    }

    /// Drops the bodies of all messages.
    pub(in crate::node::tests) fn drop_bodies(&mut self) {
        for entry in self.logs.values_mut().flatten().filter(|entry| entry.is_of_messages()) {
            self.dropped.insert(Dep { log: entry.log(), seq: entry.seq() });
            *entry = Arc::new(entry.as_ref().clone().without_body());
        }
    }

    /// Entries whose bodies this peer never had.
    fn lacking(&self) -> Vec<(LogId, Seq)> {
        let bare = self.logs.values().flatten().filter(|entry| entry.lacks_body());
        let place = |entry: &Arc<Entry>| Dep { log: entry.log(), seq: entry.seq() };
        let lacking = bare.map(place).filter(|place| !self.dropped.contains(place));
        lacking.map(|place| (place.log, place.seq)).collect()
    }

    /// Entries of a log as they are served to others.
    pub(super) fn load(
        &self,
        log: &LogId,
        range: RangeInclusive<Seq>,
        bytes_max: usize,
        scope: LoadScope,
    ) -> Vec<SignedEntry> {
        let entries = self.logs.get(log).map(Vec::as_slice).unwrap_or_default();
        let in_scope = |entry: &&Arc<Entry>| scope == LoadScope::All || !entry.lacks_body();
        let wanted = entries.iter().filter(|entry| range.contains(&entry.seq())).filter(in_scope);
        let mut bytes = 0;
        let fits = wanted.take_while(|entry| {
            let first = bytes == 0;
            bytes += entry.signed().len_bytes();
            first || bytes <= bytes_max
        });
        fits.map(|entry| self.as_read(entry)).collect()
    }

    /// What a node that starts anew on this disk begins with.
    pub(in crate::node::tests) fn restored(&self) -> Restored {
        let orders = self.orders();
        let head = |(log, entries): (&LogId, &Vec<Arc<Entry>>)| {
            let (first, last) = (entries.first()?, entries.last()?);
            let parent = first.header().backlink.and_then(|hash| self.find(&hash));
            Some(StoredHead {
                log: *log,
                seq: last.seq(),
                hash: last.hash(),
                label: last.header().time,
                order: orders[&last.hash()],
                first: orders[&first.hash()],
                roots: first.header().deps.clone(),
                signed: first.header().log,
                parent: parent.map(|parent| parent.log()),
            })
        };
        let held = |log: &LogId, seq: &Seq| {
            self.logs.get(log).and_then(|entries| entries.last()).is_some_and(|last| last.seq() >= *seq)
        };
        let controls = self.in_order().into_iter().filter(|(_, entry)| entry.control().is_some());
        Restored {
            room: self.node.room(),
            incarnation: self.incarnation,
            heads: self.logs.iter().filter_map(head).collect(),
            controls: controls.map(|(order, entry)| (entry.log(), self.as_read(entry), order)).collect(),
            clocks: self.clocks.iter().filter(|(log, seq, _)| held(log, seq)).cloned().collect(),
            addrs: self.node.peers.addrs.records().cloned().collect(),
            forks: self.forks.clone(),
            seen: self.node.peers.presence.seen(),
            mark_agrees: self.mark_agrees,
            lacking: self.lacking(),
            hidden: self.hidden.keys().copied().collect(),
        }
    }

    /// An entry as the disk gives it back, with another body where it is damaged.
    fn as_read(&self, entry: &Entry) -> SignedEntry {
        let mut read = entry.signed().clone();
        if self.damaged.contains(&Dep { log: entry.log(), seq: entry.seq() }) {
            read.body = Some(vec![0; 9]);
        }
        read
    }

    /// All entries on disk with their order times, in the shared order.
    pub(in crate::node::tests) fn in_order(&self) -> Vec<(Hlc, &Arc<Entry>)> {
        let orders = self.orders();
        let mut all: Vec<_> = self.logs.values().flatten().map(|entry| (orders[&entry.hash()], entry)).collect();
        all.sort_by_key(|(order, entry)| (*order, entry.header().time, entry.log(), entry.seq()));
        all
    }

    /// All entries on disk, causes first.
    pub(in crate::node::tests) fn entries(&self) -> Vec<SignedEntry> {
        self.in_order().into_iter().map(|(_, entry)| entry.signed().clone()).collect()
    }

    /// The texts that are shown, in the shared order.
    pub(in crate::node::tests) fn history(&self) -> Vec<String> {
        let all = self.in_order().into_iter().map(|(_, entry)| entry);
        let counts = |entry: &&Arc<Entry>| self.hidden.get(&entry.log()).is_none_or(|limit| entry.seq() <= *limit);
        let texts = all.filter(counts).flat_map(|entry| entry.messages().to_vec());
        texts.map(|body| if let MessageBody::Text(text) = body { text } else { "sealed".into() }).collect()
    }
}
