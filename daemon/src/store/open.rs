//! Opens the database: creates it, migrates an older one, sets a damaged one aside.
//!
//! Steps: read `room.json`; make the file private (mode 0600) before anything is written; refuse a database of another
//! program without touching it; migrate; check all pages; settle the row about the database. If any step finds damage,
//! the file is renamed to `room.db.corrupt-<time>`, with its write-ahead log, and a new database is created that
//! `room.json` binds to the same room; the room's entries then come again from its members. Without `room.json`, and if
//! [`Absent::Refuse`] was given, a damaged database is left where it is.
//!
//! A database that is up to date is opened without a write, so that it can be read on a full disk; what an opening changes
//! is written with the first transaction ([`Opening`]).
//!
//! Invariants: nothing is ever deleted; a database of a newer version, another program or another identity is left as
//! it is; a copied file, or one that lacks the entry that `head.mark` names, gets a new incarnation, because it is or may
//! be older than what other peers have of this peer's log.
//!
//! Called by [`Store::open`](crate::store::Store::open), on a blocking thread, before the writer starts.

pub(in crate::store) mod branches;
pub(in crate::store) mod connection;
pub(in crate::store) mod head_mark;
pub(in crate::store) mod opening;
pub(in crate::store) mod restore;
pub(in crate::store) mod room_file;
pub(in crate::store) mod schema;

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chat_core::input::PersistError;
use chat_proto::error::with_causes;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{MigrationDefinitionError, SchemaVersionError};
use tracing::{info, warn};

use crate::clock::wall_clock;
use crate::store::dm;
use crate::store::error::OpenStoreError;
use crate::store::open::connection::{BUSY_TIMEOUT, connect, page_problems};
use crate::store::open::head_mark::{HeadMark, HeadMarker};
use crate::store::open::opening::{Opening, continue_as};
use crate::store::open::room_file::RoomFile;
use crate::store::open::schema::{APPLICATION_ID, MIGRATIONS};
use crate::store::tables::meta::{FileMark, StoreMeta};
use crate::store::tables::runs::Runs;
use crate::store::tables::sql_types::{is_corruption, persist_error};
use crate::store::tables::text_index;
use crate::store::types::{Absent, StoreOptions};

/// Maximum size of a file that every start checks (some tenths of a second); larger ones are checked after a failure
/// was seen.
const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Maximum number of damaged pages that an opening looks for: one is enough to set the file aside.
const PROBLEMS_MAX: u32 = 10;

/// An open database, and where a damaged one was set aside.
pub(super) struct OpenedDatabase {
    pub(super) connection: Connection,
    pub(super) meta: StoreMeta,
    pub(super) opening: Opening,
    pub(super) mark_agrees: bool,
    pub(super) set_aside: Option<PathBuf>,
}

pub(super) fn open(path: &Path, options: &StoreOptions) -> Result<OpenedDatabase, OpenStoreError> {
    let room_file = RoomFile::read(path);
    let exists = path.try_exists().map_err(|source| io_error(path, source))?;
    let may_create = options.absent == Absent::Create || room_file.is_some();
    if !exists && !may_create {
        return Err(OpenStoreError::Missing(path.to_owned()));
    }
    match attempt(path, options, room_file.as_ref()) {
        Ok(opened) => Ok(opened),
        Err(error) if exists && is_damage(&error) => {
            if !may_create {
                return Err(OpenStoreError::Damaged(path.to_owned()));
            }
            let aside = set_aside(path).map_err(|source| io_error(path, source))?;
            warn!(error = %with_causes(&error), aside = %aside.display(), "the database is damaged and was set aside");
            let opened = attempt(path, options, room_file.as_ref())?;
            Ok(OpenedDatabase { set_aside: Some(aside), ..opened })
        }
        Err(error) => Err(error),
    }
}

fn attempt(
    path: &Path,
    options: &StoreOptions,
    room_file: Option<&RoomFile>,
) -> Result<OpenedDatabase, OpenStoreError> {
    let bytes = make_private(path).map_err(|source| io_error(path, source))?;
    let failed = |source| database_error(path, source);
    // Before connecting: switching a foreign database to WAL would change it.
    check_owner(path)?;
    let mut connection = connect(path).map_err(failed)?;
    MIGRATIONS.to_latest(&mut connection).map_err(|error| migration_error(path, error))?;
    if bytes <= CHECKED_BYTES_MAX || room_file.is_some_and(|room_file| room_file.suspect) {
        check(&mut connection, path)?;
    }
    let (meta, opening, mark_agrees) = settle(&mut connection, path, options, room_file)?;
    Ok(OpenedDatabase { connection, meta, opening, mark_agrees, set_aside: None })
}

/// Creates the file, or removes the permissions of other users, before anything is written to it. Returns its size.
fn make_private(path: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file.metadata()?.len())
}

fn check_owner(path: &Path) -> Result<(), OpenStoreError> {
    let failed = |source| database_error(path, source);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    match (application, objects) {
        (APPLICATION_ID, _) | (0, 0) => Ok(()),
        _ => Err(OpenStoreError::Foreign(path.to_owned())),
    }
}

/// Checks every page. A damaged text index is rebuilt; anything else is an error.
fn check(connection: &mut Connection, path: &Path) -> Result<(), OpenStoreError> {
    let failed = |source| database_error(path, source);
    let problems = match page_problems(connection, PROBLEMS_MAX) {
        // No fault of the disk, and the statement is right: the text of the schema is not.
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => {
            warn!(%error, "the schema of the database is damaged");
            return Err(OpenStoreError::Damaged(path.to_owned()));
        }
        checked => checked.map_err(failed)?,
    };
    if problems.is_empty() {
        return Ok(());
    }
    warn!(problem = problems.first().map_or("", String::as_str), problems = problems.len(), "the database is damaged");
    if problems.iter().all(|problem| problem.contains("FTS5 table main.search")) {
        return text_index::reset(connection).map_err(failed);
    }
    Err(OpenStoreError::Damaged(path.to_owned()))
}

/// Writes the row about a new database, gives a copy, or one that was rolled back, a new incarnation, and begins a run.
/// Also returns whether the mark of the newest own entry is there and agrees.
fn settle(
    connection: &mut Connection,
    path: &Path,
    options: &StoreOptions,
    room_file: Option<&RoomFile>,
) -> Result<(StoreMeta, Opening, bool), OpenStoreError> {
    let failed = |source| database_error(path, source);
    let metadata = fs::metadata(path).map_err(|source| io_error(path, source))?;
    let file = FileMark::of(&metadata);
    let mut opening = Opening::new(path, Runs::begin(connection).map_err(failed)?);
    let Some(known) = StoreMeta::read(connection).map_err(failed)? else {
        let meta = StoreMeta::fresh(options.me, file, room_file.map(RoomFile::room));
        write(connection, |connection| {
            restore::store_addrs(connection, room_file.map_or(&[], |room_file| &room_file.addrs))?;
            meta.write(connection)?;
            dm::ensure_account(connection, &options.secret)
        })
        .map_err(failed)?;
        HeadMarker::new(path).write(HeadMark::of_new(meta.incarnation));
        return Ok((meta, opening, true));
    };
    if known.me != options.me {
        return Err(OpenStoreError::OtherIdentity { path: path.to_owned(), owner: known.me });
    }
    dm::ensure_account(connection, &options.secret).map_err(failed)?;
    let mark = HeadMark::read(path);
    let mark_agrees = mark.map(|mark| mark.agrees(connection, &known)).transpose().map_err(failed)?;
    if known.file == file && mark_agrees != Some(false) {
        // What was written and not marked, in a crash in between or where it seemed to fail, is marked before it leaves.
        let newest = HeadMark::newest(connection, &known).map_err(failed)?;
        if let Some(newest) = newest.filter(|newest| mark.is_some_and(|mark| mark != *newest)) {
            HeadMarker::new(path).write(newest);
        }
        return Ok((known, opening, mark_agrees == Some(true)));
    }
    info!("the database is a copy, or older than it was, and continues under another incarnation");
    let meta = StoreMeta::fresh(options.me, file, known.room);
    match write(connection, |connection| continue_as(connection, &meta)) {
        Ok(()) => HeadMarker::new(path).write(HeadMark::of_new(meta.incarnation)),
        Err(error) if persist_error(&error) == PersistError::DiskFull => {
            warn!("the disk is full: the other incarnation is written with the first message");
            opening.continue_later(meta.clone());
        }
        Err(error) => return Err(failed(error)),
    }
    Ok((meta, opening, true))
}

/// Runs a closure in one transaction.
fn write(connection: &mut Connection, act: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    act(&transaction)?;
    transaction.commit()
}

/// Renames the database and its write-ahead log, so that nothing is lost.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stamp = wall_clock().as_ms() / 1000;
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

fn is_damage(error: &OpenStoreError) -> bool {
    match error {
        OpenStoreError::Damaged(_) => true,
        OpenStoreError::Database { source, .. } => is_corruption(source),
        OpenStoreError::Missing(_)
        | OpenStoreError::TooNew(_)
        | OpenStoreError::Foreign(_)
        | OpenStoreError::OtherIdentity { .. }
        | OpenStoreError::DiskFull(_)
        | OpenStoreError::Migration { .. }
        | OpenStoreError::Io { .. } => false,
    }
}

fn io_error(path: &Path, source: io::Error) -> OpenStoreError {
    OpenStoreError::Io { path: path.to_owned(), source }
}

fn database_error(path: &Path, source: rusqlite::Error) -> OpenStoreError {
    match persist_error(&source) {
        PersistError::DiskFull => OpenStoreError::DiskFull(source),
        PersistError::Failed => OpenStoreError::Database { path: path.to_owned(), source },
    }
}

fn migration_error(path: &Path, error: rusqlite_migration::Error) -> OpenStoreError {
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
        return OpenStoreError::TooNew(path.to_owned());
    }
    OpenStoreError::Migration { path: path.to_owned(), source: Box::new(error) }
}

#[cfg(test)]
mod tests;
