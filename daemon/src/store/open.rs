//! Opening the database: creating it, bringing an older one up to date, setting a damaged one aside.

pub(in crate::store) mod restore;
pub(in crate::store) mod room_file;
pub(in crate::store) mod schema;

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{MigrationDefinitionError, SchemaVersionError};
use tracing::{info, warn};

use crate::store::error::OpenError;
use crate::store::open::room_file::Sidecar;
use crate::store::open::schema::{APPLICATION_ID, MIGRATIONS};
use crate::store::read::search;
use crate::store::tables::meta::{Facts, FileMark};
use crate::store::tables::sql_types::{is_corruption, now, persist_error};
use crate::store::{Absent, Opening, dm};

/// Longest wait for another connection of this process: only checkpoints and recovery hold locks for long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Memory of the writer for pages it has read or changed, in KiB.
const WRITER_CACHE_KIB: u32 = 16 * 1024;

/// Statements the writer keeps prepared: more than it has.
const STATEMENTS: usize = 64;

/// Up to which size every start checks the whole file (some tenths of a second); larger ones are checked when a failure
/// was seen.
const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// An open database.
pub(super) struct Ready {
    pub(super) connection: Connection,
    pub(super) facts: Facts,
    pub(super) set_aside: Option<PathBuf>,
}

pub(super) fn open(path: &Path, opening: &Opening) -> Result<Ready, OpenError> {
    let sidecar = Sidecar::read(path);
    let exists = path.try_exists().map_err(|source| io_error(path, source))?;
    let may_create = opening.absent == Absent::Create || sidecar.is_some();
    if !exists && !may_create {
        return Err(OpenError::Missing(path.to_owned()));
    }
    match attempt(path, opening, sidecar.as_ref()) {
        Ok((connection, facts)) => Ok(Ready { connection, facts, set_aside: None }),
        Err(error) if exists && is_damage(&error) => {
            if !may_create {
                return Err(OpenError::Damaged(path.to_owned()));
            }
            let aside = set_aside(path).map_err(|source| io_error(path, source))?;
            warn!(error = %causes(&error), aside = %aside.display(), "the database is damaged and was set aside");
            let (connection, facts) = attempt(path, opening, sidecar.as_ref())?;
            Ok(Ready { connection, facts, set_aside: Some(aside) })
        }
        Err(error) => Err(error),
    }
}

/// A read-only connection for queries.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// A connection that may write, with the settings that make a commit durable.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
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
    // Checkpoints run beside the writer: in a commit, one would stand on the way of every message behind it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn attempt(path: &Path, opening: &Opening, sidecar: Option<&Sidecar>) -> Result<(Connection, Facts), OpenError> {
    let bytes = make_private(path).map_err(|source| io_error(path, source))?;
    let failed = |source| database_error(path, source);
    // Only a database of ours is touched: switching a foreign one to WAL would change it.
    check_owner(path)?;
    let mut connection = connect(path).map_err(failed)?;
    MIGRATIONS.to_latest(&mut connection).map_err(|error| migration_error(path, error))?;
    if bytes <= CHECKED_BYTES_MAX || sidecar.is_some_and(|sidecar| sidecar.suspect) {
        check(&mut connection, path)?;
    }
    let facts = settle(&mut connection, path, opening, sidecar)?;
    Ok((connection, facts))
}

/// Creates the file, or takes others' rights away from it, before anything is written to it.
fn make_private(path: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file.metadata()?.len())
}

fn check_owner(path: &Path) -> Result<(), OpenError> {
    let failed = |source| database_error(path, source);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    match (application, objects) {
        (APPLICATION_ID, _) | (0, 0) => Ok(()),
        _ => Err(OpenError::Foreign(path.to_owned())),
    }
}

/// Reads every page. A text index that does not hold is rebuilt; anything else is damage.
fn check(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| database_error(path, source);
    let problems: Vec<String> = connection
        .prepare("PRAGMA quick_check(10)")
        .and_then(|mut check| check.query_map([], |row| row.get(0))?.collect())
        .map_err(failed)?;
    if problems == ["ok"] {
        return Ok(());
    }
    warn!(problem = problems.first().map_or("", String::as_str), problems = problems.len(), "the database is damaged");
    if problems.iter().all(|problem| problem.contains("FTS5 table main.search")) {
        return search::reset(connection).map_err(failed);
    }
    Err(OpenError::Damaged(path.to_owned()))
}

/// Fills in what a new database lacks, and gives a copy its own numbers.
fn settle(
    connection: &mut Connection,
    path: &Path,
    opening: &Opening,
    sidecar: Option<&Sidecar>,
) -> Result<Facts, OpenError> {
    let failed = |source| database_error(path, source);
    let metadata = fs::metadata(path).map_err(|source| io_error(path, source))?;
    let file = FileMark::of(&metadata);
    let transaction = connection.transaction().map_err(failed)?;
    let facts = match Facts::read(&transaction).map_err(failed)? {
        Some(facts) if facts.me != opening.me => {
            return Err(OpenError::OtherIdentity { path: path.to_owned(), owner: facts.me });
        }
        Some(facts) if facts.file == file => facts,
        Some(copied) => {
            info!("the database is a copy and goes on under another incarnation");
            dm::retire_sessions(&transaction).map_err(failed)?;
            Facts::fresh(opening.me, file, copied.room)
        }
        None => {
            if let Some(sidecar) = sidecar {
                restore::store_addrs(&transaction, &sidecar.addrs).map_err(failed)?;
            }
            Facts::fresh(opening.me, file, sidecar.map(Sidecar::room))
        }
    };
    facts.write(&transaction).map_err(failed)?;
    dm::ensure_account(&transaction, &opening.secret).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(facts)
}

/// Renames the database and what belongs to it, so that nothing is lost that somebody may want to look at.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stamp = now().as_ms() / 1000;
    let numbered = (0..1000).map(|n| match n {
        0 => with_suffix(path, &format!(".corrupt-{stamp}")),
        n => with_suffix(path, &format!(".corrupt-{stamp}-{n}")),
    });
    let free = |aside: &PathBuf| !aside.exists();
    let aside = numbered.into_iter().find(free).ok_or(io::ErrorKind::AlreadyExists)?;
    for suffix in ["-wal", "-shm"] {
        match fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn is_damage(error: &OpenError) -> bool {
    match error {
        OpenError::Damaged(_) => true,
        OpenError::Database { source, .. } => is_corruption(source),
        OpenError::Missing(_)
        | OpenError::TooNew(_)
        | OpenError::Foreign(_)
        | OpenError::OtherIdentity { .. }
        | OpenError::DiskFull(_)
        | OpenError::Migration { .. }
        | OpenError::Io { .. } => false,
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}

fn database_error(path: &Path, source: rusqlite::Error) -> OpenError {
    match persist_error(&source) {
        chat_core::input::PersistError::DiskFull => OpenError::DiskFull(source),
        chat_core::input::PersistError::Failed => OpenError::Database { path: path.to_owned(), source },
    }
}

fn migration_error(path: &Path, error: rusqlite_migration::Error) -> OpenError {
    use rusqlite_migration::Error;
    if let Error::RusqliteError { err, .. } = error {
        return database_error(path, err);
    }
    let too_new = matches!(
        error,
        Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead)
            | Error::SpecifiedSchemaVersion(SchemaVersionError::TooHigh)
    );
    if too_new {
        return OpenError::TooNew(path.to_owned());
    }
    OpenError::Migration { path: path.to_owned(), source: Box::new(error) }
}

#[cfg(test)]
mod tests;
