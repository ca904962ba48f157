//! Checkpoints on a thread beside the writer: moving the write-ahead log into the database takes milliseconds to tenths
//! of a second, and no message must wait for it.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tracing::{debug, warn};

use crate::store::open::connection::connect;

/// Number of pages in the log (8 MiB) from which a checkpoint runs beside the writer.
const BESIDE_PAGES: i64 = 2048;

/// Maximum number of pages (2 MiB) that the writer moves itself after a checkpoint beside it: only when all are moved
/// does the log start from the beginning. Takes a few milliseconds.
const REST_PAGES: i64 = 512;

/// Number of pages (256 MiB) from which the writer moves all of them itself: the log must not fill the disk.
const PAGES_MAX: i64 = 64 * 1024;

/// Runs checkpoints on a thread of its own.
#[derive(Debug)]
pub(in crate::store) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread. Without a second connection or thread the writer runs the checkpoints itself.
    pub(in crate::store) fn start(path: &Path) -> Self {
        let (wake, woken) = sync_channel(1);
        let started = connect(path)
            .map_err(io::Error::other)
            .and_then(|connection| Builder::new().name("checkpoint".into()).spawn(move || run(&connection, &woken)));
        match started {
            Ok(thread) => Self { wake: Some(wake), thread: Some(thread) },
            Err(error) => {
                warn!(%error, "checkpoints run between messages");
                Self { wake: None, thread: None }
            }
        }
    }

    /// Called after each commit: if the log has grown, starts a checkpoint beside the writer, or finishes one.
    pub(in crate::store) fn after_commit(&self, writer: &Connection) -> rusqlite::Result<()> {
        let log = state(writer, "NOOP")?;
        if log.pages < BESIDE_PAGES {
            return Ok(());
        }
        let nearly_done = log.moved > 0 && log.pages - log.moved <= REST_PAGES;
        if nearly_done || log.pages >= PAGES_MAX || self.wake.is_none() {
            let left = state(writer, "PASSIVE")?;
            debug!(pages = left.pages, moved = left.moved, "checkpoint by the writer");
        } else {
            self.wake();
        }
        Ok(())
    }

    /// Called when the writer is idle: starts a checkpoint if there is anything to move.
    pub(in crate::store) fn when_idle(&self, writer: &Connection) -> rusqlite::Result<()> {
        let log = state(writer, "NOOP")?;
        if log.pages > log.moved {
            self.wake();
        }
        Ok(())
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            // One that is running or about to run is enough.
            let _ = wake.try_send(());
        }
    }

    /// Ends the thread.
    pub(in crate::store) fn stop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the checkpoint thread panicked");
        }
    }
}

/// Moves everything and truncates the log; called before the database closes.
pub(in crate::store) fn finish(writer: &Connection) -> rusqlite::Result<()> {
    state(writer, "TRUNCATE").map(drop)
}

/// Moves everything into the database and flushes it.
///
/// # Errors
/// Something is not moved: a write or flush failed, or a reader holds an older state for too long.
pub(in crate::store) fn move_all(writer: &Connection) -> io::Result<()> {
    let log = state(writer, "FULL").map_err(io::Error::other)?;
    if log.moved < log.pages { Err(io::Error::other("a reader is in the way")) } else { Ok(()) }
}

fn run(connection: &Connection, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        match state(connection, "PASSIVE") {
            Ok(log) => debug!(pages = log.pages, moved = log.moved, "checkpoint beside the writer"),
            Err(error) => warn!(%error, "a checkpoint failed and is tried again"),
        }
    }
}

/// State of the write-ahead log: number of its pages, and of those already moved into the database.
struct WalState {
    pages: i64,
    moved: i64,
}

fn state(connection: &Connection, mode: &str) -> rusqlite::Result<WalState> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    connection.prepare_cached(&sql)?.query_row([], |row| Ok(WalState { pages: row.get(1)?, moved: row.get(2)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> (tempfile::TempDir, Connection) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("test.db");
        std::fs::write(&path, "").expect("writes");
        let writer = connect(&path).expect("connects");
        writer.execute_batch("CREATE TABLE blobs (blob)").expect("creates");
        (dir, writer)
    }

    fn write(writer: &Connection, bytes: i64) {
        writer.execute("INSERT INTO blobs VALUES (zeroblob(?))", [bytes]).expect("inserts");
    }

    #[test]
    fn grown_log_is_moved_beside_the_writer() {
        let (dir, writer) = database();
        let mut checkpointer = Checkpointer::start(&dir.path().join("test.db"));
        write(&writer, 1024 * 1024);
        checkpointer.after_commit(&writer).expect("looks");
        assert_eq!(state(&writer, "NOOP").expect("looks").moved, 0, "too little to do anything");
        write(&writer, 10 * 1024 * 1024);
        checkpointer.after_commit(&writer).expect("wakes");
        checkpointer.stop();
        let log = state(&writer, "NOOP").expect("looks");
        assert_eq!(log.moved, log.pages);
        write(&writer, 1);
        assert!(state(&writer, "NOOP").expect("looks").pages < 10, "the log starts from the beginning");
    }

    #[test]
    fn writer_without_a_thread_moves_everything_itself() {
        let (_dir, writer) = database();
        let checkpointer = Checkpointer { wake: None, thread: None };
        for _ in 0..3 {
            write(&writer, 10 * 1024 * 1024);
            checkpointer.after_commit(&writer).expect("moves");
            let log = state(&writer, "NOOP").expect("looks");
            assert_eq!(log.moved, log.pages);
            assert!(log.pages < 2 * BESIDE_PAGES, "the log starts from the beginning each time");
        }
        finish(&writer).expect("finishes");
        assert_eq!(state(&writer, "NOOP").expect("looks").pages, 0);
    }

    #[test]
    fn idle_writer_moves_the_whole_log() {
        let (dir, writer) = database();
        let mut checkpointer = Checkpointer::start(&dir.path().join("test.db"));
        write(&writer, 1);
        checkpointer.when_idle(&writer).expect("wakes");
        checkpointer.stop();
        let log = state(&writer, "NOOP").expect("looks");
        assert!(log.pages > 0 && log.moved == log.pages);
    }
}
