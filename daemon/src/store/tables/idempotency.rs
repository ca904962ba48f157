//! Idempotency keys (table `keys`): which message was posted under which key.

use std::time::Duration;

use chat_proto::id::{EntryHash, MessageId};
use chat_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::tables::messages::MESSAGES_PER_ENTRY;
use crate::store::tables::models::{Idempotency, KeyRecord};
use crate::store::tables::sql_types::counted;

/// How long a retry finds its message: longer than a script that is resumed after a weekend.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Maximum number of keys: a client that uses one per message at full speed must not fill the disk.
const KEYS_MAX: i64 = 100_000;

/// Maximum number of keys deleted at a time, so that messages do not wait for it.
const DROPPED_MAX: i64 = 2_000;

/// Inserts the message of a key; an earlier one stays.
pub(in crate::store) fn insert(
    connection: &Connection,
    idempotency: &Idempotency,
    message: i64,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO keys (key, request, message, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let values = params![idempotency.key, idempotency.request, message, counted(now.as_ms())];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// The message that was posted under a key.
pub(in crate::store) fn find(connection: &Connection, key: &str) -> rusqlite::Result<Option<KeyRecord>> {
    let sql = "SELECT k.request, n.hash, k.message FROM keys k JOIN entries n ON n.id = k.message / ? WHERE k.key = ?";
    connection
        .prepare_cached(sql)?
        .query_row(params![MESSAGES_PER_ENTRY, key], |row| {
            let index = u16::try_from(row.get::<_, i64>(2)? % MESSAGES_PER_ENTRY).unwrap_or_default();
            let entry = EntryHash::from_bytes(row.get(1)?);
            Ok(KeyRecord { request: row.get(0)?, message: MessageId { entry, index } })
        })
        .optional()
}

/// Deletes some keys that are too old or too many; returns whether there may be more.
pub(in crate::store) fn prune(connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    let newest_dropped: Option<i64> = connection
        .query_row("SELECT at FROM keys ORDER BY at DESC LIMIT 1 OFFSET ?", [KEYS_MAX], |row| row.get(0))
        .optional()?;
    let too_old = counted(now.before(KEPT).as_ms());
    let sql = "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE at < ? OR at <= ? ORDER BY at LIMIT ?)";
    let dropped = connection.execute(sql, params![too_old, newest_dropped.unwrap_or(-1), DROPPED_MAX])?;
    Ok(i64::try_from(dropped).is_ok_and(|dropped| dropped == DROPPED_MAX))
}
