//! Connections to the database and their settings.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// Longest wait for another connection of this process; only checkpoints and recovery hold locks for long.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Page cache of a read-write connection, in KiB: more than one group of jobs changes. It fills up with the first messages
/// and stays, so it is the memory by which a daemon grows; what is not in it is in the kernel's cache.
const WRITER_CACHE_KIB: u32 = 4 * 1024;

/// Maximum number of prepared statements the writer keeps: more than it has.
const STATEMENTS: usize = 64;

/// A read-only connection for queries.
pub(in crate::store) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Damage to the pages of the file, in SQLite's words; at most `max` of them, none in a sound file.
pub(in crate::store) fn page_problems(connection: &Connection, max: u32) -> rusqlite::Result<Vec<String>> {
    let mut check = connection.prepare(&format!("PRAGMA quick_check({max})"))?;
    let mut problems: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    problems.retain(|problem| problem != "ok");
    Ok(problems)
}

/// A read-write connection, with the settings that make a commit durable.
pub(in crate::store) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB))?;
    // Checkpoints run beside the writer: within a commit, one would delay every message after it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}
