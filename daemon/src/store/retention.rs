//! Retention: drops the bodies of old messages, and fills in bodies that this peer did not get with their entries.
//!
//! The age of a message is the time for which this database has held its entry, never a date: a message that arrives with a
//! date of last year, or of next year, is kept as long as any other. [`mark`] notes from time to time up to which row the
//! table of entries reached; what lies before the newest mark that is old enough may go. [`drop_some`] takes a bounded
//! number of entries at a time, in one transaction with the row that it reached, so that a crash in between changes nothing.
//!
//! A dropped message keeps its row, its place in the history and its event; text, ciphertext and words in the index go. Only
//! bodies go whose headers say that they carry messages. Freed pages are used again; the file does not shrink.
//!
//! Entries whose bodies other members had dropped have a row in `lacking`, one row in `messages` in the place of all their
//! messages, and an event that no stream gives out. [`fill`] replaces these when the body comes. What this database dropped
//! is not in `lacking`: it is never filled in again.

use std::time::Duration;

use chat_core::log::entry::{Entry, Hlc, LogId, Seq, SignedEntry};
use chat_core::output::BatchEntry;
use chat_proto::id::EntryHash;
use chat_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::tables::WriteContext;
use crate::store::tables::entries::{Inserted, insert_messages, signed_entry};
use crate::store::tables::events;
use crate::store::tables::messages::{DROPPED, MESSAGES_PER_ENTRY, NEVER_HELD, SHOWN, UNANNOUNCED};
use crate::store::tables::row_ids::{find_log, log_id, peer_row};
use crate::store::tables::sql_types::{counted, uncounted, unordered};
use crate::store::tables::text_index;

/// Interval between two marks.
const MARK_EVERY: Duration = Duration::from_secs(60 * 60);

/// Maximum number of entries that are looked at in one transaction: some ten milliseconds, for which a message that
/// arrives waits.
const ENTRIES_AT_A_TIME: u32 = 128;

/// Number of messages after which a transaction ends, including those of the entry that reaches it.
const MESSAGES_AT_A_TIME: usize = 512;

/// Notes that the entries up to now were held by this time, unless that was done within the hour.
pub(in crate::store) fn mark(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    // A clock that was ahead and has been put right.
    connection.execute("DELETE FROM held WHERE at > ?", [counted(now.as_ms())])?;
    let sql = "INSERT INTO held (entry, at) SELECT newest, ?1 FROM (SELECT coalesce(max(id), 0) newest FROM entries)
        WHERE newest > (SELECT coalesce(max(entry), 0) FROM held)
        AND NOT EXISTS (SELECT 1 FROM held WHERE at > ?2)";
    connection.execute(sql, params![counted(now.as_ms()), counted(now.before(MARK_EVERY).as_ms())])?;
    Ok(())
}

/// Drops the bodies of some messages whose entries were held before a time; returns whether there may be more.
pub(in crate::store) fn drop_some(connection: &Connection, held_before: Timestamp) -> rusqlite::Result<bool> {
    let done: i64 = connection.query_row("SELECT dropped FROM facts", [], |row| row.get(0))?;
    let upto: Option<i64> =
        connection
            .query_row("SELECT max(entry) FROM held WHERE at <= ?", [counted(held_before.as_ms())], |row| row.get(0))?;
    let Some(upto) = upto.filter(|upto| *upto > done) else { return Ok(false) };
    let sql = "SELECT id, hash, header, signature, NULL FROM entries WHERE id > ? AND id <= ?
        ORDER BY id LIMIT ?";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![done, upto, ENTRIES_AT_A_TIME])?;
    let mut reached = upto;
    let (mut count, mut messages) = (0, 0);
    while let Some(row) = rows.next()? {
        reached = row.get(0)?;
        count += 1;
        let hash = EntryHash::from_bytes(row.get(1)?);
        let entry = Entry::from_trusted(signed_entry(row, 2)?);
        if entry.is_ok_and(|entry| entry.hash() == hash && entry.is_of_messages()) {
            messages += drop_body(connection, reached)?;
        }
        if messages >= MESSAGES_AT_A_TIME {
            break;
        }
    }
    let more = reached < upto && (count == ENTRIES_AT_A_TIME || messages >= MESSAGES_AT_A_TIME);
    let reached = if more { reached } else { upto };
    connection.execute("UPDATE facts SET dropped = ?", [reached])?;
    connection.execute("DELETE FROM held WHERE entry < ?", [reached])?;
    Ok(more)
}

/// Drops the body of an entry and the texts of its messages; returns their number. Rows are replaced, not updated: SQLite
/// joins pages that a deletion leaves nearly empty, and frees some, and does not do so after an update.
fn drop_body(connection: &Connection, entry: i64) -> rusqlite::Result<usize> {
    connection.prepare_cached("DELETE FROM lacking WHERE entry = ?")?.execute([entry])?;
    let sql = "REPLACE INTO entries (id, log, seq, hash, hlc, control, header, signature)
        SELECT id, log, seq, hash, hlc, control, header, signature FROM entries WHERE id = ?";
    connection.prepare_cached(sql)?.execute([entry])?;
    let first = entry * MESSAGES_PER_ENTRY;
    let messages: Vec<i64> = connection
        .prepare_cached("SELECT id FROM messages WHERE id BETWEEN ? AND ?")?
        .query_map([first, first + MESSAGES_PER_ENTRY - 1], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for message in &messages {
        text_index::remove(connection, *message)?;
        // An event that no reader was given is given to none any more.
        let sql = "REPLACE INTO messages (id, author, hlc, label, clock_off, visible, direct, text, reply, gone, event)
            SELECT id, author, hlc, label, clock_off, visible, direct, '', reply, CASE WHEN visible = ? THEN ? ELSE ? END, event
            FROM messages WHERE id = ? AND gone = 0";
        connection.prepare_cached(sql)?.execute(params![UNANNOUNCED, NEVER_HELD, DROPPED, message])?;
    }
    Ok(messages.len())
}

/// Entries without bodies that members may be asked for.
pub(in crate::store) fn lacking(connection: &Connection) -> rusqlite::Result<Vec<(LogId, Seq)>> {
    let sql = "SELECT p.key, l.incarnation, n.seq FROM lacking b CROSS JOIN entries n ON n.id = b.entry
        CROSS JOIN logs l ON l.id = n.log CROSS JOIN peers p ON p.id = l.author ORDER BY n.log, n.seq";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([], |row| Ok((log_id(row, 0)?, Seq(uncounted(row.get(2)?)))))?.collect()
}

/// Adds the body to an entry that was written without one, and shows its messages. Changes nothing where none is lacking.
pub(in crate::store) fn fill(
    context: &mut WriteContext<'_>,
    item: &BatchEntry,
    inserted: &mut Inserted,
) -> rusqlite::Result<()> {
    let connection = context.connection;
    let entry = item.entry.as_ref();
    let Some(log) = find_log(connection, entry.log())? else { return Ok(()) };
    let sql =
        "SELECT n.id, n.hash, n.hlc FROM entries n JOIN lacking b ON b.entry = n.id WHERE n.log = ? AND n.seq = ?";
    let held: Option<(i64, [u8; 32], i64)> = connection
        .prepare_cached(sql)?
        .query_row(params![log, counted(entry.seq().0)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((row, _, order)) = held.filter(|(_, hash, _)| EntryHash::from_bytes(*hash) == entry.hash()) else {
        return Ok(());
    };
    let SignedEntry { body, .. } = entry.signed();
    connection.prepare_cached("UPDATE entries SET body = ? WHERE id = ?")?.execute(params![body, row])?;
    connection.prepare_cached("DELETE FROM lacking WHERE entry = ?")?.execute([row])?;
    let placeholder = row * MESSAGES_PER_ENTRY;
    text_index::remove(connection, placeholder)?;
    let sql = "DELETE FROM messages WHERE id = ? RETURNING visible, event";
    let stood: Option<(i64, Option<i64>)> =
        connection.prepare_cached(sql)?.query_row([placeholder], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    inserted.placeholders -= i64::from(stood.is_some_and(|(visible, _)| visible == SHOWN));
    if let Some(event) = stood.and_then(|(_, event)| event) {
        events::empty(connection, uncounted(event))?;
    }
    let author = peer_row(connection, &entry.author())?;
    insert_messages(context, item, (author, Hlc(unordered(order))), row, &Default::default(), inserted)?;
    text_index::add_late(context.connection, placeholder, MESSAGES_PER_ENTRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::schema::MIGRATIONS;

    fn day(day: u64) -> Timestamp {
        Timestamp::from_ms(day * 24 * 60 * 60 * 1000)
    }

    /// A database to which entries are added that are not read.
    struct Entries(Connection);

    impl Entries {
        fn new() -> Self {
            let mut db = Connection::open_in_memory().expect("opens");
            MIGRATIONS.to_latest(&mut db).expect("migrates");
            db.execute_batch("PRAGMA foreign_keys = OFF").expect("is set");
            Self(db)
        }

        /// Adds one entry and notes the time, as a number of days.
        fn add(&self, id: i64, at: u64) {
            let sql = "INSERT INTO entries (id, log, seq, hash, hlc, control, header, signature)
                VALUES (?1, 1, ?1, CAST(?1 AS BLOB), 0, 0, x'00', x'00')";
            self.0.execute(sql, [id]).expect("adds");
            mark(&self.0, day(at)).expect("marks");
        }

        /// Up to which entry all were held by a day.
        fn held(&self, at: u64) -> Option<i64> {
            let sql = "SELECT max(entry) FROM held WHERE at <= ?";
            self.0.query_row(sql, [counted(day(at).as_ms())], |row| row.get(0)).expect("reads")
        }
    }

    #[test]
    fn marks_are_few_and_name_the_newest_entry() {
        let entries = Entries::new();
        (1..=3).for_each(|id| entries.add(id, 1));
        entries.add(4, 2);
        assert_eq!([entries.held(0), entries.held(1), entries.held(2)], [None, Some(1), Some(4)], "one within an hour");
        mark(&entries.0, day(3)).expect("marks");
        assert_eq!(entries.held(3), Some(4), "nothing came since");
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_texts_no_longer_than_others() {
        let entries = Entries::new();
        entries.add(1, 1);
        entries.add(2, 30_000);
        entries.add(3, 2);
        assert_eq!(entries.held(2), Some(3));
        assert_eq!(entries.held(40_000), Some(3), "the mark of the wrong clock is gone");
    }
}
