//! Flushes the write-ahead log after messages of others were shown.
//!
//! A commit with own entries is flushed by SQLite itself, before anything of it is seen. Entries of others are held by their
//! authors already: readers see them as soon as they are committed, which survives the end of this process, and only the
//! report waits for the flush. What a loss of power takes back is fetched again; readers that saw it get a gap, since their
//! cursor is beyond the end of its [run](crate::store::tables::runs).
//!
//! Owned by the [writer](crate::store::writer), called on its thread.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::store::writer::checkpoint;

/// Flushes the write-ahead log of a database.
#[derive(Debug)]
pub(in crate::store) struct LogFlusher {
    path: PathBuf,
    file: Option<File>,
    /// Whether the last flush failed. The kernel then takes the pages for written, and flushing again would do nothing.
    failed: bool,
}

impl LogFlusher {
    pub(in crate::store) fn new(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        Self { path: path.into(), file: None, failed: false }
    }

    /// Flushes everything that was committed. After a failure, the next call moves it into the database, which writes and flushes it anew.
    ///
    /// # Errors
    /// What was committed since the last flush may not survive a loss of power.
    pub(in crate::store) fn flush(&mut self, writer: &Connection) -> io::Result<()> {
        let flushed = if self.failed { checkpoint::move_all(writer) } else { self.sync() };
        self.failed = flushed.is_err();
        flushed
    }

    fn sync(&mut self) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        self.file.insert(file).sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::connection::connect;

    #[test]
    fn log_that_could_not_be_flushed_is_moved_into_the_database() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("test.db");
        std::fs::write(&path, "").expect("writes");
        let writer = connect(&path).expect("connects");
        writer.execute_batch("CREATE TABLE numbers (number); INSERT INTO numbers VALUES (7)").expect("writes");
        let mut flusher = LogFlusher::new(&path);
        flusher.flush(&writer).expect("flushes");
        flusher = LogFlusher::new(&dir.path().join("other.db"));
        assert!(flusher.flush(&writer).is_err(), "there is no such log");
        let before = std::fs::read(&path).expect("reads");
        flusher.flush(&writer).expect("moves");
        assert_ne!(std::fs::read(&path).expect("reads"), before);
        assert!(flusher.flush(&writer).is_err(), "then the log is flushed again");
    }
}
