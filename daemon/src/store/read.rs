//! Read-only connections: questions never wait for the writer.

pub mod follow;
pub(in crate::store) mod query;
pub(in crate::store) mod search;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::error::{Closed, ReadError};
use crate::store::open::open_reader;

/// Most questions at a time: each takes a thread, and a processor while it runs.
const READERS_MAX: usize = 4;

/// Of these, at most so many read entries for other peers, so that the local API is never kept waiting by them.
const LOADERS_MAX: usize = 2;

/// Connections for questions.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    slots: Semaphore,
    loaders: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            slots: Semaphore::new(READERS_MAX),
            loaders: Semaphore::new(LOADERS_MAX),
            idle: Mutex::new(Vec::new()),
        }
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Asks something on a blocking thread.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let _slot = self.slots.acquire().await.map_err(|_| Closed)?;
        let readers = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let connection = readers.take()?;
            let answer = question(&connection);
            readers.give_back(connection);
            answer
        });
        asked.await.unwrap_or(Err(Closed.into()))
    }

    /// The same for another peer's sake.
    pub(super) async fn ask_for_peer<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let _loader = self.loaders.acquire().await.map_err(|_| Closed)?;
        self.ask(question).await
    }

    fn take(&self) -> Result<Connection, ReadError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => Ok(open_reader(&self.path)?),
        }
    }

    fn give_back(&self, connection: Connection) {
        if !self.slots.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }

    /// No more questions; connections close, so that the last checkpoint can empty the write-ahead log.
    pub(super) fn close(&self) {
        self.loaders.close();
        self.slots.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
