//! Durable events: numbered in the order in which they were written, and kept so that readers can resume.
//!
//! The event of a message refers to its row, which has the number of the event; any other event is stored as JSON. Numbers
//! grow and are never reused: the row of the newest event is never deleted, at most emptied. A cursor that the API gives out
//! is such a number with the run that wrote it (`runs`).
//!
//! Events have no index by time, as every message would have to write it. `event_times` has one row for [`BLOCK_MS`] of them:
//! from its event up to that of the next row, all were written at its time or less than [`BLOCK_MS`] later.
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
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use rusqlite_migration::HookResult;
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

/// Longest time between the first event of a row of `event_times` and its last: the search for a time reads its events.
const BLOCK_MS: i64 = 10_000;

/// Notes when the next events are written, unless the newest row of `event_times` says so. `noted` is the time of that row, if
/// it is known.
pub(in crate::store) fn note_time(
    connection: &Connection,
    noted: &mut Option<Timestamp>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    if noted.is_none() {
        let sql = "SELECT at FROM event_times ORDER BY event DESC LIMIT 1";
        let last: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        *noted = last.map(|at| Timestamp::from_ms(uncounted(at)));
    }
    if !noted.is_some_and(|noted| is_in_block(noted, now)) {
        insert_time(connection, newest(connection)? + 1, now)?;
        *noted = Some(now);
    }
    Ok(())
}

/// Notes the times of all events of a database that has noted none.
pub(in crate::store) fn note_all_times(connection: &Transaction<'_>) -> HookResult {
    let mut noted = None;
    let mut events = connection.prepare("SELECT id, at FROM events ORDER BY id")?;
    let mut rows = events.query([])?;
    while let Some(row) = rows.next()? {
        let at = Timestamp::from_ms(uncounted(row.get(1)?));
        if !noted.is_some_and(|noted| is_in_block(noted, at)) {
            insert_time(connection, uncounted(row.get(0)?), at)?;
            noted = Some(at);
        }
    }
    Ok(())
}

fn is_in_block(noted: Timestamp, at: Timestamp) -> bool {
    noted <= at && counted(at.as_ms()) - counted(noted.as_ms()) < BLOCK_MS
}

fn insert_time(connection: &Connection, event: u64, at: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO event_times (event, at) VALUES (?, ?)";
    connection.prepare_cached(sql)?.execute([counted(event), counted(at.as_ms())])?;
    Ok(())
}

/// Inserts the event of a message, before its row, which names it; returns its number.
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

/// Empties an event that no reader was given; its number stays used.
pub(in crate::store) fn empty(connection: &Connection, event: u64) -> rusqlite::Result<()> {
    let sql = "UPDATE events SET message = NULL, data = NULL WHERE id = ?";
    connection.prepare_cached(sql)?.execute([counted(event)])?;
    Ok(())
}

/// Number of the newest event that was ever written.
pub(in crate::store) fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| row.get(0)).map(uncounted)
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
        WHERE e.id > ? AND (e.data IS NOT NULL OR m.visible = 1 AND m.gone <> 2) ORDER BY e.id LIMIT ?",
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
    let snapshot = connection.unchecked_transaction()?;
    let time = counted(time.as_ms());
    // The events of these may have been written at that time or later; the clock may have been set back between them.
    let mut blocks = snapshot.prepare_cached("SELECT event FROM event_times WHERE at > ? ORDER BY event")?;
    for first in blocks.query_map([time - BLOCK_MS], |row| row.get::<_, i64>(0))? {
        let sql = "SELECT id FROM events WHERE at >= ?2 AND id >= ?1
            AND id < (SELECT coalesce(min(event), ?3) FROM event_times WHERE event > ?1) ORDER BY id LIMIT 1";
        let found: Option<i64> =
            snapshot.prepare_cached(sql)?.query_row([first?, time, i64::MAX], |row| row.get(0)).optional()?;
        if let Some(found) = found {
            return Ok(uncounted(found).saturating_sub(1));
        }
    }
    newest(&snapshot)
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
    // The newest one stays, with its number.
    let sql =
        "SELECT id, at FROM events WHERE message IS NULL AND id < (SELECT max(id) FROM events) ORDER BY id LIMIT ?";
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::schema::{EVENTS_V8, MIGRATIONS};
    use proptest::prelude::*;

    fn database() -> Connection {
        let mut db = Connection::open_in_memory().expect("opens");
        MIGRATIONS.to_latest(&mut db).expect("migrates");
        db.execute("INSERT INTO facts (id, me, incarnation, file) VALUES (1, x'', 0, x'')", []).expect("inserts");
        db
    }

    fn insert(db: &Connection, noted: &mut Option<Timestamp>, at: u64) {
        let at = Timestamp::from_ms(at);
        note_time(db, noted, at).expect("notes");
        insert_other(db, &Event::Gap { reason: String::new() }, at).expect("inserts");
    }

    fn events(db: &Connection) -> Vec<u64> {
        after(db, 0, 1000).expect("reads").events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn number_of_the_newest_event_is_not_used_again() {
        let db = database();
        let mut noted = None;
        (0..3).for_each(|_| insert(&db, &mut noted, 0));
        while prune(&db, Timestamp::from_ms(u64::MAX / 4)).expect("prunes") {}
        assert_eq!(events(&db), [3], "it is never pruned");
        empty(&db, 3).expect("empties");
        assert_eq!((events(&db), newest(&db).expect("reads")), (vec![], 3));
        insert(&db, &mut noted, 0);
        assert_eq!(events(&db), [4]);
    }

    #[test]
    fn events_of_version_8_keep_their_numbers_and_times() {
        let mut db = database();
        let mut noted = None;
        [5_000, 6_000, 90_000, 7_000, 8_000].into_iter().for_each(|at| insert(&db, &mut noted, at));
        db.execute_batch(EVENTS_V8).expect("is as version 8 left it");
        db.execute_batch("DELETE FROM events WHERE id = 5").expect("the newest was pruned");
        MIGRATIONS.to_latest(&mut db).expect("migrates");
        assert_eq!((events(&db), newest(&db).expect("reads")), (vec![1, 2, 3, 4], 5));
        insert(&db, &mut None, 9_000);
        assert_eq!(events(&db), [1, 2, 3, 4, 6]);
        for (time, cursor) in [(0, 0), (5_000, 0), (5_001, 1), (6_001, 2), (90_001, 6)] {
            assert_eq!(cursor_at(&db, Timestamp::from_ms(time)).expect("reads"), cursor, "{time}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn cursor_of_a_time_is_before_the_first_event_of_that_time_or_later(
            steps in prop::collection::vec(-30_000_i64..30_000, 1..60),
            time in 0_u64..200_000,
            forgets: bool,
        ) {
            let db = database();
            let (mut noted, mut at) = (None, 100_000_i64);
            let mut times = Vec::new();
            for step in steps {
                at = (at + step).max(0);
                times.push(at.unsigned_abs());
                insert(&db, &mut noted, at.unsigned_abs());
                if forgets {
                    noted = None;
                }
            }
            let first = times.iter().position(|at| *at >= time).unwrap_or(times.len());
            prop_assert_eq!(cursor_at(&db, Timestamp::from_ms(time)).expect("reads"), first as u64);
        }
    }
}
