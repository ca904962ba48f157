//! The parts of a node: each holds the state of one concern.
//!
//! A handler ([`DoorHandler`](crate::admission::door::DoorHandler), [`SyncHandler`](crate::delivery::sync::SyncHandler)) borrows
//! the parts that it may change mutably and those that it only reads immutably. What concerns several parts is decided in
//! `impl Node`.

use std::sync::Arc;

use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;

use crate::delivery::drafts::Drafts;
use crate::delivery::receipts::Receipts;
use crate::delivery::sync::Sync;
use crate::log::entry::{LogId, Seq};
use crate::log::heads::Heads;
use crate::log::pending::Pending;
use crate::membership::control_log::ControlLog;
use crate::membership::derive::Derived;
use crate::membership::roster::Roster;
use crate::node::dissemination::Dissemination;
use crate::node::forks::Forks;
use crate::node::members::News;
use crate::node::persist::Disk;
use crate::node::repair::Repairs;
use crate::node::standing::Standing;

/// This peer: its key, its room, and the log it writes.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) key: SigningKey,
    pub(crate) me: PeerId,
    pub(crate) room: RoomId,
    pub(crate) log: LogId,
    pub(crate) standing: Standing,
}

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

/// The control entries and what follows from them.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    pub(crate) controls: ControlLog,
    pub(crate) derived: Derived,
    pub(crate) roster: Arc<Roster>,
    pub(crate) news: News,
}

/// Messages on their way: own drafts and receipts, ranges asked of others, and how entries spread.
#[derive(Default)]
pub(crate) struct Delivery {
    pub(crate) drafts: Drafts,
    pub(crate) receipts: Receipts,
    pub(crate) sync: Sync,
    pub(crate) dissemination: Dissemination,
}
