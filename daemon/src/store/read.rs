//! The read side: a pool of read-only connections, so that queries never wait for the writer.
//!
//! [`ReadPool::ask`] runs a closure with a connection on a blocking thread. Connections are opened on demand, kept for
//! the next query and never write (`query_only`). In WAL mode a reader sees the last commit when its transaction
//! starts; a query of several statements opens a transaction of its own.
//!
//! Invariants: at most [`READERS_MAX`] queries run at a time; at most [`LOADERS_MAX`] of them read entries for other
//! peers, so that peers cannot block the local API; after [`ReadPool::close`] every query fails with [`Closed`], and
//! all idle connections are closed, so that the last checkpoint can truncate the write-ahead log.
//!
//! * `query`: pages of history. [`follow`]: the events from a cursor on, first from disk, then live.
//!   [`check`]: verifies a whole database.
//!
//! Called by the [`Store`](crate::store::Store) handle and the followers; closed by the writer when it ends.

pub mod check;
pub mod export;
pub mod follow;
pub(in crate::store) mod query;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::store::error::{Closed, ReadError};
use crate::store::open::connection::open_reader;

/// Maximum number of queries at a time; each takes a thread, and a processor while it runs.
const READERS_MAX: usize = 4;

/// Maximum number of them that read entries for other peers, so that the local API does not wait for them.
const LOADERS_MAX: usize = 2;

/// Pool of read-only connections.
#[derive(Debug)]
pub(super) struct ReadPool {
    path: PathBuf,
    slots: Semaphore,
    loaders: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl ReadPool {
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

    /// Runs a query on a blocking thread. A task of its own waits for a slot: the caller may be polled late, as the answer to a
    /// client that does not read is, and must not keep a slot from others meanwhile.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let readers = Arc::clone(self);
        let asked = tokio::spawn(async move {
            let pool = Arc::clone(&readers);
            let _slot = readers.slots.acquire().await.map_err(|_| Closed)?;
            let answered = tokio::task::spawn_blocking(move || {
                let connection = pool.take()?;
                let answer = query(&connection);
                pool.give_back(connection);
                answer
            });
            answered.await.unwrap_or(Err(Closed.into()))
        });
        AbortOnDropHandle::new(asked).await.unwrap_or(Err(Closed.into()))
    }

    /// Runs a query on behalf of another peer. The caller is a task of its own, and is polled as soon as it can go on.
    pub(super) async fn ask_for_peer<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let _loader = self.loaders.acquire().await.map_err(|_| Closed)?;
        self.ask(query).await
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

    /// Refuses further queries and closes the idle connections.
    pub(super) fn close(&self) {
        self.loaders.close();
        self.slots.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::connection::connect;

    #[tokio::test]
    async fn callers_that_are_not_polled_keep_no_slot_from_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("test.db");
        std::fs::write(&path, "").expect("writes");
        let _writer = connect(&path).expect("connects");
        let pool = Arc::new(ReadPool::new(path));
        let number = |db: &Connection| Ok(db.query_row("SELECT 7", [], |row| row.get::<_, i64>(0))?);
        let mut left: Vec<_> = (0..2 * READERS_MAX).map(|_| Box::pin(pool.ask(number))).collect();
        for asked in &mut left {
            assert!(futures_util::poll!(asked).is_pending());
        }
        assert_eq!(pool.ask(number).await.expect("it is asked in time"), 7);
        drop(left);
    }
}
