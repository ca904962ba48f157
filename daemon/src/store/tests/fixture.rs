//! Test fixtures: authors that sign entries, and homes in which stores are opened.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chat_core::input::{BatchId, CommandId, PersistError};
use chat_core::log::entry::{Body, Control, Entry, Header, Hlc, Incarnation, LogId, MessageBody, Seq};
use chat_core::output::{Batch, BatchEntry, Changes};
use chat_proto::id::{EntryHash, PeerId, RoomId};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use crate::store::error::OpenStoreError;
use crate::store::tables::models::{HistoryFilter, Idempotency, RoomRecord};
use crate::store::types::{Absent, Secret, StoreOptions, StoreReport, Write};
use crate::store::writer::queue::Task;
use crate::store::{OpenedStore, Store, StoreReports};

/// Longest wait for anything in a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A fixed time, in milliseconds.
pub(crate) const THEN: u64 = 1_790_000_000_000;

/// The room of most tests.
pub(crate) const ROOM: RoomId = RoomId::from_bytes([9; 32]);

pub(crate) fn room() -> RoomRecord {
    RoomRecord { id: ROOM, name: "lab".into(), open: false }
}

/// A peer that writes a log.
#[derive(Clone)]
pub(crate) struct TestAuthor {
    pub(crate) key: SigningKey,
    pub(crate) log: LogId,
    pub(crate) room: RoomId,
    seq: Seq,
    backlink: Option<EntryHash>,
    clock: Hlc,
}

impl TestAuthor {
    pub(crate) fn new(n: u8) -> Self {
        Self::with(n, Incarnation(u64::from(n)))
    }

    pub(crate) fn with(n: u8, incarnation: Incarnation) -> Self {
        let key = SigningKey::from_bytes(&[n; 32]);
        let author = PeerId::from_bytes(key.verifying_key().to_bytes());
        let log = LogId { author, incarnation };
        Self { key, log, room: ROOM, seq: Seq::ZERO, backlink: None, clock: Hlc::default() }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.log.author
    }

    /// The next entry, just after the previous one.
    pub(crate) fn write(&mut self, body: Body) -> Arc<Entry> {
        self.write_at(body, self.clock.next().max(Hlc::from_wall(Timestamp::from_ms(THEN))))
    }

    pub(crate) fn write_at(&mut self, body: Body, time: Hlc) -> Arc<Entry> {
        self.seq = self.seq.next();
        self.clock = time;
        let genesis = matches!(body, Body::Control(Control::Genesis { .. }));
        let header = Header {
            version: 1,
            room: if genesis { RoomId::from_bytes([0; 32]) } else { self.room },
            log: self.log,
            seq: self.seq,
            backlink: self.backlink,
            time,
            deps: Vec::new(),
            body_hash: [0; 32],
            body_bytes: 0,
        };
        let entry = Entry::sign(header, body, &self.key).expect("within bounds");
        self.backlink = Some(entry.hash());
        Arc::new(entry)
    }

    pub(crate) fn say(&mut self, text: &str) -> Arc<Entry> {
        self.write(texts(&[text]))
    }
}

pub(crate) fn texts(texts: &[&str]) -> Body {
    Body::Messages(texts.iter().map(|text| MessageBody::Text((*text).into())).collect())
}

pub(crate) fn shown(entry: &Arc<Entry>) -> BatchEntry {
    BatchEntry { entry: Arc::clone(entry), origins: Vec::new(), visible: true, clock: None, clock_off_ms: None }
}

/// A home directory and the identity that opens its store.
pub(crate) struct StoreHome {
    pub(crate) dir: TempDir,
    pub(crate) me: PeerId,
}

impl StoreHome {
    pub(crate) fn new(me: PeerId) -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), me }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("room.db")
    }

    pub(crate) fn options(&self, absent: Absent) -> StoreOptions {
        StoreOptions { me: self.me, absent, secret: Secret([42; 32]) }
    }

    pub(crate) fn try_open(&self, absent: Absent) -> Result<TestStore, OpenStoreError> {
        let OpenedStore { store, reports, set_aside } = Store::open(&self.path(), self.options(absent))?;
        Ok(TestStore { store, reports, batch: 0, set_aside })
    }

    pub(crate) fn open(&self) -> TestStore {
        self.try_open(Absent::Create).expect("opens")
    }

    /// Opens a store and binds it to [`ROOM`].
    pub(crate) async fn open_in_room(&self) -> TestStore {
        let opened = self.open();
        opened.store.begin(room(), Vec::new()).await.expect("begins");
        opened
    }
}

/// An open store and its reports. Dropping it waits for the writer, which would otherwise write files into a home that
/// is being removed.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) reports: StoreReports,
    pub(crate) set_aside: Option<PathBuf>,
    batch: u64,
}

impl Drop for TestStore {
    fn drop(&mut self) {
        self.store.close_blocking();
    }
}

impl TestStore {
    pub(crate) async fn report(&mut self) -> StoreReport {
        let report = tokio::time::timeout(DEADLINE, self.reports.recv()).await;
        report.expect("a report in time").expect("the store is open")
    }

    /// Queues a batch without waiting for its report.
    pub(crate) async fn queue_batch(
        &mut self,
        entries: Vec<BatchEntry>,
        keys: HashMap<CommandId, Idempotency>,
    ) -> BatchId {
        self.batch += 1;
        let id = BatchId(self.batch);
        self.store
            .write(Write::Batch(Batch { id, entries, bodies: Vec::new(), changes: Changes::default() }, keys))
            .await
            .expect("the store is open");
        id
    }

    /// Writes what followed from entries that are stored.
    pub(crate) async fn change(&mut self, changes: Changes) {
        self.batch += 1;
        let batch = Batch { id: BatchId(self.batch), entries: Vec::new(), bodies: Vec::new(), changes };
        self.store.write(Write::Batch(batch, HashMap::new())).await.expect("the store is open");
        let report = self.report().await;
        assert!(matches!(report, StoreReport::Persisted(id) if id.0 == self.batch), "{report:?}");
    }

    pub(crate) async fn cut(&mut self, log: LogId, upto: Seq) {
        self.change(Changes { cuts: [(log, upto)].into(), ..Changes::default() }).await;
    }

    pub(crate) async fn try_persist(&mut self, entries: Vec<BatchEntry>) -> Result<(), PersistError> {
        let queued = self.queue_batch(entries, HashMap::new()).await;
        let report = self.report().await;
        match report {
            StoreReport::Persisted(id) => {
                assert_eq!(id, queued);
                Ok(())
            }
            StoreReport::PersistFailed(id, error) => {
                assert_eq!(id, queued);
                Err(error)
            }
            StoreReport::Loaded(..) | StoreReport::Refiled(..) | StoreReport::Damaged(..) => {
                panic!("{report:?} instead of the report of {queued:?}")
            }
        }
    }

    pub(crate) async fn persist(&mut self, entries: &[&Arc<Entry>]) {
        let entries = entries.iter().map(|entry| shown(entry)).collect();
        self.try_persist(entries).await.expect("persists");
    }

    /// Waits until everything that was queued before is written.
    pub(crate) async fn flush(&self) {
        self.store.begin(self.store.room().unwrap_or_else(room), Vec::new()).await.expect("written");
    }

    /// Changes a setting of the writer's connection.
    pub(crate) async fn pragma(&self, sql: &str) {
        let (reply, done) = tokio::sync::oneshot::channel();
        self.store.queue.push(Task::Pragma(sql.into(), reply)).await.expect("the store is open");
        done.await.expect("the store is open");
    }

    /// Texts of the whole history, in order.
    pub(crate) async fn texts(&self) -> Vec<String> {
        let filter = HistoryFilter { limit: HistoryFilter::LIMIT_MAX, ..HistoryFilter::default() };
        let page = self.store.history(filter).await.expect("reads");
        page.messages.into_iter().map(|row| row.text).collect()
    }
}
