//! The store: SQLite on its own thread.
//!
//! One thread owns the read-write connection. It takes queued jobs in groups, executes a group in one transaction,
//! flushes it and only then reports, and a flush serves many messages. What others wrote is shown before the flush. A few
//! read-only connections answer queries and never wait for the writer. Whatever was reported as persisted survives a crash
//! and a power failure.
//!
//! * [`types`]: what callers hand in, and the reports. [`error`]: one error enum per operation.
//! * `writer`: the thread, its queue, transactions, maintenance, checkpoints.
//! * [`tables`]: reads and writes of each group of tables; [`tables::models`] holds the types of the rows.
//! * [`read`]: the pool of read-only connections, history, and following the events.
//! * `retention`: drops the bodies of old messages; fills in bodies that came late.
//! * `open`: creating, migrating, checking and setting aside a database. `dm`: double ratchets of direct messages.
//!
//! The driver of the room (`node`) writes and receives the reports; the HTTP API reads; `app` opens and closes.
//!
//! # What is on disk
//!
//! `room.db`, by table. The truth is what nothing else can give back; the rest is derived from it, or comes again from
//! the room's members. The order of times and incarnations survives SQLite's signed integers (`sql_types::ordered`).
//!
//! | table | holds | truth or derived | indexes |
//! |---|---|---|---|
//! | `facts` | one row: this peer, incarnation, mark of the file, room, how far events are pruned, texts indexed, entries checked, and bodies dropped | truth | |
//! | `peers`, `logs` | row numbers of peers, and of logs (author, incarnation) | truth: others refer to them | unique key; unique (author, incarnation) |
//! | `entries` | every signed entry: header, signature, body, hash | **truth**; other members hold copies | unique hash; unique (log, seq); the control entries |
//! | `lacking` | entries that came without their bodies, which members may still have | truth | |
//! | `held` | up to which row `entries` reached at which time | truth | |
//! | `messages`, `recipients` | what this peer may read of the entries: text, time, visibility, whether the text is gone | derived; texts of direct messages are truth, as ratchet keys are used once | shown: by time, by author and time, direct by time; hidden ones by id |
//! | `search` | FTS5 index over `messages.text` | derived; filled when idle or before a search, rebuilt when damaged | |
//! | `events` | numbered events: a reference to a message, or JSON; neither where only the number is kept | the numbers are truth (cursors); messages' content is derived | events other than messages by id |
//! | `event_times` | from which event on all were written at which time, or up to 10 s later | derived | |
//! | `runs` | random number of each opening of the database, and the newest event then | truth (cursors); the newest 1,000 | |
//! | `keys` | idempotency key, hash of the request, message it posted | truth; pruned after 7 days | by time written |
//! | `addrs`, `seen` | newest address record of each peer; when it was last online | come again from peers | |
//! | `forks` | two entries that prove a fork; `entries` beyond it are filed in branches | truth | unique (log, entry before the fork) |
//! | `dm_account`, `dm_sessions` | Olm account and sessions, encrypted under a key derived from the identity | truth; lost ones are replaced by new ones | unique (peer, session) |
//! | `dm_identities` | identity keys that peers published | derived from control entries | |
//! | `dm_outbox` | own text of a sealed message until its entry is written | truth for that moment; pruned after a day | by time written |
//!
//! Beside it: `room.db-wal` and `room.db-shm` (write-ahead log, empty after a clean stop); `room.json` (id and name of
//! the room and up to 256 address records, so that a lost database returns to its room; whether to check the database);
//! `head.mark` (the newest own entry that was flushed: a database without it was rolled back);
//! `room.db.corrupt-<time>` (a damaged database that was set aside; never deleted).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use chat_core::input::{BatchId, LoadId};
use chat_core::log::entry::{Incarnation, LogId, MessageBody, Seq};
use chat_core::output::LoadScope;
use chat_core::peers::addrs::AddrRecord;
use chat_core::restore::Restored;
use chat_proto::cursor::Cursor;
use chat_proto::id::{MessageId, PeerId};
use chat_proto::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot};
use tracing::{debug, warn};

mod context;
mod dm;
pub mod error;
mod open;
pub mod read;
mod retention;
pub mod tables;
pub mod types;
mod writer;

use context::StoreContext;
use error::{ChangeError, Closed, OpenStoreError, ReadError, SealError, TryWriteError};
use open::restore;
use read::follow::Follower;
use read::query;
use tables::entries::LoadedEntries;
use tables::models::{DmKeys, EventPage, HistoryFilter, HistoryPage, KeyRecord, MessageRow, RoomRecord, StoredEvent};
use tables::{entries, events, idempotency, messages, text_index};
use types::{StoreOptions, StoreReport, Write};
use writer::queue::{self, JobQueue, PushError, Task};
use writer::{checkpoint, maintenance, transaction};

/// Maximum number of unread reports: as many as there can be jobs in the queue, so that the writer never waits for a
/// task that waits for the writer.
const REPORTS_MAX: usize = queue::QUEUE_KIB_MAX as usize;

/// Maximum number of reads for other peers whose reports are not received yet; each holds up to a frame of entries.
const LOADS_MAX: usize = 64;

/// Number of events a live reader may lag behind before it reads from disk again; with the longest texts 32 MiB.
const EVENTS_MAX: usize = 2048;

/// Delay before logs that could not be read are read again.
const RELOAD_AGAIN: Duration = Duration::from_secs(1);

/// An open store.
#[derive(Debug)]
pub struct OpenedStore {
    /// Handle to it.
    pub store: Store,
    /// Its reports.
    pub reports: StoreReports,
    /// Where a damaged database was set aside, if there was one: the room's entries come again from its members.
    pub set_aside: Option<PathBuf>,
}

/// Receives the reports of a store, in order.
#[derive(Debug)]
pub struct StoreReports {
    reports: mpsc::Receiver<(StoreReport, Option<OwnedSemaphorePermit>)>,
    context: Arc<StoreContext>,
}

impl StoreReports {
    /// The next report; `None` when the store has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<StoreReport> {
        let (report, _permit) = self.reports.recv().await?;
        if matches!(report, StoreReport::PersistFailed(..)) {
            self.context.see_failure();
        }
        Some(report)
    }
}

/// Handle to an open store. Cheap to clone. The store ends when it is closed, or when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    queue: JobQueue,
    context: Arc<StoreContext>,
    reports: mpsc::WeakSender<(StoreReport, Option<OwnedSemaphorePermit>)>,
    events: broadcast::WeakSender<Arc<StoredEvent>>,
    loads: Arc<Semaphore>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// Whether `head.mark` was there and agreed when the store was opened.
    mark_agrees: bool,
}

impl Store {
    /// Opens the database, or creates it. A damaged one is set aside. Blocks: call it on a blocking thread.
    ///
    /// # Errors
    /// [`OpenStoreError`] where the database cannot be used.
    pub fn open(path: &Path, options: StoreOptions) -> Result<OpenedStore, OpenStoreError> {
        let open::OpenedDatabase { connection, meta, opening, mark_agrees, set_aside } = open::open(path, &options)?;
        let readers = read::ReadPool::new(path.to_owned());
        let context = StoreContext::read(&connection, meta.clone(), opening.runs().clone(), readers)
            .map_err(|source| OpenStoreError::Database { path: path.to_owned(), source })?;
        let context = Arc::new(context);
        let (queue, jobs) = JobQueue::new();
        let (reports, received) = mpsc::channel(REPORTS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let (weak_reports, weak_events) = (reports.downgrade(), events.downgrade());
        let writer = writer::StoreWriter {
            connection,
            path: path.to_owned(),
            executor: transaction::Executor::new(meta, options.secret, opening),
            context: Arc::clone(&context),
            jobs,
            outlets: writer::Outlets { reports, events },
            log_flusher: writer::log_flusher::LogFlusher::new(path),
            checkpointer: checkpoint::Checkpointer::start(path),
            maintenance: maintenance::Maintenance::new(),
            head_marker: open::head_mark::HeadMarker::new(path),
        };
        let thread = Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenStoreError::Io { path: path.to_owned(), source })?;
        let store = Self {
            queue,
            context: Arc::clone(&context),
            reports: weak_reports,
            events: weak_events,
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            thread: Arc::new(Mutex::new(Some(thread))),
            mark_agrees,
        };
        Ok(OpenedStore { store, reports: StoreReports { reports: received, context }, set_aside })
    }

    /// The room of this database; `None` before one was founded or joined.
    pub fn room(&self) -> Option<RoomRecord> {
        self.context.meta().room.clone()
    }

    /// The incarnation this database writes under: random, and replaced when the file turns out to be a copy.
    pub fn incarnation(&self) -> Incarnation {
        self.context.meta().incarnation
    }

    /// The cursor of an event of this database: a stream that resumes there begins with the next event.
    pub fn cursor(&self, event: u64) -> Cursor {
        self.context.give_out(event);
        self.context.runs.cursor(event)
    }

    /// The event of a cursor; `None` if this database does not hold it, because it is another one or was rolled back.
    pub fn position(&self, cursor: Cursor) -> Option<u64> {
        self.context.runs.position(cursor, self.context.newest_given_out())
    }

    /// Binds a new database to a room that admitted this peer. Founding a room needs no such call.
    ///
    /// # Errors
    /// [`ChangeError::OtherRoom`] when the database holds another room.
    pub async fn begin(&self, room: RoomRecord, addrs: Vec<AddrRecord>) -> Result<(), ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Task::Begin(room, addrs, reply)).await?;
        answer.await.unwrap_or(Err(Closed.into()))
    }

    /// The state a node starts with; `None` before the database has a room.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn restore(&self) -> Result<Option<Restored>, ReadError> {
        let meta = self.context.meta();
        let Some(room) = meta.room.as_ref().map(|room| room.id) else { return Ok(None) };
        let (incarnation, mark_agrees) = (meta.incarnation, self.mark_agrees);
        self.context.readers.ask(move |db| Ok(Some(restore::restore(db, room, incarnation, mark_agrees)?))).await
    }

    /// Queues a write, in the order of the calls.
    ///
    /// # Errors
    /// [`TryWriteError::Full`] returns the write.
    pub fn try_write(&self, write: Write) -> Result<(), TryWriteError> {
        match self.queue.try_push(Task::Write(write, self.context.failures_seen())) {
            Ok(()) => Ok(()),
            Err(PushError::Full(task)) => {
                let Task::Write(write, _) = *task else { return Err(Closed.into()) };
                Err(TryWriteError::Full(Box::new(write)))
            }
            Err(PushError::Closed) => Err(Closed.into()),
        }
    }

    /// Queues a write, waiting for space in the queue. Cancel safe: when cancelled, nothing is written.
    ///
    /// # Errors
    /// [`Closed`] when the writer has ended.
    pub async fn write(&self, write: Write) -> Result<(), Closed> {
        self.queue.push(Task::Write(write, self.context.failures_seen())).await
    }

    /// Reads entries of a log, up to about `bytes_max` bytes and at least one; reported as [`StoreReport::Loaded`]. They
    /// end before a damaged entry, which is reported as [`StoreReport::Damaged`]. The report is empty when too many such reads are in progress or the database cannot be read: the peer asks again.
    /// Must be called within a tokio runtime.
    pub fn load(&self, id: LoadId, log: LogId, (from, to): (Seq, Seq), bytes_max: usize, scope: LoadScope) {
        let Some(reports) = self.reports.upgrade() else { return };
        let Ok(permit) = Arc::clone(&self.loads).try_acquire_owned() else {
            debug!("too many reads for other peers are in progress");
            let _ = reports.try_send((StoreReport::Loaded(id, Vec::new()), None));
            return;
        };
        let context = Arc::clone(&self.context);
        tokio::spawn(async move {
            let read = move |db: &rusqlite::Connection| Ok(entries::load(db, log, from, to, bytes_max, scope)?);
            let LoadedEntries { entries, damaged } = context.readers.ask_for_peer(read).await.unwrap_or_else(|error| {
                warn!(%error, "entries could not be read");
                LoadedEntries::default()
            });
            if let Some(seq) = damaged {
                context.add_damaged(log, seq);
                let _ = reports.send((StoreReport::Damaged(log, seq), None)).await;
            }
            // The permit is held until the report is received.
            let _ = reports.send((StoreReport::Loaded(id, entries), Some(permit))).await;
        });
    }

    /// Reads what a node takes over after a batch that filed entries in branches; reported as [`StoreReport::Refiled`]. Tries
    /// again until the database can be read. Must be called within a tokio runtime.
    pub fn reload(&self, batch: BatchId) {
        let (store, reports) = (self.clone(), self.reports.clone());
        tokio::spawn(async move {
            loop {
                match store.restore().await {
                    Ok(Some(restored)) => {
                        let Some(reports) = reports.upgrade() else { return };
                        let _ = reports.send((StoreReport::Refiled(batch, Box::new(restored)), None)).await;
                        return;
                    }
                    Ok(None) | Err(ReadError::Closed(_)) => return,
                    Err(error) => warn!(%error, "the logs could not be read, trying again"),
                }
                tokio::time::sleep(RELOAD_AGAIN).await;
            }
        });
    }

    /// Events from now on. A reader that lags has to read [`Store::events_after`]; [`Store::follow`] does so.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<StoredEvent>> {
        match self.events.upgrade() {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// Events after a cursor, at most `limit`, fewer when their texts are long; empty only if there are none.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn events_after(&self, cursor: u64, limit: u32) -> Result<EventPage, ReadError> {
        self.context.readers.ask(move |db| Ok(events::after(db, cursor, limit)?)).await
    }

    /// Reads the events after a cursor, then new ones without end: each exactly once.
    pub fn follow(&self, cursor: u64) -> Follower {
        Follower::new(Arc::clone(&self.context), self.subscribe(), cursor)
    }

    /// The newest event on disk; 0 before the first.
    pub fn cursor_now(&self) -> u64 {
        self.context.newest_event()
    }

    /// A cursor that everything written at this time or later follows.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn cursor_at(&self, time: Timestamp) -> Result<u64, ReadError> {
        self.context.readers.ask(move |db| Ok(events::cursor_at(db, time)?)).await
    }

    /// A page of history in the order that is the same at every peer. A search first waits until every message on disk
    /// is in the text index.
    ///
    /// # Errors
    /// [`ReadError::UnknownMessage`] where `before` or `after` names a message that is not stored here.
    pub async fn history(&self, filter: HistoryFilter) -> Result<HistoryPage, ReadError> {
        if filter.words.is_none() {
            return self.context.readers.ask(move |db| query::history(db, &filter)).await;
        }
        self.wait_for_index().await?;
        let again = filter.clone();
        match self.context.readers.ask(move |db| query::history(db, &filter)).await {
            Err(ReadError::Database(error)) if text_index::is_damage(&error) => {
                let (reply, answer) = oneshot::channel();
                self.queue.push(Task::ResetIndex(reply)).await?;
                answer.await.unwrap_or(Err(Closed.into()))?;
                self.wait_for_index().await?;
                self.context.readers.ask(move |db| query::history(db, &again)).await
            }
            found => found,
        }
    }

    async fn wait_for_index(&self) -> Result<(), ReadError> {
        if self.context.is_searchable() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push(Task::Index(reply)).await?;
        answer.await.unwrap_or(Err(Closed.into()))
    }

    /// A message, if it is stored here and shown.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn message(&self, id: MessageId) -> Result<Option<MessageRow>, ReadError> {
        self.context.readers.ask(move |db| Ok(messages::find(db, id)?)).await
    }

    /// Number of messages that are shown.
    pub fn messages_count(&self) -> u64 {
        self.context.messages()
    }

    /// Number of stored entries that were found damaged and for which no member has given a good copy yet.
    pub fn damaged_count(&self) -> u64 {
        self.context.damaged() as u64
    }

    /// Number of transactions since the store was opened.
    pub fn commits_count(&self) -> u64 {
        self.context.commits()
    }

    /// The messages that were posted under idempotency keys, in the order of the keys.
    ///
    /// # Errors
    /// [`ReadError`] where the database cannot be read.
    pub async fn find_keys(&self, keys: Vec<String>) -> Result<Vec<Option<KeyRecord>>, ReadError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let find = move |db: &rusqlite::Connection| {
            Ok(keys.iter().map(|key| idempotency::find(db, key)).collect::<rusqlite::Result<_>>()?)
        };
        self.context.readers.ask(find).await
    }

    /// Keys to publish with [`chat_core::input::Command::PublishKeys`] if the roster does not have them yet.
    pub fn dm_keys(&self) -> DmKeys {
        self.context.dm_keys()
    }

    /// Makes a new fallback key; the previous one is kept until the next change.
    ///
    /// # Errors
    /// [`ChangeError`] where the disk fails.
    pub async fn rotate_dm_keys(&self) -> Result<DmKeys, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Task::RotateKeys(reply)).await?;
        answer.await.unwrap_or(Err(Closed.into()))
    }

    /// Drops the bodies of some messages whose entries were held before a time; returns whether there may be more. The rest
    /// of the entries is kept, and the messages are shown as [`tables::models::DROPPED_TEXT`].
    ///
    /// # Errors
    /// [`ChangeError`] where the disk fails.
    pub async fn drop_bodies(&self, held_before: Timestamp) -> Result<bool, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Task::DropBodies(held_before, reply)).await?;
        answer.await.unwrap_or(Err(Closed.into()))
    }

    /// Seals a direct message for its recipients; this peer itself is left out. The advanced sessions are on disk
    /// before this returns. When the entry with this body is persisted, its message shows the text.
    ///
    /// # Errors
    /// [`SealError`]; nothing was sealed.
    pub async fn seal(
        &self,
        to: Vec<(PeerId, DmKeys)>,
        text: String,
        reply_to: Option<MessageId>,
    ) -> Result<MessageBody, SealError> {
        let (reply, answer) = oneshot::channel();
        match self.queue.try_push(Task::Seal(dm::SealRequest { to, text, reply_to }, reply)) {
            Ok(()) => answer.await.unwrap_or(Err(Closed.into())),
            Err(PushError::Full(_)) => Err(SealError::Busy),
            Err(PushError::Closed) => Err(Closed.into()),
        }
    }

    /// Writes everything that is queued, then ends the store. Later calls fail.
    pub async fn close(&self) {
        // An error means that the writer has ended already.
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
impl Store {
    /// The message that was posted under an idempotency key.
    pub(crate) async fn find_key(&self, key: &str) -> Result<Option<KeyRecord>, ReadError> {
        Ok(self.find_keys(vec![key.to_owned()]).await?.into_iter().next().flatten())
    }

    /// Ends the store and waits until its files are closed, without a runtime. For fixtures, when they are dropped.
    pub(crate) fn close_blocking(&self) {
        // An error means that the writer has ended, or ends because every handle is dropped.
        let _ = self.queue.try_push(Task::Close);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = thread.map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests;
