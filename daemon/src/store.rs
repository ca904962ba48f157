//! The store: SQLite on its own thread.
//!
//! One thread owns the read-write connection. It takes what waits in a bounded queue, executes it in one transaction,
//! flushes it and only then reports: many messages share one flush. Questions are answered by a few read-only
//! connections and never wait for the writer. What was reported as persisted survives a crash and a loss of power.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chat_core::admission::AddrRecord;
use chat_core::input::{BatchId, CommandId, LoadId, PersistError};
use chat_core::log::entry::{Incarnation, LogId, MessageBody, Seq, SignedEntry};
use chat_core::output::Batch;
use chat_core::restore::Restored;
use chat_proto::event::Event;
use chat_proto::id::{MessageId, PeerId};
use chat_proto::time::Timestamp;
use tokio::sync::{broadcast, mpsc};

use crate::node::handle::Idempotency;

pub mod error;
pub mod follow;
pub mod rows;

use error::{ChangeError, Closed, OpenError, ReadError, SealError, TryWriteError};
use follow::Follower;
use rows::{DmKeys, EventPage, HistoryFilter, HistoryPage, KeyRecord, MessageRow, Room, StoredEvent};

/// What opening a store needs to know.
#[derive(Clone, Debug)]
pub struct Opening {
    /// This peer.
    pub me: PeerId,
    /// Whether a database may be created.
    pub absent: Absent,
    /// Encrypts the state of direct-message sessions; derived from the identity.
    pub secret: Secret,
}

/// What to do where there is no database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Create one.
    Create,
    /// Refuse, unless the sidecar file names the room to return to.
    Refuse,
}

/// 32 secret bytes, which are not printed.
#[derive(Clone)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An open store.
#[derive(Debug)]
pub struct Opened {
    /// Reaches it.
    pub store: Store,
    /// What it reports.
    pub reports: Reports,
    /// Where a damaged database was put, if there was one: the room's entries come again from its members.
    pub set_aside: Option<PathBuf>,
}

/// Something to write down.
#[derive(Clone, Debug)]
pub enum Write {
    /// Entries, and the keys under which retries find the messages of these commands. Reported as
    /// [`Report::Persisted`] or [`Report::PersistFailed`]. The first entry of a room makes it this database's room.
    Batch(Batch, HashMap<CommandId, Idempotency>),
    /// An event other than [`Event::Message`], which comes with its entry.
    Event(Box<Event>),
    /// Messages of this log past this place are hidden.
    Hide(LogId, Seq),
    /// Address records, where they are newer than those that are held.
    Addrs(Vec<AddrRecord>),
    /// Proof of a fork.
    Fork(Box<SignedEntry>, Box<SignedEntry>),
    /// When peers were last heard of.
    Seen(Vec<(PeerId, Timestamp)>),
    /// Write under this incarnation from now on.
    Incarnation(Incarnation),
}

/// What the store tells the task that owns the room.
#[derive(Debug)]
pub enum Report {
    /// The batch is on disk, flushed.
    Persisted(BatchId),
    /// Nothing of the batch is on disk, nor of any batch that was given before this report was read.
    PersistFailed(BatchId, PersistError),
    /// Entries that were asked for with [`Store::load`].
    Loaded(LoadId, Vec<SignedEntry>),
}

/// Reports of the store, in order.
#[derive(Debug)]
pub struct Reports {
    reports: mpsc::Receiver<Report>,
}

impl Reports {
    /// The next report; none when the store has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<Report> {
        self.reports.recv().await
    }
}

/// Reaches the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reports: mpsc::Sender<Report>,
    events: broadcast::Sender<Arc<StoredEvent>>,
}

impl Store {
    /// Opens the database, or creates it. A damaged one is set aside. Blocks: call it on a blocking thread.
    ///
    /// # Errors
    /// Says why it cannot be used.
    pub fn open(path: &Path, opening: Opening) -> Result<Opened, OpenError> {
        let _ = opening;
        Err(OpenError::Missing(path.to_owned()))
    }

    /// The room of this database; none before it was founded or joined.
    pub fn room(&self) -> Option<Room> {
        None
    }

    /// The number this database writes under: random, and another one once the file was copied.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(0)
    }

    /// Random number of the database, for [`chat_proto::cursor::Cursor`].
    pub fn database(&self) -> u32 {
        0
    }

    /// Makes a new database that of a room that this peer was let into. One that founds a room needs no such call.
    ///
    /// # Errors
    /// [`ChangeError::OtherRoom`] when it is of a room already.
    pub async fn begin(&self, room: Room, addrs: Vec<AddrRecord>) -> Result<(), ChangeError> {
        let _ = (room, addrs);
        Err(Closed.into())
    }

    /// What a node begins with; none before the database has a room.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn restore(&self) -> Result<Option<Restored>, ReadError> {
        Err(Closed.into())
    }

    /// Queues a write, in the order of the calls.
    ///
    /// # Errors
    /// [`TryWriteError::Full`] gives it back.
    pub fn try_write(&self, write: Write) -> Result<(), TryWriteError> {
        let _ = write;
        Err(Closed.into())
    }

    /// Queues a write as soon as there is room for it. Cancel safe: when cancelled, nothing is written.
    ///
    /// # Errors
    /// [`Closed`] when the writer has ended.
    pub async fn write(&self, write: Write) -> Result<(), Closed> {
        let _ = write;
        Err(Closed)
    }

    /// Reads entries of a log, up to about `bytes_max` bytes and at least one; reported as [`Report::Loaded`]. Must be
    /// called within a tokio runtime.
    pub fn load(&self, id: LoadId, log: LogId, from: Seq, to: Seq, bytes_max: usize) {
        let _ = (&self.reports, id, log, from, to, bytes_max);
    }

    /// New events, from now on. A reader that lags goes back to [`Store::events_after`].
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<StoredEvent>> {
        self.events.subscribe()
    }

    /// Events behind a cursor, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn events_after(&self, cursor: u64, limit: u32) -> Result<EventPage, ReadError> {
        let _ = (cursor, limit);
        Err(Closed.into())
    }

    /// Reads the events behind a cursor, then new ones for ever, none missed and none twice.
    pub fn follow(&self, cursor: u64) -> Follower {
        Follower::new(self.clone(), cursor)
    }

    /// The newest event on disk; 0 before the first.
    pub fn cursor_now(&self) -> u64 {
        0
    }

    /// A cursor behind which lies everything that was written at this time or later.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn cursor_at(&self, time: Timestamp) -> Result<u64, ReadError> {
        let _ = time;
        Err(Closed.into())
    }

    /// A page of history in the shared order.
    ///
    /// # Errors
    /// [`ReadError::UnknownMessage`] where `before` or `after` names one that is not held.
    pub async fn history(&self, filter: HistoryFilter) -> Result<HistoryPage, ReadError> {
        let _ = filter;
        Err(Closed.into())
    }

    /// A message that this peer may read.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn message(&self, id: MessageId) -> Result<Option<MessageRow>, ReadError> {
        let _ = id;
        Err(Closed.into())
    }

    /// How many messages this peer can read.
    pub fn messages_count(&self) -> u64 {
        0
    }

    /// What was posted under a key.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn find_key(&self, key: &str) -> Result<Option<KeyRecord>, ReadError> {
        let _ = key;
        Err(Closed.into())
    }

    /// Keys to publish with [`chat_core::input::Command::PublishKeys`], where the roster does not show them yet.
    pub fn dm_keys(&self) -> DmKeys {
        DmKeys { identity: [0; 32], fallback: [0; 32] }
    }

    /// Makes a new fallback key; the one before it is kept until the next change.
    ///
    /// # Errors
    /// [`ChangeError`] where the disk fails.
    pub async fn rotate_dm_keys(&self) -> Result<DmKeys, ChangeError> {
        Err(Closed.into())
    }

    /// Seals a direct message for its recipients; this peer itself is left out. The advanced sessions are on disk before
    /// this returns. When the entry with this body is persisted, its message shows the text.
    ///
    /// # Errors
    /// [`SealError`]; nothing may be sent then.
    pub async fn seal(&self, to: Vec<(PeerId, DmKeys)>, text: String) -> Result<MessageBody, SealError> {
        let _ = (to, text);
        Err(Closed.into())
    }

    /// Writes what waits, and ends. Later calls fail.
    pub async fn close(&self) {}
}
