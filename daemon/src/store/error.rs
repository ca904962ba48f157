//! Errors of the store, one enum per operation.

use std::path::PathBuf;

use chat_core::input::PersistError;
use chat_proto::id::{MessageId, PeerId};

use crate::store::types::Write;

/// Why the store could not be opened. Nothing was changed, except as the daemon's log says; a retry fails the same way
/// until a person acts.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// There is no database, and none may be created.
    #[error("there is no room in {0}, found one with 'chatd start' or join one with 'chatd start --join'")]
    Missing(PathBuf),
    /// A newer version wrote it.
    #[error("{0} was written by a newer version of chatd, update chatd to open it")]
    TooNew(PathBuf),
    /// The file is a database of another program.
    #[error("{0} belongs to another program, move it away or choose another home with --home")]
    Foreign(PathBuf),
    /// The database belongs to another identity.
    #[error("{path} belongs to peer {owner}, put its identity.key back or move the database away")]
    OtherIdentity {
        /// The database.
        path: PathBuf,
        /// The peer it belongs to.
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
    /// The database is damaged, and there is no `room.json` that names its room.
    #[error("{0} is damaged, move it away and join the room again")]
    Damaged(PathBuf),
    /// A migration failed.
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

/// Why a write was not queued. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TryWriteError {
    /// The queue is full. Retry with [`Store::write`](crate::store::Store::write), which waits.
    #[error("too many writes are waiting")]
    Full(Box<Write>),
    /// The writer has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why a change that a caller requested failed. Nothing was changed.
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

/// Why a read failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The message is not stored here.
    #[error("message {0} is not stored here")]
    UnknownMessage(MessageId),
    /// The text index could not be updated.
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
    /// No recipient besides the sender, or more than [`chat_proto::RECIPIENTS_MAX`].
    #[error("a direct message has 1 to {max} recipients besides its sender", max = chat_proto::RECIPIENTS_MAX)]
    Recipients,
    /// The text is empty, too long or malformed.
    #[error(transparent)]
    Text(#[from] chat_proto::text::TextError),
    /// The keys that this peer published are unusable.
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
    /// Too many writes are waiting. Retry in a moment.
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
