//! The parts of a node: each holds the state of one concern.
//!
//! A handler ([`DoorHandler`](crate::admission::door::DoorHandler), [`Fetcher`](crate::node::sync) …) borrows
//! the parts that it may change mutably and those that it only reads immutably. What concerns several parts is decided in
//! `impl Node`.

use std::sync::Arc;

use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;

use crate::delivery::drafts::Drafts;
use crate::delivery::receipts::Receipts;
use crate::log::entry::LogId;
use crate::log::heads::Heads;
use crate::log::pending::Pending;
use crate::membership::control_log::ControlLog;
use crate::membership::derive::Derived;
use crate::membership::roster::Roster;
use crate::node::forks::Forks;
use crate::node::members::News;
use crate::node::persist::Disk;
use crate::node::sync::Sync;
use crate::node::tree::Dissemination;

/// This peer: its key, its room, and the log it writes.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) key: SigningKey,
    pub(crate) me: PeerId,
    pub(crate) room: RoomId,
    pub(crate) log: LogId,
}

/// All authors' logs: what is applied, what waits, what is forked, what is on its way to the disk.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    pub(crate) heads: Heads,
    pub(crate) pending: Pending,
    pub(crate) forks: Forks,
    pub(crate) disk: Disk,
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
