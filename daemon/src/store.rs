//! The store: SQLite on its own thread.
//!
//! One thread owns the read-write connection. It takes what waits in a bounded queue, executes it in one transaction,
//! flushes it and only then reports: many messages share one flush. Questions are answered by a few read-only
//! connections and never wait for the writer. What was reported as persisted survives a crash and a loss of power.
//!
//! * [`tables::models`]: what is given out. [`error`]: why something is refused. [`read::follow`]: reading the events for ever.
//! * `jobs`, `writer`, `execute`, `chores`, `deferred`, `checkpoint`: the thread.
//! * `entries`, `messages`, `events`, `keys`, `restore`, `facts`: what is written and read, a file for each table.
//! * `query`, `search`: history and full text.
//! * `dm`: what makes direct messages readable by their ends alone.
//! * `open`, `schema`, `sidecar`: how a database comes to be, and what is done when it is damaged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use chat_core::input::{BatchId, CommandId, LoadId, PersistError};
use chat_core::log::entry::{Incarnation, LogId, MessageBody, Seq, SignedEntry};
use chat_core::output::Batch;
use chat_core::peers::addrs::AddrRecord;
use chat_core::restore::Restored;
use chat_proto::event::Event;
use chat_proto::id::{MessageId, PeerId};
use chat_proto::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot};
use tracing::{debug, warn};

use crate::node::handle::Idempotency;

mod context;
mod dm;
pub mod error;
mod open;
pub mod read;
pub mod tables;
mod writer;

use context::Shared;
use error::{ChangeError, Closed, OpenError, ReadError, SealError, TryWriteError};
use open::restore;
use read::follow::Follower;
use read::{query, search};
use tables::models::{DmKeys, EventPage, HistoryFilter, HistoryPage, KeyRecord, MessageRow, Room, StoredEvent};
use tables::{entries, events, idempotency, messages};
use writer::queue::{PushError, Queue, Task};
use writer::{checkpoint, maintenance, queue, transaction};

/// Most reports that nobody has read yet: as many as there can be jobs in the queue, so that the writer never waits for
/// a task that waits for the writer.
const REPORTS_MAX: usize = queue::QUEUE_KIB_MAX as usize;

/// Most reads for other peers that were asked for and not taken yet: each holds up to a frame of entries.
const LOADS_MAX: usize = 64;

/// Events that a live reader may lag behind before it has to go back to the disk; with the longest texts 32 MiB.
const EVENTS_MAX: usize = 2048;

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
    /// Messages of this log past this place are hidden; those up to it that are hidden are shown again.
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
    reports: mpsc::Receiver<(Report, Option<OwnedSemaphorePermit>)>,
    shared: Arc<Shared>,
}

impl Reports {
    /// The next report; none when the store has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<Report> {
        let (report, _room) = self.reports.recv().await?;
        if matches!(report, Report::PersistFailed(..)) {
            self.shared.hear_failure();
        }
        Some(report)
    }
}

/// Reaches the store. Cheap to clone. The store ends when it is closed, or when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    queue: Queue,
    shared: Arc<Shared>,
    reports: mpsc::WeakSender<(Report, Option<OwnedSemaphorePermit>)>,
    events: broadcast::WeakSender<Arc<StoredEvent>>,
    loads: Arc<Semaphore>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Opens the database, or creates it. A damaged one is set aside. Blocks: call it on a blocking thread.
    ///
    /// # Errors
    /// Says why it cannot be used.
    pub fn open(path: &Path, opening: Opening) -> Result<Opened, OpenError> {
        let open::Ready { connection, facts, set_aside } = open::open(path, &opening)?;
        let readers = read::Readers::new(path.to_owned());
        let shared = Shared::read(&connection, facts.clone(), readers)
            .map_err(|source| OpenError::Database { path: path.to_owned(), source })?;
        let shared = Arc::new(shared);
        let (queue, waiting) = Queue::new();
        let (reports, heard) = mpsc::channel(REPORTS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let (weak_reports, weak_events) = (reports.downgrade(), events.downgrade());
        let writer = writer::Writer {
            connection,
            path: path.to_owned(),
            hand: transaction::Hand::new(facts, opening.secret),
            shared: Arc::clone(&shared),
            waiting,
            outlets: writer::Outlets { reports, events },
            checkpointer: checkpoint::Checkpointer::start(path),
            chores: maintenance::Chores::new(),
        };
        let thread = Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let store = Self {
            queue,
            shared: Arc::clone(&shared),
            reports: weak_reports,
            events: weak_events,
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            thread: Arc::new(Mutex::new(Some(thread))),
        };
        Ok(Opened { store, reports: Reports { reports: heard, shared }, set_aside })
    }

    /// The room of this database; none before it was founded or joined.
    pub fn room(&self) -> Option<Room> {
        self.shared.facts().room.clone()
    }

    /// The number this database writes under: random, and another one once the file was copied.
    pub fn incarnation(&self) -> Incarnation {
        self.shared.facts().incarnation
    }

    /// Random number of the database, for [`chat_proto::cursor::Cursor`].
    pub fn database(&self) -> u32 {
        self.shared.facts().database
    }

    /// Makes a new database that of a room that this peer was let into. One that founds a room needs no such call.
    ///
    /// # Errors
    /// [`ChangeError::OtherRoom`] when it is of a room already.
    pub async fn begin(&self, room: Room, addrs: Vec<AddrRecord>) -> Result<(), ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Task::Begin(room, addrs, reply)).await?;
        answer.await.unwrap_or(Err(Closed.into()))
    }

    /// What a node begins with; none before the database has a room.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn restore(&self) -> Result<Option<Restored>, ReadError> {
        let facts = self.shared.facts();
        let Some(room) = facts.room.as_ref().map(|room| room.id) else { return Ok(None) };
        let incarnation = facts.incarnation;
        self.shared.readers.ask(move |db| Ok(Some(restore::restore(db, room, incarnation)?))).await
    }

    /// Queues a write, in the order of the calls.
    ///
    /// # Errors
    /// [`TryWriteError::Full`] gives it back.
    pub fn try_write(&self, write: Write) -> Result<(), TryWriteError> {
        match self.queue.try_push(Task::Write(write, self.shared.failures_heard())) {
            Ok(()) => Ok(()),
            Err(PushError::Full(Task::Write(write, _))) => Err(TryWriteError::Full(Box::new(write))),
            Err(PushError::Full(_) | PushError::Closed) => Err(Closed.into()),
        }
    }

    /// Queues a write as soon as there is room for it. Cancel safe: when cancelled, nothing is written.
    ///
    /// # Errors
    /// [`Closed`] when the writer has ended.
    pub async fn write(&self, write: Write) -> Result<(), Closed> {
        self.queue.push(Task::Write(write, self.shared.failures_heard())).await
    }

    /// Reads entries of a log, up to about `bytes_max` bytes and at least one; reported as [`Report::Loaded`]. When too
    /// many such reads are under way, or the database cannot be read, none are reported: the peer asks again. Must be
    /// called within a tokio runtime.
    pub fn load(&self, id: LoadId, log: LogId, from: Seq, to: Seq, bytes_max: usize) {
        let Some(reports) = self.reports.upgrade() else { return };
        let Ok(room) = Arc::clone(&self.loads).try_acquire_owned() else {
            debug!("too many reads for other peers are under way");
            let _ = reports.try_send((Report::Loaded(id, Vec::new()), None));
            return;
        };
        let readers = Arc::clone(&self.shared.readers);
        tokio::spawn(async move {
            let read = move |db: &rusqlite::Connection| Ok(entries::load(db, log, from, to, bytes_max)?);
            let entries = readers.ask_for_peer(read).await.unwrap_or_else(|error| {
                warn!(%error, "entries could not be read");
                Vec::new()
            });
            // The room is taken until the report is read.
            let _ = reports.send((Report::Loaded(id, entries), Some(room))).await;
        });
    }

    /// New events, from now on. A reader that lags goes back to [`Store::events_after`]; [`Store::follow`] does.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<StoredEvent>> {
        match self.events.upgrade() {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// Events behind a cursor, at most `limit` and fewer where their texts are long; none only where there are none.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn events_after(&self, cursor: u64, limit: u32) -> Result<EventPage, ReadError> {
        self.shared.readers.ask(move |db| Ok(events::after(db, cursor, limit)?)).await
    }

    /// Reads the events behind a cursor, then new ones for ever, none missed and none twice.
    pub fn follow(&self, cursor: u64) -> Follower {
        Follower::new(self.clone(), cursor)
    }

    /// The newest event on disk; 0 before the first.
    pub fn cursor_now(&self) -> u64 {
        self.shared.newest_event()
    }

    /// A cursor behind which lies everything that was written at this time or later.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn cursor_at(&self, time: Timestamp) -> Result<u64, ReadError> {
        self.shared.readers.ask(move |db| Ok(events::cursor_at(db, time)?)).await
    }

    /// A page of history in the shared order. A search waits until every message on disk is in the text index.
    ///
    /// # Errors
    /// [`ReadError::UnknownMessage`] where `before` or `after` names one that is not held.
    pub async fn history(&self, filter: HistoryFilter) -> Result<HistoryPage, ReadError> {
        if filter.words.is_none() {
            return self.shared.readers.ask(move |db| query::history(db, &filter)).await;
        }
        self.index().await?;
        let again = filter.clone();
        match self.shared.readers.ask(move |db| query::history(db, &filter)).await {
            Err(ReadError::Database(error)) if search::is_damage(&error) => {
                let (reply, answer) = oneshot::channel();
                self.queue.push(Task::ResetIndex(reply)).await?;
                answer.await.unwrap_or(Err(Closed.into()))?;
                self.index().await?;
                self.shared.readers.ask(move |db| query::history(db, &again)).await
            }
            found => found,
        }
    }

    async fn index(&self) -> Result<(), ReadError> {
        if self.shared.is_searchable() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push(Task::Index(reply)).await?;
        answer.await.unwrap_or(Err(Closed.into()))
    }

    /// A message that this peer may read.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn message(&self, id: MessageId) -> Result<Option<MessageRow>, ReadError> {
        self.shared.readers.ask(move |db| Ok(messages::find(db, id)?)).await
    }

    /// How many messages this peer can read.
    pub fn messages_count(&self) -> u64 {
        self.shared.messages()
    }

    /// How many transactions were flushed since the store was opened.
    pub fn commits_count(&self) -> u64 {
        self.shared.commits()
    }

    /// What was posted under a key.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn find_key(&self, key: &str) -> Result<Option<KeyRecord>, ReadError> {
        let key = key.to_owned();
        self.shared.readers.ask(move |db| Ok(idempotency::find(db, &key)?)).await
    }

    /// Keys to publish with [`chat_core::input::Command::PublishKeys`], where the roster does not show them yet.
    pub fn dm_keys(&self) -> DmKeys {
        self.shared.dm_keys()
    }

    /// Makes a new fallback key; the one before it is kept until the next change.
    ///
    /// # Errors
    /// [`ChangeError`] where the disk fails.
    pub async fn rotate_dm_keys(&self) -> Result<DmKeys, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Task::RotateKeys(reply)).await?;
        answer.await.unwrap_or(Err(Closed.into()))
    }

    /// Seals a direct message for its recipients; this peer itself is left out. The advanced sessions are on disk before
    /// this returns. When the entry with this body is persisted, its message shows the text.
    ///
    /// # Errors
    /// [`SealError`]; nothing may be sent then.
    pub async fn seal(&self, to: Vec<(PeerId, DmKeys)>, text: String) -> Result<MessageBody, SealError> {
        let (reply, answer) = oneshot::channel();
        match self.queue.try_push(Task::Seal(dm::SealRequest { to, text }, reply)) {
            Ok(()) => answer.await.unwrap_or(Err(Closed.into())),
            Err(PushError::Full(_)) => Err(SealError::Busy),
            Err(PushError::Closed) => Err(Closed.into()),
        }
    }

    /// Writes what waits, and ends. Later calls fail.
    pub async fn close(&self) {
        // An error says that it has ended already.
        let _ = self.queue.push(Task::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            if !matches!(joined, Ok(true)) {
                warn!("the store's thread panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
