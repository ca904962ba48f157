//! What is on the disk of a node in tests, in the shared order.

use std::sync::Arc;

use super::Peer;
use crate::log::entry::{Dep, Entry, Hlc, LogId, MessageBody, Seq, SignedEntry};
use crate::restore::{Restored, StoredHead};

/// The order time of one of the entries of a log.
fn order_of(log: &[Arc<Entry>], entry: &Entry) -> Hlc {
    let upto = log.iter().take_while(|before| before.seq() <= entry.seq());
    upto.fold(None, |before, entry| Some(entry.header().order_after(before))).unwrap_or_default()
}

impl Peer {
    /// What a node that starts anew on this disk begins with.
    pub(in crate::node::tests) fn restored(&self) -> Restored {
        let head = |(log, entries): (&LogId, &Vec<Arc<Entry>>)| {
            let (first, last) = (entries.first()?, entries.last()?);
            let (order, first) = (order_of(entries, last), first.header().order_after(None));
            let label = last.header().time;
            let roots = entries.first()?.header().deps.clone();
            Some(StoredHead { log: *log, seq: last.seq(), hash: last.hash(), label, order, first, roots })
        };
        let held = |log: &LogId, seq: &Seq| self.logs.get(log).is_some_and(|entries| entries.len() as u64 >= seq.0);
        let controls = self.in_order().into_iter().filter(|(_, entry)| entry.control().is_some());
        Restored {
            room: self.node.room(),
            incarnation: self.incarnation,
            heads: self.logs.iter().filter_map(head).collect(),
            controls: controls.map(|(order, entry)| (self.as_read(entry), order)).collect(),
            clocks: self.clocks.iter().filter(|(log, seq, _)| held(log, seq)).cloned().collect(),
            addrs: self.node.peers.addrs.records().cloned().collect(),
            forks: self.forks.clone(),
            seen: self.node.peers.presence.seen(),
            mark_agrees: self.mark_agrees,
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
        let ordered = |entries: &'_ Vec<Arc<Entry>>| entries.iter().map(|e| order_of(entries, e)).collect::<Vec<_>>();
        let mut all: Vec<(Hlc, &Arc<Entry>)> =
            self.logs.values().flat_map(|entries| ordered(entries).into_iter().zip(entries)).collect();
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
