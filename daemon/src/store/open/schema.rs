//! The schema: the tables, and the migrations from older versions to it.
//!
//! [`MIGRATIONS`] lists one step per released version; a new database runs all of them. A released step is never
//! changed; a change of the schema appends a step, adds a fixture of the version before it to `daemon/fixtures`, and a
//! test that loads it. SQLite's `user_version` counts the steps that were run; a database with more steps than this
//! program has is refused as too new. [`APPLICATION_ID`] marks the file as ours.
//!
//! What each table is for is in the documentation of [`store`](crate::store). Column types are strict; times are
//! milliseconds since 1970, or hybrid clocks (`hlc`) mapped by `sql_types::ordered`.
//!
//! Used by `open` when the database is opened.

use std::sync::LazyLock;

use chat_core::log::entry::{Entry, SignedEntry};
use chat_core::membership::authority::Authority;
use rusqlite::Transaction;
use rusqlite_migration::{HookResult, M, Migrations};

use crate::store::open::branches::file_hidden_branches;
use crate::store::tables::entries::{keep_clock, signed_entry};
use crate::store::tables::events;

/// `chat` in ASCII: the application id of our SQLite files.
pub(in crate::store) const APPLICATION_ID: i32 = 0x6368_6174;

/// Steps from an empty file to the newest schema. A released step is never changed; new ones are appended.
pub(in crate::store) static MIGRATIONS: LazyLock<Migrations<'static>> = LazyLock::new(|| {
    Migrations::new(vec![
        M::up(V1),
        M::up(V2),
        M::up(V3),
        M::up(V4),
        M::up_with_hook(V5, keep_clocks),
        M::up_with_hook(V6, file_hidden_branches),
        M::up(V7),
        M::up(V8),
        M::up_with_hook(V9, events::note_all_times),
    ])
});

/// Makes a message cheaper to write: its event has no index by message, as the message names it, none by time, which
/// `event_times` finds, and no row of `sqlite_sequence`. The number of the newest event is kept by a row without content where
/// that event is gone.
const V9: &str = "
ALTER TABLE messages ADD COLUMN event INTEGER;
UPDATE messages SET event = (SELECT max(id) FROM events WHERE message = messages.id);
ALTER TABLE events RENAME TO events_before;
CREATE TABLE events (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, message INTEGER, data TEXT) STRICT;
INSERT INTO events (id, at, message, data) SELECT id, at, message, data FROM events_before ORDER BY id;
INSERT OR IGNORE INTO events (id, at) SELECT seq, 0 FROM sqlite_sequence WHERE name = 'events_before' AND seq > 0;
DROP TABLE events_before;
CREATE INDEX events_other ON events (id) WHERE message IS NULL;
CREATE TABLE event_times (event INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;
";

/// Adds what retention needs: whether the text of a message is gone (dropped here, or never held); the entries whose bodies
/// this database never held; up to which row the entries were held at which time, and up to which their bodies were dropped.
const V8: &str = "
ALTER TABLE messages ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;
ALTER TABLE facts ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
CREATE TABLE lacking (entry INTEGER PRIMARY KEY REFERENCES entries) STRICT;
CREATE TABLE held (entry INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;
";

/// Adds what a message answers: the entry's hash and two bytes for the index in it.
const V7: &str = "
ALTER TABLE messages ADD COLUMN reply BLOB;
ALTER TABLE dm_outbox ADD COLUMN reply BLOB;
";

/// Keeps every fork of a log, not only the first; `before` is the hash of the entry before it, empty where there is none.
const V6: &str = "
ALTER TABLE forks RENAME TO forks_by_log;
CREATE TABLE forks (
    log INTEGER NOT NULL REFERENCES logs,
    before BLOB NOT NULL,
    first BLOB NOT NULL,
    second BLOB NOT NULL,
    PRIMARY KEY (log, before)
) STRICT, WITHOUT ROWID;
";

/// Adds which acts of admins each entry follows, where that differs from the entry before it in its log.
const V5: &str = "
CREATE TABLE clocks (
    log INTEGER NOT NULL REFERENCES logs,
    seq INTEGER NOT NULL,
    clock BLOB NOT NULL,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;
";

/// Works the clocks of all stored entries out, in the order in which they came: causes before effects.
fn keep_clocks(transaction: &Transaction<'_>) -> HookResult {
    let mut authority = Authority::default();
    let mut entries = transaction
        .prepare("SELECT header, signature, CASE control WHEN 1 THEN body END, log FROM entries ORDER BY id")?;
    let mut rows = entries.query([])?;
    while let Some(row) = rows.next()? {
        let signed: SignedEntry = signed_entry(row, 0)?;
        // A damaged entry is found and fetched anew later.
        let Ok(entry) = Entry::from_trusted(signed) else { continue };
        authority.observe(&entry);
        if let Some(clock) = authority.clock_of(&entry) {
            keep_clock(transaction, row.get(3)?, entry.seq(), &clock)?;
        }
    }
    Ok(())
}

/// Parts the order of messages (`hlc`, which was both) from their dates, and adds how far the author's clock was off in
/// milliseconds where that was noticeable.
const V4: &str = "
ALTER TABLE messages ADD COLUMN label INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN clock_off INTEGER;
UPDATE messages SET label = hlc;
DROP INDEX messages_order;
DROP INDEX messages_author;
DROP INDEX messages_direct;
CREATE INDEX messages_order ON messages (hlc, label) WHERE visible = 1;
CREATE INDEX messages_author ON messages (author, hlc, label) WHERE visible = 1;
CREATE INDEX messages_direct ON messages (hlc, label) WHERE visible = 1 AND direct = 1;
";

/// Replaces the number of the database by runs, finds the event of a message, and remembers up to which entry all were
/// checked for damage.
const V3: &str = "
CREATE TABLE runs (
    start INTEGER PRIMARY KEY,
    run INTEGER NOT NULL UNIQUE
) STRICT;
INSERT INTO runs (start, run) SELECT 0, database FROM facts;
ALTER TABLE facts DROP COLUMN database;
ALTER TABLE facts ADD COLUMN checked INTEGER NOT NULL DEFAULT 0;
CREATE INDEX events_message ON events (message) WHERE message IS NOT NULL;
";

/// Adds when the fallback key was made, in milliseconds since 1970; zero if that is not known.
const V2: &str = "ALTER TABLE dm_account ADD COLUMN made INTEGER NOT NULL DEFAULT 0;";

/// The first version. Unsigned times and incarnations are mapped to SQLite's signed integers by `sql_types::ordered`.
const V1: &str = "
PRAGMA application_id = 0x63686174;

CREATE TABLE facts (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    me BLOB NOT NULL,
    database INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    file BLOB NOT NULL,
    room BLOB,
    room_name TEXT NOT NULL DEFAULT '',
    room_open INTEGER NOT NULL DEFAULT 0,
    events_pruned INTEGER NOT NULL DEFAULT 0,
    searchable INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE peers (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    author INTEGER NOT NULL REFERENCES peers,
    incarnation INTEGER NOT NULL,
    UNIQUE (author, incarnation)
) STRICT;

CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    log INTEGER NOT NULL REFERENCES logs,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    hlc INTEGER NOT NULL,
    control INTEGER NOT NULL,
    header BLOB NOT NULL,
    signature BLOB NOT NULL,
    body BLOB,
    UNIQUE (log, seq)
) STRICT;
CREATE INDEX entries_control ON entries (id) WHERE control = 1;

CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    author INTEGER NOT NULL REFERENCES peers,
    hlc INTEGER NOT NULL,
    visible INTEGER NOT NULL,
    direct INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX messages_order ON messages (hlc) WHERE visible = 1;
CREATE INDEX messages_author ON messages (author, hlc) WHERE visible = 1;
CREATE INDEX messages_hidden ON messages (id) WHERE visible <> 1;
CREATE INDEX messages_direct ON messages (hlc) WHERE visible = 1 AND direct = 1;

CREATE TABLE recipients (
    message INTEGER NOT NULL REFERENCES messages,
    place INTEGER NOT NULL,
    peer INTEGER NOT NULL REFERENCES peers,
    PRIMARY KEY (message, place)
) STRICT, WITHOUT ROWID;

CREATE VIRTUAL TABLE search USING fts5(
    text, content = 'messages', content_rowid = 'id', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    message INTEGER REFERENCES messages,
    data TEXT
) STRICT;
CREATE INDEX events_at ON events (at);
CREATE INDEX events_other ON events (id) WHERE message IS NULL;

CREATE TABLE keys (
    key TEXT PRIMARY KEY,
    request BLOB NOT NULL,
    message INTEGER NOT NULL REFERENCES messages,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_at ON keys (at);

CREATE TABLE addrs (
    peer INTEGER PRIMARY KEY REFERENCES peers,
    time INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT;

CREATE TABLE seen (
    peer INTEGER PRIMARY KEY REFERENCES peers,
    time INTEGER NOT NULL
) STRICT;

CREATE TABLE forks (
    log INTEGER PRIMARY KEY REFERENCES logs,
    first BLOB NOT NULL,
    second BLOB NOT NULL
) STRICT;

CREATE TABLE dm_account (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    salt BLOB NOT NULL,
    pickle TEXT NOT NULL,
    identity BLOB NOT NULL,
    fallback BLOB NOT NULL
) STRICT;

CREATE TABLE dm_identities (
    peer INTEGER NOT NULL REFERENCES peers,
    identity BLOB NOT NULL,
    PRIMARY KEY (peer, identity)
) STRICT, WITHOUT ROWID;

CREATE TABLE dm_sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    peer INTEGER NOT NULL REFERENCES peers,
    session TEXT NOT NULL,
    identity BLOB NOT NULL,
    sendable INTEGER NOT NULL,
    used INTEGER NOT NULL,
    salt BLOB NOT NULL,
    pickle TEXT NOT NULL,
    UNIQUE (peer, session)
) STRICT;

CREATE TABLE dm_outbox (
    body BLOB PRIMARY KEY,
    at INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX dm_outbox_at ON dm_outbox (at);
";

/// Undoes [`V9`], for tests that make a database of an earlier version.
#[cfg(test)]
pub(in crate::store) const EVENTS_V8: &str = "
ALTER TABLE events RENAME TO events_after;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    message INTEGER REFERENCES messages,
    data TEXT
) STRICT;
INSERT INTO events SELECT * FROM events_after WHERE message IS NOT NULL OR data IS NOT NULL;
DROP TABLE events_after;
CREATE INDEX events_at ON events (at);
CREATE INDEX events_other ON events (id) WHERE message IS NULL;
CREATE INDEX events_message ON events (message) WHERE message IS NOT NULL;
ALTER TABLE messages DROP COLUMN event;
DROP TABLE event_times;
PRAGMA user_version = 8;
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_valid() {
        assert_eq!(MIGRATIONS.validate(), Ok(()));
    }

    #[test]
    fn schema_has_our_application_id() {
        assert!(V1.contains(&format!("application_id = {APPLICATION_ID:#x};")));
    }
}
