//! What callers hand to the store, and what it reports to the task that owns the room.

use std::collections::HashMap;
use std::sync::Arc;

use chat_core::input::{BatchId, CommandId, LoadId, PersistError};
use chat_core::log::entry::{Entry, LogId, Seq, SignedEntry};
use chat_core::output::Batch;
use chat_core::peers::addrs::AddrRecord;
use chat_core::restore::Restored;
use chat_proto::event::Event;
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;

use crate::store::tables::models::Idempotency;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// This peer.
    pub me: PeerId,
    /// What to do where there is no database.
    pub absent: Absent,
    /// Encrypts the state of direct-message sessions; derived from the identity.
    pub secret: Secret,
}

/// What to do where there is no database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Create one.
    Create,
    /// Refuse, unless `room.json` names the room to return to.
    Refuse,
}

/// 32 secret bytes, left out of debug output.
#[derive(Clone)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A write to the database.
#[derive(Clone, Debug)]
pub enum Write {
    /// Entries with what changes with them, and the idempotency keys of the commands that caused them. Reported as [`StoreReport::Persisted`] or
    /// [`StoreReport::PersistFailed`]. The first entry of a room binds the database to that room.
    Batch(Batch, HashMap<CommandId, Idempotency>),
    /// An event other than [`Event::Message`], which is written with its entry.
    Event(Box<Event>),
    /// Address records; older ones than those on disk are ignored.
    Addrs(Vec<AddrRecord>),
    /// When peers were last seen online.
    Seen(Vec<(PeerId, Timestamp)>),
    /// A good copy of a damaged entry.
    Repair(Arc<Entry>),
}

/// A report to the task that owns the room.
#[derive(Debug)]
pub enum StoreReport {
    /// The batch is on disk, flushed.
    Persisted(BatchId),
    /// This batch is not on disk, nor is any batch that was queued before this report was received. Entries of others may be there, not flushed; they can be written again.
    PersistFailed(BatchId, PersistError),
    /// Answer to [`Store::load`](crate::store::Store::load).
    Loaded(LoadId, Vec<SignedEntry>),
    /// Answer to [`Store::reload`](crate::store::Store::reload).
    Refiled(BatchId, Box<Restored>),
    /// This entry is damaged on disk: a good copy is needed. May be repeated.
    Damaged(LogId, Seq),
}
