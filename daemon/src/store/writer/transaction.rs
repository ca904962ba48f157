//! Executing jobs in one transaction: all of them, or none.

use chat_core::input::{BatchId, PersistError};
use chat_core::log::entry::MessageBody;
use rusqlite::Connection;

use crate::store::error::{ChangeError, SealError};
use crate::store::open::restore;
use crate::store::tables::entries::{InsertError, Inserted, Scene, insert_batch};
use crate::store::tables::events;
use crate::store::tables::meta::Facts;
use crate::store::tables::models::{DmKeys, StoredEvent};
use crate::store::tables::row_ids::Heads;
use crate::store::tables::sql_types::{is_corruption, now, ordered, persist_error};
use crate::store::tables::visibility;
use crate::store::tables::visibility::Cut;
use crate::store::writer::queue::Task;
use crate::store::{Secret, Write, dm};

/// What the writer needs to execute jobs, and what it remembers between them.
#[derive(Debug)]
pub(in crate::store) struct Hand {
    facts: Facts,
    secret: Secret,
    heads: Heads,
    /// Failed batches that were reported, and why the last one failed.
    failures: u64,
    failure: PersistError,
}

/// What came of a job.
#[derive(Debug)]
pub(in crate::store) enum Done {
    Batch(BatchId, Inserted),
    Event(StoredEvent),
    Cut(Cut),
    Addrs,
    Incarnation,
    Kept,
    Begun(Result<(), ChangeError>),
    Sealed(Result<MessageBody, SealError>),
    Keys(DmKeys),
    /// Not a job of a transaction.
    Elsewhere,
}

/// Why nothing of a transaction was done.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum Failure {
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    #[error("an entry is missing")]
    Insert(#[source] InsertError),
    #[error("a batch before it failed, and its giver had not heard of that")]
    Stale(PersistError),
}

impl From<InsertError> for Failure {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Database(error) => Self::Database(error),
            InsertError::Hole { .. } => Self::Insert(error),
        }
    }
}

impl Failure {
    pub(in crate::store) fn persist_error(&self) -> PersistError {
        match self {
            Self::Database(error) => persist_error(error),
            Self::Insert(_) => PersistError::Failed,
            Self::Stale(error) => *error,
        }
    }

    pub(in crate::store) fn is_corruption(&self) -> bool {
        matches!(self, Self::Database(error) if is_corruption(error))
    }
}

impl Hand {
    pub(in crate::store) fn new(facts: Facts, secret: Secret) -> Self {
        Self { facts, secret, heads: Heads::default(), failures: 0, failure: PersistError::Failed }
    }

    pub(in crate::store) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(in crate::store) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A batch failed and its giver will hear of it: what it gave before that fails too, because it may build on it.
    pub(in crate::store) fn batch_failed(&mut self, error: PersistError) {
        self.failures += 1;
        self.failure = error;
    }

    /// Executes jobs in one transaction and flushes it.
    pub(in crate::store) fn attempt<'a>(
        &mut self,
        connection: &Connection,
        tasks: impl IntoIterator<Item = &'a Task>,
    ) -> Result<Vec<Done>, Failure> {
        let before = self.facts.clone();
        let done = self.transact(connection, tasks);
        if done.is_err() {
            self.facts = before;
            self.heads.clear();
            if !connection.is_autocommit() {
                // When even this fails, the next BEGIN does too, and its batch is reported as failed.
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
        done
    }

    fn transact<'a>(
        &mut self,
        connection: &Connection,
        tasks: impl IntoIterator<Item = &'a Task>,
    ) -> Result<Vec<Done>, Failure> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let done = tasks.into_iter().map(|task| self.execute(connection, task)).collect::<Result<_, _>>()?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(done)
    }

    fn execute(&mut self, connection: &Connection, task: &Task) -> Result<Done, Failure> {
        match task {
            Task::Write(write, heard) => self.write(connection, write, *heard),
            Task::Begin(room, addrs, _) => {
                if self.facts.room.as_ref().is_some_and(|known| known.id != room.id) {
                    return Ok(Done::Begun(Err(ChangeError::OtherRoom)));
                }
                restore::store_addrs(connection, addrs)?;
                if self.facts.room.is_none() {
                    self.facts.room = Some(room.clone());
                    self.facts.write(connection)?;
                }
                Ok(Done::Begun(Ok(())))
            }
            Task::Seal(request, _) => {
                let room = self.facts.room.as_ref().map(|room| room.id);
                let sealed = dm::seal(connection, &self.secret, self.facts.me, room, request, now())?;
                Ok(Done::Sealed(sealed))
            }
            Task::RotateKeys(_) => Ok(Done::Keys(dm::rotate_keys(connection, &self.secret)?)),
            Task::Index(_) | Task::ResetIndex(_) | Task::Close => Ok(Done::Elsewhere),
            #[cfg(test)]
            Task::Pragma(..) => Ok(Done::Elsewhere),
        }
    }

    fn scene<'a>(&'a mut self, connection: &'a Connection) -> Scene<'a> {
        Scene {
            connection,
            heads: &mut self.heads,
            me: self.facts.me,
            room: self.facts.room.clone(),
            secret: &self.secret,
            now: now(),
        }
    }

    fn write(&mut self, connection: &Connection, write: &Write, heard: u64) -> Result<Done, Failure> {
        match write {
            Write::Batch(batch, keys) => {
                if heard < self.failures {
                    return Err(Failure::Stale(self.failure));
                }
                let mut scene = self.scene(connection);
                let inserted = insert_batch(&mut scene, batch, keys)?;
                self.facts.room = scene.room;
                Ok(Done::Batch(batch.id, inserted))
            }
            Write::Event(event) => Ok(Done::Event(events::insert_other(connection, event, now())?)),
            Write::Hide(log, upto) => Ok(Done::Cut(visibility::apply(&self.scene(connection), *log, *upto)?)),
            Write::Addrs(records) => restore::store_addrs(connection, records).map(|()| Ok(Done::Addrs))?,
            Write::Fork(first, second) => restore::store_fork(connection, first, second).map(|()| Ok(Done::Kept))?,
            Write::Seen(seen) => restore::store_seen(connection, seen).map(|()| Ok(Done::Kept))?,
            Write::Incarnation(incarnation) => {
                self.facts.incarnation = *incarnation;
                connection.execute("UPDATE facts SET incarnation = ?", [ordered(incarnation.0)])?;
                // Whoever continued this chain elsewhere continued its sessions too.
                dm::retire_sessions(connection)?;
                Ok(Done::Incarnation)
            }
        }
    }
}
