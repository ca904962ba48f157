//! Reads every signed entry of a database in causal order, without a store, for an export.

use std::collections::BTreeMap;
use std::path::Path;

use chat_core::log::entry::{Entry, LogId, Seq};
use chat_proto::id::PeerId;
use rusqlite::Connection;

use crate::store::error::ReadError;
use crate::store::open::connection::open_reader;
use crate::store::tables::damage;
use crate::store::tables::meta::StoreMeta;
use crate::store::tables::models::RoomRecord;
use crate::store::tables::row_ids::log_id;
use crate::store::tables::sql_types::uncounted;

/// Why entries are not exported. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database has no room.
    #[error("there is no room in this home")]
    NoRoom,
    /// An entry is not what its author signed.
    #[error("entry {seq} of {author} is damaged: run 'chatd check'; a running daemon fetches it anew", seq = .1.0, author = .0.author.tag())]
    Damaged(LogId, Seq),
    /// The database cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<rusqlite::Error> for ExportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error.into())
    }
}

/// A database at one moment. A daemon may be running on it.
#[derive(Debug)]
pub struct Snapshot {
    connection: Connection,
    room: RoomRecord,
    me: PeerId,
}

impl Snapshot {
    /// Opens the database as it is now.
    ///
    /// # Errors
    /// [`ExportError`], where it has no room or cannot be read.
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        let connection = open_reader(path)?;
        // Everything that is read until the end is of this moment.
        connection.execute_batch("BEGIN")?;
        let meta = StoreMeta::read(&connection)?.ok_or(ExportError::NoRoom)?;
        let room = meta.room.ok_or(ExportError::NoRoom)?;
        Ok(Self { connection, room, me: meta.me })
    }

    /// Its room.
    pub fn room(&self) -> &RoomRecord {
        &self.room
    }

    /// The peer it belongs to.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Hands out the entries after the given ones, each after everything that it depends on, as far as it is stored.
    ///
    /// # Errors
    /// [`ExportError`], or what `take` fails with.
    pub fn entries<E: From<ExportError>>(
        &self,
        after: &BTreeMap<LogId, Seq>,
        mut take: impl FnMut(&Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error: rusqlite::Error| E::from(ExportError::from(error));
        let sql = "SELECT p.key, l.incarnation, n.seq, n.hash, n.header, n.signature, n.body FROM entries n
            CROSS JOIN logs l ON l.id = n.log CROSS JOIN peers p ON p.id = l.author ORDER BY n.id";
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let log = log_id(row, 0).map_err(failed)?;
            let seq = Seq(uncounted(row.get(2).map_err(failed)?));
            if after.get(&log).is_some_and(|held| seq <= *held) {
                continue;
            }
            let entry = damage::intact(row, 3, log, seq).ok_or(ExportError::Damaged(log, seq))?;
            take(&entry)?;
        }
        Ok(())
    }
}
