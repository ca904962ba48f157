//! State that the writer publishes after each commit, and that handles read without a query.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use chat_core::log::entry::{LogId, Seq};
use rusqlite::Connection;
use tracing::error;

use crate::store::dm;
use crate::store::read::ReadPool;
use crate::store::tables::events;
use crate::store::tables::messages;
use crate::store::tables::meta::{StoreMeta, searchable};
use crate::store::tables::models::DmKeys;
use crate::store::tables::runs::Runs;

/// State shared by the writer, the handles and the followers. Only the writer changes it, except for `failures_seen`.
#[derive(Debug)]
pub(super) struct StoreContext {
    pub(super) readers: Arc<ReadPool>,
    pub(super) runs: Runs,
    meta: ArcSwap<StoreMeta>,
    dm_keys: ArcSwap<DmKeys>,
    newest_event: AtomicU64,
    /// Newest event of which a cursor was given out: a reader may take one from the disk before the writer announces it.
    given_out: AtomicU64,
    messages: AtomicU64,
    newest_message: AtomicI64,
    searchable: AtomicI64,
    failures_seen: AtomicU64,
    commits: AtomicU64,
    damaged: Mutex<BTreeSet<(LogId, Seq)>>,
}

/// Maximum number of damaged entries that are counted.
const DAMAGED_MAX: usize = 10_000;

impl StoreContext {
    pub(super) fn read(
        connection: &Connection,
        meta: StoreMeta,
        runs: Runs,
        readers: ReadPool,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            readers: Arc::new(readers),
            runs,
            meta: ArcSwap::from_pointee(meta),
            dm_keys: ArcSwap::from_pointee(dm::keys(connection)?),
            newest_event: AtomicU64::new(events::newest(connection)?),
            given_out: AtomicU64::new(0),
            messages: AtomicU64::new(messages::count(connection)?),
            newest_message: AtomicI64::new(messages::newest(connection)?),
            searchable: AtomicI64::new(searchable(connection)?),
            failures_seen: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            damaged: Mutex::default(),
        })
    }

    pub(super) fn meta(&self) -> Arc<StoreMeta> {
        self.meta.load_full()
    }

    pub(super) fn set_meta(&self, meta: StoreMeta) {
        self.meta.store(Arc::new(meta));
    }

    pub(super) fn dm_keys(&self) -> DmKeys {
        **self.dm_keys.load()
    }

    pub(super) fn set_dm_keys(&self, keys: DmKeys) {
        self.dm_keys.store(Arc::new(keys));
    }

    pub(super) fn newest_event(&self) -> u64 {
        self.newest_event.load(Ordering::Acquire)
    }

    pub(super) fn give_out(&self, event: u64) {
        self.given_out.fetch_max(event, Ordering::AcqRel);
    }

    /// Newest event that a cursor of this run may name.
    pub(super) fn newest_given_out(&self) -> u64 {
        self.newest_event().max(self.given_out.load(Ordering::Acquire))
    }

    pub(super) fn set_newest_event(&self, event: u64) {
        self.newest_event.store(event, Ordering::Release);
    }

    /// Number of transactions since the store was opened.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn count_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an entry that was found damaged, and logs it once.
    pub(super) fn add_damaged(&self, log: LogId, seq: Seq) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < DAMAGED_MAX && damaged.insert((log, seq)) {
            error!(author = %log.author.short(), seq = seq.0, "a stored entry is damaged and is fetched anew from a member");
        }
    }

    pub(super) fn remove_damaged(&self, log: LogId, seq: Seq) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(&(log, seq));
    }

    /// Number of entries that were found damaged and have no good copy yet.
    pub(super) fn damaged(&self) -> usize {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Acquire)
    }

    /// Adds newly shown messages. `newest` is the row number of the newest message written, or 0 if none was.
    pub(super) fn add_messages(&self, shown: u64, newest: i64) {
        self.messages.fetch_add(shown, Ordering::AcqRel);
        self.newest_message.fetch_max(newest, Ordering::AcqRel);
    }

    /// Subtracts messages that are no longer shown. Only the writer counts, so this cannot underflow.
    pub(super) fn hide_messages(&self, hidden: u64) {
        self.messages.fetch_sub(hidden, Ordering::AcqRel);
    }

    pub(super) fn newest_message(&self) -> i64 {
        self.newest_message.load(Ordering::Acquire)
    }

    /// Whether every message is in the text index.
    pub(super) fn is_searchable(&self) -> bool {
        self.searchable.load(Ordering::Acquire) >= self.newest_message()
    }

    pub(super) fn set_searchable(&self, message: i64) {
        self.searchable.store(message, Ordering::Release);
    }

    /// Number of failed batches whose reports the owner of the room has received.
    pub(super) fn failures_seen(&self) -> u64 {
        self.failures_seen.load(Ordering::Acquire)
    }

    pub(super) fn see_failure(&self) {
        self.failures_seen.fetch_add(1, Ordering::AcqRel);
    }
}
