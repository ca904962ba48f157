//! The file `head.mark` beside the database: the newest own entry that was flushed.
//!
//! A database that was rolled back in place (a copy put back while the daemon was down, a snapshot, a damaged write-ahead
//! log) still has its inode, so its [`FileMark`](crate::store::tables::meta::FileMark) does not change. It lacks the entry
//! that this file names, though: then the database counts as a copy and gets new numbers. The file is written after each
//! commit with own entries and not flushed by itself, so after a power failure it may be behind the database; that is no
//! contradiction, and the next start brings it up. One line of fixed length, so that it is overwritten in place with one
//! small write.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chat_core::log::entry::{Incarnation, LogId, Seq};
use chat_core::output::Batch;
use chat_proto::id::EntryHash;
use rusqlite::{Connection, OptionalExtension as _, params};
use tracing::warn;

use crate::store::tables::meta::StoreMeta;
use crate::store::tables::row_ids::find_log;
use crate::store::tables::sql_types::{counted, uncounted};

/// The newest own entry that was flushed; sequence number 0 where the incarnation has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct HeadMark {
    incarnation: Incarnation,
    seq: Seq,
    hash: EntryHash,
}

impl HeadMark {
    /// The mark of an incarnation under which nothing is written yet.
    pub(in crate::store) fn of_new(incarnation: Incarnation) -> Self {
        Self { incarnation, seq: Seq::ZERO, hash: EntryHash::from_bytes([0; 32]) }
    }

    /// Reads the file beside a database; `None` where there is none that can be read.
    pub(in crate::store) fn read(database: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path(database)).ok()?;
        let mut parts = text.split_whitespace();
        let incarnation = Incarnation(u64::from_str_radix(parts.next()?, 16).ok()?);
        let seq = Seq(u64::from_str_radix(parts.next()?, 16).ok()?);
        let hash = data_encoding::HEXLOWER.decode(parts.next()?.as_bytes()).ok()?;
        Some(Self { incarnation, seq, hash: EntryHash::from_bytes(hash.try_into().ok()?) })
    }

    /// Whether the database holds the entry, under the incarnation that it writes under.
    pub(in crate::store) fn agrees(&self, connection: &Connection, meta: &StoreMeta) -> rusqlite::Result<bool> {
        if self.incarnation != meta.incarnation || self.seq == Seq::ZERO {
            return Ok(self.incarnation == meta.incarnation);
        }
        let log = LogId { author: meta.me, incarnation: self.incarnation };
        let Some(row) = find_log(connection, log)? else { return Ok(false) };
        let held: Option<[u8; 32]> = connection
            .query_row("SELECT hash FROM entries WHERE log = ? AND seq = ?", params![row, counted(self.seq.0)], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(held.as_ref() == Some(self.hash.as_bytes()))
    }

    /// The newest own entry in the database.
    pub(in crate::store) fn newest(connection: &Connection, meta: &StoreMeta) -> rusqlite::Result<Option<Self>> {
        let (me, incarnation) = (meta.me, meta.incarnation);
        let Some(row) = find_log(connection, LogId { author: me, incarnation })? else { return Ok(None) };
        let sql = "SELECT seq, hash FROM entries WHERE log = ? ORDER BY seq DESC LIMIT 1";
        let newest = connection.query_row(sql, [row], |row| {
            let seq = Seq(uncounted(row.get(0)?));
            Ok(Self { incarnation, seq, hash: EntryHash::from_bytes(row.get(1)?) })
        });
        newest.optional()
    }

    fn line(&self) -> String {
        let hash = data_encoding::HEXLOWER.encode(self.hash.as_bytes());
        format!("{:016x} {:016x} {hash}\n", self.incarnation.0, self.seq.0)
    }
}

/// Writes the file.
#[derive(Debug)]
pub(in crate::store) struct HeadMarker {
    path: PathBuf,
    file: Option<File>,
    failing: bool,
}

impl HeadMarker {
    pub(in crate::store) fn new(database: &Path) -> Self {
        Self { path: path(database), file: None, failing: false }
    }

    /// A batch is on disk: follows the own entries in it.
    pub(in crate::store) fn follow(&mut self, batch: &Batch, meta: &StoreMeta) {
        let log = LogId { author: meta.me, incarnation: meta.incarnation };
        let newest = batch.entries.iter().rev().find(|item| item.entry.log() == log);
        let own = newest.map(|item| HeadMark {
            incarnation: log.incarnation,
            seq: item.entry.seq(),
            hash: item.entry.hash(),
        });
        if let Some(mark) = own.or_else(|| batch.changes.incarnation.map(HeadMark::of_new)) {
            self.write(mark);
        }
    }

    /// Replaces the mark. A failure is logged and leaves the file behind the database, which is allowed.
    pub(in crate::store) fn write(&mut self, mark: HeadMark) {
        let written = self.try_write(mark);
        if let Err(error) = &written
            && !self.failing
        {
            warn!(path = %self.path.display(), %error, "the mark of the newest own entry could not be written");
        }
        self.failing = written.is_err();
    }

    fn try_write(&mut self, mark: HeadMark) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?,
        };
        file.write_all_at(mark.line().as_bytes(), 0)?;
        self.file = Some(file);
        Ok(())
    }
}

fn path(database: &Path) -> PathBuf {
    database.with_file_name("head.mark")
}
