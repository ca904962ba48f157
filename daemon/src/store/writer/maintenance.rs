//! What the writer does when nothing waits: the text index, what has become too old, the file beside the database.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::store::dm;
use crate::store::error::ReadError;
use crate::store::open::restore;
use crate::store::open::room_file::Sidecar;
use crate::store::read::search;
use crate::store::read::search::Progress;
use crate::store::tables::events;
use crate::store::tables::idempotency;
use crate::store::tables::sql_types::{now, persist_error};
use crate::store::writer::Writer;
use crate::store::writer::retry_queue::Deferred;

/// Between two looks at what has become too old.
const PRUNE_EVERY: Duration = Duration::from_secs(10 * 60);

/// At the latest after so long it is looked at also when something always waits.
const PRUNE_LATEST: Duration = Duration::from_secs(60 * 60);

type SearchReply = oneshot::Sender<Result<(), ReadError>>;

/// What can wait.
pub(in crate::store) struct Chores {
    pub(in crate::store) deferred: Deferred,
    /// Whether the last write failed: it is said once, not for every write.
    pub(in crate::store) failing: bool,
    /// Whether SQLite found the file damaged: the next start checks it thoroughly.
    pub(in crate::store) suspect: bool,
    pub(in crate::store) sidecar_stale: bool,
    /// Who waits for the text index, and up to which message.
    searches: Vec<(i64, SearchReply)>,
    pruned: Option<Instant>,
}

impl Chores {
    pub(in crate::store) fn new() -> Self {
        Self {
            deferred: Deferred::default(),
            failing: false,
            suspect: false,
            sidecar_stale: true,
            searches: Vec::new(),
            pruned: None,
        }
    }

    pub(in crate::store) fn searches_wait(&self) -> bool {
        !self.searches.is_empty()
    }

    pub(in crate::store) fn add_search(&mut self, message: i64, reply: SearchReply) {
        self.searches.push((message, reply));
    }

    fn prune_due(&self, after: Duration) -> bool {
        self.pruned.is_none_or(|pruned| pruned.elapsed() >= after)
    }
}

impl Writer {
    /// Chores that must not wait for a quiet moment.
    pub(in crate::store) fn after_group(&mut self) {
        if self.chores.searches_wait() {
            self.index();
        }
        if self.chores.pruned.is_some() && self.chores.prune_due(PRUNE_LATEST) {
            self.prune();
        }
    }

    /// Does a little of what can wait; says for how long nothing more is to do. Each step is short, because a message
    /// that comes now waits for it.
    pub(in crate::store) fn idle(&mut self) -> Duration {
        let more = self.index();
        if more {
            return Duration::ZERO;
        }
        if self.chores.prune_due(PRUNE_EVERY) && self.prune() {
            return Duration::ZERO;
        }
        self.retry_deferred();
        if self.chores.sidecar_stale {
            self.write_sidecar();
        }
        if let Err(error) = self.checkpointer.when_idle(&self.connection) {
            warn!(%error, "a checkpoint failed and is tried again");
        }
        PRUNE_EVERY
    }

    /// Takes some messages into the text index and answers who waited for them; says whether there are more.
    fn index(&mut self) -> bool {
        if self.shared.is_searchable() && !self.chores.searches_wait() {
            return false;
        }
        match transact(&self.connection, search::index_some) {
            Ok(Progress { reaches, more }) => {
                self.shared.set_searchable(reaches);
                for (message, reply) in std::mem::take(&mut self.chores.searches) {
                    if message <= reaches {
                        let _ = reply.send(Ok(()));
                    } else {
                        self.chores.add_search(message, reply);
                    }
                }
                more
            }
            Err(error) => {
                warn!(%error, "the text index could not be filled");
                if search::is_damage(&error) {
                    self.empty_index().unwrap_or_else(|error| warn!(%error, "the text index cannot be emptied"));
                }
                for (_, reply) in std::mem::take(&mut self.chores.searches) {
                    let _ = reply.send(Err(ReadError::Index(persist_error(&error))));
                }
                false
            }
        }
    }

    /// Empties a text index that somebody found damaged.
    pub(in crate::store) fn reset_index(&mut self, reply: SearchReply) {
        let _ = reply.send(self.empty_index().map_err(ReadError::Database));
    }

    fn empty_index(&mut self) -> rusqlite::Result<()> {
        warn!("the text index is damaged and is made anew");
        search::reset(&mut self.connection)?;
        self.shared.set_searchable(0);
        Ok(())
    }

    /// Drops some of what is too old; says whether there may be more.
    fn prune(&mut self) -> bool {
        self.rotate_keys();
        let pruned = transact(&self.connection, |connection| {
            dm::prune_outbox(connection, now())?;
            Ok(idempotency::prune(connection, now())? | events::prune(connection, now())?)
        });
        let more = pruned.unwrap_or_else(|error| {
            warn!(%error, "what is too old could not be dropped");
            false
        });
        if !more {
            self.chores.pruned = Some(Instant::now());
        }
        more
    }

    /// Makes another fallback key where the one that is published has become old; it is published with the next roster.
    fn rotate_keys(&mut self) {
        let rotated = transact(&self.connection, |connection| {
            let due = dm::rotation_due(connection, now())?;
            due.then(|| dm::rotate_keys(connection, self.hand.secret())).transpose()
        });
        match rotated {
            Ok(Some(keys)) => self.shared.set_dm_keys(keys),
            Ok(None) => {}
            Err(error) => warn!(%error, "the keys for direct messages could not be changed"),
        }
    }

    /// Writes the file beside the database, once there is a room to return to.
    pub(in crate::store) fn write_sidecar(&mut self) {
        let Some(room) = self.hand.facts().room.clone() else { return };
        // A database that is damaged may not tell addresses any more: those of the file are better than none.
        let addrs = restore::addrs(&self.connection).unwrap_or_else(|error| {
            debug!(%error, "addresses cannot be read");
            Sidecar::read(&self.path).map(|sidecar| sidecar.addrs).unwrap_or_default()
        });
        let mut sidecar = Sidecar::new(&room, addrs);
        sidecar.suspect = self.chores.suspect;
        match sidecar.write(&self.path) {
            Ok(()) => self.chores.sidecar_stale = false,
            Err(error) => warn!(%error, "the room file could not be written and is tried again"),
        }
    }
}

/// Does something in one transaction.
fn transact<T>(connection: &Connection, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let transaction = connection.unchecked_transaction()?;
    let done = act(&transaction)?;
    transaction.commit()?;
    Ok(done)
}
