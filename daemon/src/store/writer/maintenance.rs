//! Work of the idle writer: filling the text index, pruning, rotating keys, checking entries for
//! damage, `room.json`, retries.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::clock::wall_clock;
use crate::store::dm;
use crate::store::error::ReadError;
use crate::store::open::restore;
use crate::store::open::room_file::RoomFile;
use crate::store::retention;
use crate::store::tables::damage::{self, Checked};
use crate::store::tables::events;
use crate::store::tables::idempotency;
use crate::store::tables::sql_types::persist_error;
use crate::store::tables::text_index::{self, IndexProgress};
use crate::store::types::StoreReport;
use crate::store::writer::StoreWriter;
use crate::store::writer::retry_queue::RetryQueue;

/// Interval between two rounds of pruning.
const PRUNE_EVERY: Duration = Duration::from_secs(10 * 60);

/// Longest interval between two rounds of pruning when the writer is never idle.
const PRUNE_EVERY_MAX: Duration = Duration::from_secs(60 * 60);

/// Interval between two rounds of checking all entries for damage.
const SCRUB_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Pause between the steps of a round: 100,000 entries take an hour.
const SCRUB_PAUSE: Duration = Duration::from_secs(2);

type SearchReply = oneshot::Sender<Result<(), ReadError>>;

/// State of the work that can wait.
pub(in crate::store) struct Maintenance {
    pub(in crate::store) retries: RetryQueue,
    /// Whether the last write failed, so that this is logged once and not for every write.
    pub(in crate::store) failing: bool,
    /// Whether SQLite found the file damaged; the next start then checks all of it.
    pub(in crate::store) suspect: bool,
    pub(in crate::store) room_file_stale: bool,
    /// Searches that wait until the text index has reached a message.
    searches: Vec<(i64, SearchReply)>,
    pruned: Option<Instant>,
    scrub: Scrub,
}

/// Progress of checking all entries for damage.
#[derive(Debug, Default)]
struct Scrub {
    /// The row up to which entries were checked; read from disk when it begins.
    row: Option<i64>,
    /// When the next ones are checked.
    due: Option<Instant>,
}

impl Maintenance {
    pub(in crate::store) fn new() -> Self {
        Self {
            retries: RetryQueue::default(),
            failing: false,
            suspect: false,
            room_file_stale: true,
            searches: Vec::new(),
            pruned: None,
            scrub: Scrub::default(),
        }
    }

    pub(in crate::store) fn has_searches(&self) -> bool {
        !self.searches.is_empty()
    }

    pub(in crate::store) fn add_search(&mut self, message: i64, reply: SearchReply) {
        self.searches.push((message, reply));
    }

    fn prune_due(&self, after: Duration) -> bool {
        self.pruned.is_none_or(|pruned| pruned.elapsed() >= after)
    }
}

impl StoreWriter {
    /// Runs what must not wait until the writer is idle.
    pub(in crate::store) fn after_group(&mut self) {
        if self.maintenance.has_searches() {
            self.index();
        }
        if self.maintenance.pruned.is_some() && self.maintenance.prune_due(PRUNE_EVERY_MAX) {
            self.prune();
        }
    }

    /// Runs one short step of the work that can wait, as a message that arrives now waits for it; returns for how long
    /// nothing more is to be done.
    pub(in crate::store) fn idle(&mut self) -> Duration {
        let more = self.index();
        if more {
            return Duration::ZERO;
        }
        if self.maintenance.prune_due(PRUNE_EVERY) && self.prune() {
            return Duration::ZERO;
        }
        self.retry_failed_writes();
        if self.maintenance.room_file_stale {
            self.write_room_file();
        }
        if let Err(error) = self.checkpointer.when_idle(&self.connection) {
            warn!(%error, "a checkpoint failed and is tried again");
        }
        self.scrub().min(PRUNE_EVERY)
    }

    /// Checks some entries for damage; returns when the next ones are due.
    fn scrub(&mut self) -> Duration {
        let now = Instant::now();
        if let Some(wait) = self.maintenance.scrub.due.and_then(|due| due.checked_duration_since(now)) {
            return wait;
        }
        let row = self.maintenance.scrub.row.map_or_else(|| damage::checked(&self.connection), Ok);
        let checked = row.and_then(|row| damage::check_some(&self.connection, row));
        let wait = match checked {
            Ok(Checked { damaged, last, .. }) => {
                for (log, seq) in damaged {
                    self.context.add_damaged(log, seq);
                    self.report(StoreReport::Damaged(log, seq));
                }
                self.maintenance.scrub.row = Some(last.unwrap_or(0));
                if last.is_some() { SCRUB_PAUSE } else { SCRUB_EVERY }
            }
            Err(error) => {
                warn!(%error, "entries could not be checked for damage");
                SCRUB_EVERY
            }
        };
        self.maintenance.scrub.due = Some(now + wait);
        wait
    }

    /// Adds some messages to the text index and answers the searches that waited for them; returns whether there are
    /// more.
    fn index(&mut self) -> bool {
        if self.context.is_searchable() && !self.maintenance.has_searches() {
            return false;
        }
        match transact(&self.connection, text_index::index_some) {
            Ok(IndexProgress { reaches, more }) => {
                self.context.set_searchable(reaches);
                for (message, reply) in std::mem::take(&mut self.maintenance.searches) {
                    if message <= reaches {
                        let _ = reply.send(Ok(()));
                    } else {
                        self.maintenance.add_search(message, reply);
                    }
                }
                more
            }
            Err(error) => {
                warn!(%error, "the text index could not be filled");
                if text_index::is_damage(&error) {
                    self.empty_index().unwrap_or_else(|error| warn!(%error, "the text index cannot be emptied"));
                }
                for (_, reply) in std::mem::take(&mut self.maintenance.searches) {
                    let _ = reply.send(Err(ReadError::Index(persist_error(&error))));
                }
                false
            }
        }
    }

    /// Empties a text index that a search found damaged.
    pub(in crate::store) fn reset_index(&mut self, reply: SearchReply) {
        let _ = reply.send(self.empty_index().map_err(ReadError::Database));
    }

    fn empty_index(&mut self) -> rusqlite::Result<()> {
        warn!("the text index is damaged and is rebuilt");
        text_index::reset(&mut self.connection)?;
        self.context.set_searchable(0);
        Ok(())
    }

    /// Deletes some rows that are too old; returns whether there may be more.
    fn prune(&mut self) -> bool {
        self.rotate_keys();
        let pruned = transact(&self.connection, |connection| {
            dm::prune_outbox(connection, wall_clock())?;
            retention::mark(connection, wall_clock())?;
            self.maintenance.scrub.row.map_or(Ok(()), |row| damage::set_checked(connection, row))?;
            Ok(idempotency::prune(connection, wall_clock())? | events::prune(connection, wall_clock())?)
        });
        let more = pruned.unwrap_or_else(|error| {
            warn!(%error, "old records could not be deleted");
            false
        });
        if !more {
            self.maintenance.pruned = Some(Instant::now());
        }
        more
    }

    /// Notes which entries are held by now: a daemon may run for moments only.
    pub(in crate::store) fn note_held(&self) {
        if self.executor.meta().room.is_some()
            && let Err(error) = retention::mark(&self.connection, wall_clock())
        {
            debug!(%error, "it could not be noted which entries are held by now");
        }
    }

    /// Makes a new fallback key if the published one is old; the node publishes it.
    fn rotate_keys(&mut self) {
        let rotated = transact(&self.connection, |connection| {
            let due = dm::rotation_due(connection, wall_clock())?;
            due.then(|| dm::rotate_keys(connection, self.executor.secret())).transpose()
        });
        match rotated {
            Ok(Some(keys)) => self.context.set_dm_keys(keys),
            Ok(None) => {}
            Err(error) => warn!(%error, "the keys for direct messages could not be rotated"),
        }
    }

    /// Writes `room.json`, once there is a room to return to.
    pub(in crate::store) fn write_room_file(&mut self) {
        let Some(room) = self.executor.meta().room.clone() else { return };
        // A damaged database may not yield addresses any more: those of the file are better than none.
        let addrs = restore::addrs(&self.connection).unwrap_or_else(|error| {
            debug!(%error, "addresses cannot be read");
            RoomFile::read(&self.path).map(|room_file| room_file.addrs).unwrap_or_default()
        });
        let mut room_file = RoomFile::new(&room, addrs);
        room_file.suspect = self.maintenance.suspect;
        match room_file.write(&self.path) {
            Ok(()) => self.maintenance.room_file_stale = false,
            Err(error) => warn!(%error, "the room file could not be written and is tried again"),
        }
    }
}

/// Runs a closure in one transaction.
fn transact<T>(connection: &Connection, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let transaction = connection.unchecked_transaction()?;
    let done = act(&transaction)?;
    transaction.commit()?;
    Ok(done)
}
