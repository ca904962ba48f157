//! Why the store refuses: one enum for each operation.

use std::path::PathBuf;

use chat_core::input::PersistError;
use chat_proto::id::{MessageId, PeerId};

use crate::store::Write;

/// Why the store could not be opened. Nothing was changed, apart from what the daemon's log says.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A database was asked for that must exist.
    #[error("there is no room in {0}, found one with 'chatd start' or join one with 'chatd start --join'")]
    Missing(PathBuf),
    /// Written by a newer version.
    #[error("{0} was written by a newer version of chatd, update chatd to open it")]
    TooNew(PathBuf),
    /// A database, and not one of ours.
    #[error("{0} belongs to another program, move it away or choose another home with --home")]
    Foreign(PathBuf),
    /// The identity was replaced.
    #[error("{path} belongs to peer {owner}, put its identity.key back or move the database away")]
    OtherIdentity {
        /// The database.
        path: PathBuf,
        /// Whose it is.
        owner: PeerId,
    },
    /// The disk is full.
    #[error("the disk is full, free some space and start again")]
    DiskFull(#[source] rusqlite::Error),
    /// A file cannot be read or written.
    #[error("cannot use {path}, check its owner and permissions")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is damaged, and nothing says which room it was of.
    #[error("{0} is damaged, move it away and join the room again")]
    Damaged(PathBuf),
    /// It could not be brought up to date.
    #[error("cannot bring {path} up to date")]
    Migration {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<rusqlite_migration::Error>,
    },
    /// The database cannot be used.
    #[error("cannot open {path}")]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

/// The writer has ended: nothing was written, and nothing will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is closed")]
pub struct Closed;

/// Why a write was not taken. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TryWriteError {
    /// The queue is full: give the write again with [`Store::write`](crate::store::Store::write), which waits.
    #[error("too much waits to be written")]
    Full(Box<Write>),
    /// The writer has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why something that changes the database at a caller's wish failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The database holds another room already.
    #[error("this home is in another room already, choose another home with --home")]
    OtherRoom,
    /// The disk is full or failing.
    #[error("{}", persist_message(*.0))]
    Disk(PersistError),
    /// The writer has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why a question could not be answered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such message is held here.
    #[error("no message {0} is held here")]
    UnknownMessage(MessageId),
    /// The text index could not be brought up to date.
    #[error("{}", persist_message(*.0))]
    Index(PersistError),
    /// The database cannot be read.
    #[error("the database cannot be read, see 'chatd logs'")]
    Database(#[from] rusqlite::Error),
    /// The store is closed.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why a direct message could not be sealed. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Nobody but the sender, or more than [`chat_proto::RECIPIENTS_MAX`].
    #[error("a direct message has 1 to {max} recipients besides its sender", max = chat_proto::RECIPIENTS_MAX)]
    Recipients,
    /// The text breaks the rules.
    #[error(transparent)]
    Text(#[from] chat_proto::text::TextError),
    /// The keys that this peer published cannot be used.
    #[error("the keys of {0} cannot be used, it has to update its chatd")]
    BadKeys(PeerId),
    /// The sealed copies do not fit into an entry.
    #[error("the message is too long for so many recipients, send it to fewer at a time")]
    TooLong,
    /// The database has no room yet.
    #[error("this peer is not in a room yet")]
    NoRoom,
    /// The disk is full or failing.
    #[error("{}", persist_message(*.0))]
    Disk(PersistError),
    /// Too much waits to be written.
    #[error("too many requests are waiting, try again in a moment")]
    Busy,
    /// The store is closed.
    #[error(transparent)]
    Closed(#[from] Closed),
}

fn persist_message(error: PersistError) -> &'static str {
    match error {
        PersistError::DiskFull => "the disk is full, free some space and try again",
        PersistError::Failed => "the database cannot be written, see 'chatd logs'",
    }
}
