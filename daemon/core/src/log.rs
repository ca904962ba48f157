//! The log of the room: every author's chain of signed entries.

pub(crate) mod disk;
pub mod entry;
pub(crate) mod forks;
pub(crate) mod heads;
pub(crate) mod local;
pub(crate) mod pending;
pub(crate) mod repair;
pub mod signature;

use disk::Disk;
use entry::{LogId, Seq};
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
}

impl Logs {
    /// The last sequence number of a log that is accepted: beyond its cut where an entry waits for it.
    pub(crate) fn taken(&self, log: &LogId) -> Seq {
        let awaited = self.pending.awaited(log).min(self.heads.limit_if_built_on(log));
        self.heads.limit(log).max(awaited)
    }

    /// The last sequence number up to which a log is held, entries that wait included.
    pub(crate) fn reach(&self, log: &LogId) -> Seq {
        self.pending.reach(log, self.heads.seq(log))
    }
}
