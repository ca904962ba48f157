//! How far an export has come in each log.

use std::collections::BTreeMap;

use chat_core::log::entry::{Entry, Hlc, Incarnation, LogId, Seq};
use chat_proto::id::{EntryHash, PeerId};

use crate::app::archive::HeadView;

/// A head with the time by which its entry is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) seq: Seq,
    pub(super) hash: EntryHash,
    order: Hlc,
}

/// ArchiveHeads by log.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArchiveHeads(BTreeMap<LogId, Reached>);

impl ArchiveHeads {
    /// How far each log is held.
    pub(crate) fn seqs(&self) -> BTreeMap<LogId, Seq> {
        self.0.iter().map(|(log, reached)| (*log, reached.seq)).collect()
    }

    pub(super) fn get(&self, log: &LogId) -> Option<&Reached> {
        self.0.get(log)
    }

    /// Files an entry in the log that it continues, or in the branch that it begins.
    pub(super) fn file(&self, entry: Entry, begins_branch: bool) -> Entry {
        let (author, signed) = (entry.author(), entry.log());
        let log = match (begins_branch, entry.header().backlink) {
            (false, Some(hash)) if self.0.get(&signed).is_some_and(|reached| reached.hash == hash) => signed,
            (true, _) => LogId::branch(author, &entry.hash()),
            (false, Some(hash)) => self.ending_with(author, &hash).map_or(signed, |(log, _)| *log),
            (false, None) => signed,
        };
        entry.filed_in(log)
    }

    /// The entry after which this one comes.
    pub(super) fn before(&self, entry: &Entry) -> Option<&Reached> {
        let parent = || self.ending_with(entry.author(), entry.header().backlink.as_ref()?).map(|(_, reached)| reached);
        self.0.get(&entry.log()).or_else(|| if entry.begins() { parent() } else { None })
    }

    fn ending_with(&self, author: PeerId, hash: &EntryHash) -> Option<(&LogId, &Reached)> {
        self.0.iter().find(|(log, reached)| log.author == author && reached.hash == *hash)
    }

    pub(super) fn views(&self) -> Vec<HeadView> {
        let view = |(log, reached): (&LogId, &Reached)| HeadView {
            author: log.author,
            incarnation: format!("{:016x}", log.incarnation.0),
            seq: reached.seq.0,
            hash: reached.hash,
            order: format!("{:016x}", reached.order.0),
        };
        self.0.iter().map(view).collect()
    }

    pub(super) fn of(views: &[HeadView]) -> Option<Self> {
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let head = |view: &HeadView| {
            let log = LogId { author: view.author, incarnation: Incarnation(hex(&view.incarnation)?) };
            Some((log, Reached { seq: Seq(view.seq), hash: view.hash, order: Hlc(hex(&view.order)?) }))
        };
        views.iter().map(head).collect::<Option<_>>().map(Self)
    }

    /// Goes on by an entry; returns the time by which it is ordered.
    pub(super) fn advance(&mut self, entry: &Entry) -> Hlc {
        let before = self.before(entry).map(|reached| reached.order);
        let order = entry.header().order_after(before);
        self.0.insert(entry.log(), Reached { seq: entry.seq(), hash: entry.hash(), order });
        order
    }
}
