//! The log of the room: every author's chain of signed entries.

pub(crate) mod bodies;
pub(crate) mod disk;
pub mod entry;
pub(crate) mod forks;
pub(crate) mod heads;
pub(crate) mod local;
pub(crate) mod pending;
pub(crate) mod repair;
#[cfg(test)]
mod sample;
pub mod signature;
pub(crate) mod unwritten;

use std::sync::Arc;

use chat_proto::id::EntryHash;

use bodies::Bodies;
use disk::Disk;
use entry::{Entry, Header, LogId, Seq};
use forks::Forks;
use heads::Heads;
use pending::Pending;
use repair::Repairs;

/// All authors' logs: what is applied, what waits, what is forked, what is on its way to the disk.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    pub(crate) heads: Heads,
    pub(crate) pending: Pending,
    pub(crate) forks: Forks,
    pub(crate) disk: Disk,
    pub(crate) repairs: Repairs,
    pub(crate) bodies: Bodies,
}

impl Logs {
    /// The last sequence number of a log that is accepted: beyond its cut where an entry waits for it.
    pub(crate) fn taken(&self, log: &LogId) -> Seq {
        let awaited = self.pending.awaited(log).min(self.heads.limit_if_built_on(log));
        self.heads.limit(log).max(awaited)
    }

    /// The last sequence number up to which a log is held, entries that wait included.
    pub(crate) fn reach(&self, log: &LogId) -> Seq {
        self.pending.reach(log, self.heads.seq(log).max(self.forks.base(log)))
    }

    /// The log in which an entry is filed ([`Forks::file`]).
    pub(crate) fn file(&self, header: &Header, hash: impl FnOnce() -> EntryHash) -> Option<LogId> {
        if self.heads.signed(&header.log) != header.log {
            // No honest author begins a log under the number of a branch.
            return None;
        }
        let before = Seq(header.seq.0.saturating_sub(1));
        let holder = |backlink: &EntryHash| {
            let author = header.log.author;
            self.heads.ending_with(author, backlink).or_else(|| self.pending.log_of(author, before, backlink))
        };
        self.forks.file(header, hash, holder)
    }

    /// Files an entry anew that was looked at before more was known of forks.
    pub(crate) fn refile(&self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let log = self.file(entry.header(), || entry.hash())?;
        Some(if log == entry.log() { entry } else { Arc::new(entry.as_ref().clone().filed_in(log)) })
    }
}
