//! The single row about the database (table `facts`): its peer, its room, and the numbers it writes under.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::UNIX_EPOCH;

use chat_core::log::entry::Incarnation;
use chat_proto::id::{PeerId, RoomId};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::tables::models::RoomRecord;
use crate::store::tables::sql_types::{counted, ordered, uncounted, unordered};

/// The row about the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct StoreMeta {
    pub(in crate::store) me: PeerId,
    pub(in crate::store) incarnation: Incarnation,
    pub(in crate::store) file: FileMark,
    pub(in crate::store) room: Option<RoomRecord>,
}

/// Distinguishes a file from a copy of it: its inode and time of creation. A copy that replaces the original may be
/// older than what other peers have of this peer's log, so it continues under another incarnation. The device number is
/// used only where the file system has no time of creation, as it changes with the order of mounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct FileMark([u8; 16]);

impl FileMark {
    pub(in crate::store) fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let second = born.map_or(metadata.dev(), |born| u64::try_from(born.as_nanos()).unwrap_or(u64::MAX));
        let mut mark = [0; 16];
        mark[..8].copy_from_slice(&metadata.ino().to_be_bytes());
        mark[8..].copy_from_slice(&second.to_be_bytes());
        Self(mark)
    }
}

impl StoreMeta {
    /// The row of a new database or of a copy: with a new random incarnation.
    pub(in crate::store) fn fresh(me: PeerId, file: FileMark, room: Option<RoomRecord>) -> Self {
        Self { me, incarnation: Incarnation(rand::random()), file, room }
    }

    pub(in crate::store) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let sql = "SELECT me, incarnation, file, room, room_name, room_open FROM facts";
        connection
            .query_row(sql, [], |row| {
                let room: Option<[u8; 32]> = row.get(3)?;
                let (name, open) = (row.get(4)?, row.get(5)?);
                Ok(Self {
                    me: PeerId::from_bytes(row.get(0)?),
                    incarnation: Incarnation(unordered(row.get(1)?)),
                    file: FileMark(row.get(2)?),
                    room: room.map(|id| RoomRecord { id: RoomId::from_bytes(id), name, open }),
                })
            })
            .optional()
    }

    pub(in crate::store) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO facts (id, me, incarnation, file, room, room_name, room_open)
            VALUES (1, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET incarnation = excluded.incarnation, file = excluded.file, room = excluded.room, room_name = excluded.room_name, room_open = excluded.room_open";
        let room = self.room.as_ref();
        connection.execute(
            sql,
            params![
                self.me.as_bytes(),
                ordered(self.incarnation.0),
                self.file.0,
                room.map(|room| room.id.as_bytes()),
                room.map_or("", |room| &room.name),
                room.is_some_and(|room| room.open),
            ],
        )?;
        Ok(())
    }
}

/// Number up to which events other than messages are pruned.
pub(in crate::store) fn events_pruned(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT events_pruned FROM facts", [], |row| row.get(0)).map(uncounted)
}

pub(in crate::store) fn set_events_pruned(connection: &Connection, event: u64) -> rusqlite::Result<()> {
    connection.execute("UPDATE facts SET events_pruned = max(events_pruned, ?)", [counted(event)])?;
    Ok(())
}

/// Row number of the newest message in the text index.
pub(in crate::store) fn searchable(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT searchable FROM facts", [], |row| row.get(0))
}

pub(in crate::store) fn set_searchable(connection: &Connection, message: i64) -> rusqlite::Result<()> {
    connection.execute("UPDATE facts SET searchable = ?", [message])?;
    Ok(())
}
