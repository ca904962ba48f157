//! Runs: each opening of the database draws a random number, and cursors name events by run and number.
//!
//! Event numbers alone do not show that a database was rolled back: an older copy of the file counts on from an older
//! number, and other events get the numbers that readers have seen. The number of the run that wrote those is missing in
//! the older copy, or its events end earlier there.
//!
//! A run covers the events after its start, up to the start of the next one. A cursor is exact if its run is known and
//! the event is not beyond the end of that run: a peer that knows a run holds every event before it.
//!
//! Invariants: a run is written with its first event, so that an opening writes nothing and a database on a full disk can
//! be read; runs without events are dropped when the next one is written; only the newest [`RUNS_MAX`] are kept, and
//! events of forgotten runs are named by the oldest one that is kept.
//!
//! Begun by `open`, written by the writer's first transaction; read by [`Store::cursor`](crate::store::Store::cursor) and
//! [`Store::position`](crate::store::Store::position) from memory.

use chat_proto::cursor::Cursor;
use rusqlite::{Connection, params};

use crate::store::tables::events;
use crate::store::tables::sql_types::{counted, uncounted};

/// Maximum number of runs that are kept. A reader that was away for more starts than this gets a gap.
const RUNS_MAX: usize = 1000;

/// The runs of a database, oldest first.
#[derive(Clone, Debug)]
pub(in crate::store) struct Runs(Vec<Run>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    number: u32,
    /// The newest event when the run began.
    start: u64,
}

impl Runs {
    /// Begins a run after the newest event, and reads the earlier ones. Writes nothing.
    pub(in crate::store) fn begin(connection: &Connection) -> rusqlite::Result<Self> {
        let start = events::newest(connection)?;
        let mut runs = read(connection)?;
        runs.retain(|run| run.start < start);
        if runs.len() >= RUNS_MAX {
            runs.drain(..=runs.len() - RUNS_MAX);
        }
        let number = std::iter::repeat_with(rand::random)
            .find(|number| runs.iter().all(|run| run.number != *number))
            .unwrap_or_default();
        runs.push(Run { number, start });
        Ok(Self(runs))
    }

    /// Writes the newest run, and drops those that are not kept. Must precede its first event.
    pub(in crate::store) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let (Some(oldest), Some(newest)) = (self.0.first(), self.0.last()) else { return Ok(()) };
        let sql = "DELETE FROM runs WHERE start < ? OR start >= ?";
        connection.execute(sql, params![counted(oldest.start), counted(newest.start)])?;
        let sql = "INSERT INTO runs (start, run) VALUES (?, ?)";
        connection.execute(sql, params![counted(newest.start), newest.number])?;
        Ok(())
    }

    /// The cursor of an event.
    pub(in crate::store) fn cursor(&self, event: u64) -> Cursor {
        let after = self.0.partition_point(|run| run.start < event);
        let run = self.0.get(after.saturating_sub(1)).map_or(0, |run| run.number);
        Cursor { run, event }
    }

    /// The event of a cursor; `None` if it is not an event of this database, whose newest is `newest`.
    pub(in crate::store) fn position(&self, cursor: Cursor, newest: u64) -> Option<u64> {
        let known = self.0.iter().position(|run| run.number == cursor.run)?;
        let end = self.0.get(known + 1).map_or(newest, |next| next.start);
        (cursor.event <= end).then_some(cursor.event)
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Vec<Run>> {
    connection
        .prepare("SELECT run, start FROM runs ORDER BY start")?
        .query_map([], |row| Ok(Run { number: row.get(0)?, start: uncounted(row.get(1)?) }))?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::schema::MIGRATIONS;

    fn database() -> Connection {
        let mut db = Connection::open_in_memory().expect("opens");
        MIGRATIONS.to_latest(&mut db).expect("migrates");
        db
    }

    fn write_events(db: &Connection, count: u64) {
        for _ in 0..count {
            db.execute("INSERT INTO events (at, data) VALUES (0, '')", []).expect("inserts");
        }
    }

    /// Begins a run and writes it, as an opening and its first transaction do.
    fn begin(db: &Connection) -> Runs {
        let runs = Runs::begin(db).expect("begins");
        runs.write(db).expect("writes");
        runs
    }

    #[test]
    fn cursor_names_the_run_that_wrote_the_event() {
        let db = database();
        let first = begin(&db);
        write_events(&db, 5);
        let second = begin(&db);
        write_events(&db, 5);
        assert_eq!((second.cursor(0), second.cursor(5)), (first.cursor(0), first.cursor(5)));
        assert_ne!(second.cursor(6).run, first.cursor(6).run);
        for event in 0..=10 {
            assert_eq!(second.position(second.cursor(event), 10), Some(event));
        }
    }

    #[test]
    fn cursor_of_an_event_beyond_its_run_has_no_position() {
        let db = database();
        let lost = begin(&db);
        write_events(&db, 5);
        let now = begin(&db);
        assert_eq!(now.position(lost.cursor(6), 9), None, "events 6 to 9 are of another run");
        assert_eq!(now.position(Cursor { run: now.cursor(6).run, event: 6 }, 5), None, "not written yet");
        assert_eq!(now.position(Cursor { run: now.cursor(6).run ^ 1, event: 1 }, 9), None, "an unknown run");
    }

    #[test]
    fn run_that_was_not_written_leaves_the_earlier_ones() {
        let db = database();
        let first = begin(&db);
        write_events(&db, 5);
        let unwritten = Runs::begin(&db).expect("begins");
        let next = begin(&db);
        write_events(&db, 1);
        assert_eq!(next.position(first.cursor(5), 6), Some(5));
        assert_eq!(next.position(unwritten.cursor(6), 6), None, "it wrote no event");
    }

    #[test]
    fn runs_are_bounded_and_those_without_events_are_dropped() {
        let db = database();
        for _ in 0..RUNS_MAX + 9 {
            begin(&db);
        }
        assert_eq!(read(&db).expect("reads").len(), 1);
        for _ in 0..RUNS_MAX + 9 {
            write_events(&db, 1);
            begin(&db);
        }
        assert_eq!(read(&db).expect("reads").len(), RUNS_MAX);
    }
}
