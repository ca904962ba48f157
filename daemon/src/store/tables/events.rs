//! Durable events: numbered in the order in which they were written, and kept so that readers can resume.
//!
//! The event of a message refers to its row; any other event is stored as JSON. Numbers come from SQLite's
//! `AUTOINCREMENT`, so they grow and are never reused, even after events are deleted. A cursor that the API gives out
//! is such a number with the run that wrote it (`runs`).
//!
//! Invariants:
//! * An event is written in the same transaction as what it announces, and its number is published after the commit.
//! * Events of messages are kept as long as their messages; hidden messages, and rows that stand for messages whose bodies
//!   never came, are skipped when reading. Other events are
//!   pruned from the oldest on, and `facts.events_pruned` says up to where, so that a reader behind it gets a gap.
//!
//! Written by the writer's transactions and pruned by its maintenance; read by the followers through the read pool.

use std::time::Duration;

use chat_proto::event::Event;
use chat_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use tracing::warn;

use crate::store::tables::messages;
use crate::store::tables::meta::{events_pruned, set_events_pruned};
use crate::store::tables::models::{EventPage, StoredEvent, StoredEventKind};
use crate::store::tables::sql_types::{counted, uncounted};

/// How long events other than messages are kept: a reader that was away for a holiday week misses nothing.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Maximum number of events other than messages, about 50 MB: a peer that comes and goes all day must not fill the
/// disk.
const OTHERS_MAX: i64 = 100_000;

/// Maximum number of events deleted at a time, so that messages do not wait for it.
const DROPPED_MAX: i64 = 2_000;

/// Maximum number of events in one page.
const PAGE_MAX: u32 = 1000;

/// Bytes of text after which a page ends, including the message that exceeds them: a reader that has stopped reading
/// keeps its page in memory.
const PAGE_TEXT_BYTES: usize = 256 * 1024;

/// Inserts the event of a message; returns its number.
pub(in crate::store) fn insert_message(connection: &Connection, message: i64, now: Timestamp) -> rusqlite::Result<u64> {
    let sql = "INSERT INTO events (at, message) VALUES (?, ?)";
    connection.prepare_cached(sql)?.insert(params![counted(now.as_ms()), message]).map(uncounted)
}

/// Inserts an event other than that of a message.
pub(in crate::store) fn insert_other(
    connection: &Connection,
    event: &Event,
    now: Timestamp,
) -> rusqlite::Result<StoredEvent> {
    let data = serde_json::to_string(event).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let sql = "INSERT INTO events (at, data) VALUES (?, ?)";
    let id = connection.prepare_cached(sql)?.insert(params![counted(now.as_ms()), data]).map(uncounted)?;
    Ok(StoredEvent::new(id, now, StoredEventKind::Other(event.clone())))
}

/// Number of the newest event that was ever written.
pub(in crate::store) fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'events'", [], |row| row.get(0))
        .optional()
        .map(|newest| uncounted(newest.unwrap_or(0)))
}

/// Events after a cursor.
pub(in crate::store) fn after(connection: &Connection, cursor: u64, limit: u32) -> rusqlite::Result<EventPage> {
    let snapshot = connection.unchecked_transaction()?;
    let newest = newest(&snapshot)?;
    if cursor > newest {
        return Ok(EventPage { events: Vec::new(), gap: true, from: newest });
    }
    let gap = cursor < events_pruned(&snapshot)?;
    let sql = format!(
        "SELECT e.id, e.at, e.data, {} FROM events e LEFT JOIN messages m ON m.id = e.message
        LEFT JOIN entries n ON n.id = m.id / 1024 LEFT JOIN logs l ON l.id = n.log LEFT JOIN peers p ON p.id = m.author
        WHERE e.id > ? AND (e.message IS NULL OR m.visible = 1 AND m.gone <> 2) ORDER BY e.id LIMIT ?",
        messages::COLUMNS
    );
    let mut statement = snapshot.prepare_cached(&sql)?;
    let mut rows = statement.query(params![counted(cursor), limit.clamp(1, PAGE_MAX)])?;
    let mut events = Vec::new();
    let mut text_bytes = 0;
    while text_bytes < PAGE_TEXT_BYTES
        && let Some(row) = rows.next()?
    {
        let id = uncounted(row.get(0)?);
        let at = Timestamp::from_ms(uncounted(row.get(1)?));
        let data: Option<String> = row.get(2)?;
        let kind = match data.as_deref().map(serde_json::from_str) {
            None => StoredEventKind::Message(messages::read(&snapshot, row, 3, id)?),
            Some(Ok(event)) => StoredEventKind::Other(event),
            Some(Err(error)) => {
                warn!(event = id, %error, "a stored event cannot be read and is reported as a gap");
                let reason = "an event of another version of chatd".to_owned();
                StoredEventKind::Other(Event::Gap { reason })
            }
        };
        if let StoredEventKind::Message(row) = &kind {
            text_bytes += row.text.len();
        }
        events.push(StoredEvent::new(id, at, kind));
    }
    Ok(EventPage { events, gap, from: cursor })
}

/// A cursor that everything written at a time or later follows, even if the clock was set back in between.
pub(in crate::store) fn cursor_at(connection: &Connection, time: Timestamp) -> rusqlite::Result<u64> {
    let sql = "SELECT min(id) FROM events INDEXED BY events_at WHERE at >= ?";
    let first: Option<i64> = connection.prepare_cached(sql)?.query_row([counted(time.as_ms())], |row| row.get(0))?;
    match first {
        Some(first) => Ok(uncounted(first).saturating_sub(1)),
        None => newest(connection),
    }
}

/// Deletes some events other than messages that are too old or too many; returns whether there may be more.
pub(in crate::store) fn prune(connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    let surplus: Option<i64> = connection
        .query_row(
            "SELECT id FROM events WHERE message IS NULL ORDER BY id DESC LIMIT 1 OFFSET ?",
            [OTHERS_MAX],
            |row| row.get(0),
        )
        .optional()?;
    // In order of number, up to the first one that stays: a single number says up to where events are pruned.
    let sql = "SELECT id, at FROM events WHERE message IS NULL ORDER BY id LIMIT ?";
    let too_old = counted(now.before(KEPT).as_ms());
    let oldest: Vec<(i64, i64)> = connection
        .prepare_cached(sql)?
        .query_map([DROPPED_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let dropped = oldest.iter().take_while(|(id, at)| *at < too_old || surplus.is_some_and(|surplus| *id <= surplus));
    let Some((last, _)) = dropped.last() else { return Ok(false) };
    set_events_pruned(connection, uncounted(*last))?;
    let dropped = connection.execute("DELETE FROM events WHERE message IS NULL AND id <= ?", [last])?;
    Ok(i64::try_from(dropped).is_ok_and(|dropped| dropped == DROPPED_MAX))
}
