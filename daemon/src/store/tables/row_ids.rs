//! Row numbers of peers and logs, which stand for their long ids in other tables.

use std::collections::HashMap;

use chat_core::log::entry::{Hlc, Incarnation, LogId, Seq};
use chat_proto::id::{EntryHash, PeerId};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::tables::sql_types::{ordered, uncounted, unordered};

/// Maximum number of logs whose heads are cached: several times the members of a large room. Beyond it the cache is
/// cleared.
const LOGS_MAX: usize = 16 * 1024;

/// Row numbers of a log, and its newest entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct LogRow {
    /// Row number of the log.
    pub(in crate::store) log: i64,
    /// Row number of its author.
    pub(in crate::store) author: i64,
    /// Sequence number of its newest entry; [`Seq::ZERO`] if it has none.
    pub(in crate::store) seq: Seq,
    /// Hash of that entry.
    pub(in crate::store) hash: Option<EntryHash>,
    /// Order time of that entry.
    pub(in crate::store) order: Option<Hlc>,
}

/// Heads of logs, so that inserting the next entry of a log needs no look-up. Reflects what the current transaction
/// sees, and is cleared on a rollback.
#[derive(Debug, Default)]
pub(in crate::store) struct HeadCache {
    logs: HashMap<LogId, LogRow>,
}

impl HeadCache {
    pub(in crate::store) fn get(&mut self, connection: &Connection, log: LogId) -> rusqlite::Result<LogRow> {
        if let Some(head) = self.logs.get(&log) {
            return Ok(*head);
        }
        let author = peer_row(connection, &log.author)?;
        let row = log_row(connection, author, log.incarnation)?;
        let newest = connection
            .prepare_cached("SELECT seq, hash, hlc FROM entries WHERE log = ? ORDER BY seq DESC LIMIT 1")?
            .query_row([row], |newest| {
                let hash = Some(EntryHash::from_bytes(newest.get(1)?));
                let (seq, order) = (Seq(uncounted(newest.get(0)?)), Some(Hlc(unordered(newest.get(2)?))));
                Ok(LogRow { log: row, author, seq, hash, order })
            })
            .optional()?;
        let head = newest.unwrap_or(LogRow { log: row, author, seq: Seq::ZERO, hash: None, order: None });
        self.set(log, head);
        Ok(head)
    }

    pub(in crate::store) fn set(&mut self, log: LogId, head: LogRow) {
        if self.logs.len() >= LOGS_MAX {
            self.logs.clear();
        }
        self.logs.insert(log, head);
    }

    pub(in crate::store) fn clear(&mut self) {
        self.logs.clear();
    }
}

/// Row number of a peer, inserted if it has none.
pub(in crate::store) fn peer_row(connection: &Connection, peer: &PeerId) -> rusqlite::Result<i64> {
    if let Some(row) = find_peer(connection, peer)? {
        return Ok(row);
    }
    connection.prepare_cached("INSERT INTO peers (key) VALUES (?)")?.insert([peer.as_bytes()])
}

/// Row number of a peer, if it has one.
pub(in crate::store) fn find_peer(connection: &Connection, peer: &PeerId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM peers WHERE key = ?")?
        .query_row([peer.as_bytes()], |row| row.get(0))
        .optional()
}

/// Row number of a log, inserted if it has none.
pub(in crate::store) fn log_row(
    connection: &Connection,
    author: i64,
    incarnation: Incarnation,
) -> rusqlite::Result<i64> {
    let values = params![author, ordered(incarnation.0)];
    let found = connection
        .prepare_cached("SELECT id FROM logs WHERE author = ? AND incarnation = ?")?
        .query_row(values, |row| row.get(0))
        .optional()?;
    match found {
        Some(row) => Ok(row),
        None => connection.prepare_cached("INSERT INTO logs (author, incarnation) VALUES (?, ?)")?.insert(values),
    }
}

/// Row number of a log, if it has one.
pub(in crate::store) fn find_log(connection: &Connection, log: LogId) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT l.id FROM logs l JOIN peers p ON p.id = l.author WHERE p.key = ? AND l.incarnation = ?";
    connection
        .prepare_cached(sql)?
        .query_row(params![log.author.as_bytes(), ordered(log.incarnation.0)], |row| row.get(0))
        .optional()
}

/// The log in which an entry is filed.
pub(in crate::store) fn log_of(connection: &Connection, hash: &EntryHash) -> rusqlite::Result<Option<LogId>> {
    let sql = "SELECT p.key, l.incarnation FROM entries n JOIN logs l ON l.id = n.log JOIN peers p ON p.id = l.author
        WHERE n.hash = ?";
    connection.prepare_cached(sql)?.query_row([hash.as_bytes()], |row| log_id(row, 0)).optional()
}

/// Reads a log id from the columns of its author's key and its incarnation, starting at `column`.
pub(in crate::store) fn log_id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<LogId> {
    let author = PeerId::from_bytes(row.get(column)?);
    Ok(LogId { author, incarnation: Incarnation(unordered(row.get(column + 1)?)) })
}
