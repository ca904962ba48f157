//! What the writer tells everybody without being asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rusqlite::Connection;

use crate::store::dm;
use crate::store::read::Readers;
use crate::store::tables::events;
use crate::store::tables::messages;
use crate::store::tables::meta::{Facts, searchable};
use crate::store::tables::models::DmKeys;

/// State that the writer changes after a commit and everybody may read.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) readers: Arc<Readers>,
    facts: ArcSwap<Facts>,
    dm_keys: ArcSwap<DmKeys>,
    newest_event: AtomicU64,
    messages: AtomicU64,
    newest_message: AtomicI64,
    searchable: AtomicI64,
    failures_heard: AtomicU64,
    commits: AtomicU64,
}

impl Shared {
    pub(super) fn read(connection: &Connection, facts: Facts, readers: Readers) -> rusqlite::Result<Self> {
        Ok(Self {
            readers: Arc::new(readers),
            facts: ArcSwap::from_pointee(facts),
            dm_keys: ArcSwap::from_pointee(dm::keys(connection)?),
            newest_event: AtomicU64::new(events::newest(connection)?),
            messages: AtomicU64::new(messages::count(connection)?),
            newest_message: AtomicI64::new(messages::newest(connection)?),
            searchable: AtomicI64::new(searchable(connection)?),
            failures_heard: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        })
    }

    pub(super) fn facts(&self) -> Arc<Facts> {
        self.facts.load_full()
    }

    pub(super) fn set_facts(&self, facts: Facts) {
        self.facts.store(Arc::new(facts));
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

    pub(super) fn set_newest_event(&self, event: u64) {
        self.newest_event.store(event, Ordering::Release);
    }

    /// Transactions since the store was opened.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn count_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Acquire)
    }

    /// Some messages came; the newest has this row number, or 0 where none came.
    pub(super) fn add_messages(&self, shown: u64, newest: i64) {
        self.messages.fetch_add(shown, Ordering::AcqRel);
        self.newest_message.fetch_max(newest, Ordering::AcqRel);
    }

    /// So many messages are no longer shown. The writer alone counts, so this cannot fall below zero.
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

    /// Of how many failed batches the owner of the room has heard.
    pub(super) fn failures_heard(&self) -> u64 {
        self.failures_heard.load(Ordering::Acquire)
    }

    pub(super) fn hear_failure(&self) {
        self.failures_heard.fetch_add(1, Ordering::AcqRel);
    }
}
