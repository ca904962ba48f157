//! Executes jobs in one transaction: all of them or none.
//!
//! The [`Executor`] holds what the writer remembers between transactions: the [`StoreMeta`] row, the heads of the logs,
//! and how many batches have failed. [`Executor::attempt`] runs `BEGIN`, every task, `COMMIT`; the commit flushes, unless
//! it has nothing but entries of others ([`Commit`]). On any error it rolls back and restores the remembered state, so that
//! a caller may try the tasks again one by one.
//!
//! Invariants:
//! * What the [`Opening`] of the database changes is written before anything else.
//! * After `attempt` returns, the remembered state is that of the disk.
//! * A batch from a caller that had not received the report of an earlier failure is refused
//!   ([`TransactionError::Stale`]): it may depend on the batch that failed.
//! * Text indexing, closing and the like are not part of a transaction ([`JobOutcome::Elsewhere`]).
//!
//! Called by the [writer](crate::store::writer) alone, on its thread.

use chat_core::input::{BatchId, PersistError};
use chat_core::log::entry::{LogId, MessageBody, Seq};
use chat_proto::time::Timestamp;
use rusqlite::Connection;

use crate::clock::wall_clock;
use crate::store::dm;
use crate::store::error::{ChangeError, SealError};
use crate::store::open::branches;
use crate::store::open::opening::Opening;
use crate::store::open::restore;
use crate::store::retention;
use crate::store::tables::WriteContext;
use crate::store::tables::damage;
use crate::store::tables::entries::{InsertError, Inserted, insert_batch};
use crate::store::tables::events;
use crate::store::tables::meta::StoreMeta;
use crate::store::tables::models::{DmKeys, StoredEvent};
use crate::store::tables::row_ids::HeadCache;
use crate::store::tables::sql_types::{is_corruption, ordered, persist_error};
use crate::store::tables::visibility::{self, VisibilityChange};
use crate::store::types::{Secret, Write};
use crate::store::writer::queue::Task;

/// Executes jobs, and remembers what they need to know of each other.
#[derive(Debug)]
pub(in crate::store) struct Executor {
    meta: StoreMeta,
    secret: Secret,
    heads: HeadCache,
    /// How the connection commits now.
    commits: Commit,
    /// From when on events were noted last, if that is known.
    noted: Option<Timestamp>,
    /// What the opening of the database changes, until the first transaction has written it.
    opening: Option<Opening>,
    /// Number of failed batches that were reported.
    failures: u64,
    /// Why the last of them failed.
    failure: PersistError,
}

/// Whether a commit is on disk when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Commit {
    /// It survives a loss of power.
    Flushed,
    /// It survives the end of the process, and a loss of power after the [next flush](crate::store::writer::log_flusher).
    Unflushed,
}

/// Result of a job.
#[derive(Debug)]
pub(in crate::store) enum JobOutcome {
    Batch(BatchId, Inserted, VisibilityChange),
    Event(Box<StoredEvent>),
    Addrs,
    Repaired(LogId, Seq),
    Kept,
    Begun(Result<(), ChangeError>),
    Sealed(Result<MessageBody, SealError>),
    Keys(DmKeys),
    /// Bodies were dropped; whether there may be more to drop.
    Dropped(bool),
    /// The job is not part of a transaction.
    Elsewhere,
}

/// Why a transaction failed. It was rolled back.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum TransactionError {
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    #[error("an entry is missing")]
    Insert(#[source] InsertError),
    #[error("an earlier batch failed, and the caller had not received its report")]
    Stale(PersistError),
}

impl From<InsertError> for TransactionError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Database(error) => Self::Database(error),
            InsertError::Hole { .. } => Self::Insert(error),
        }
    }
}

impl TransactionError {
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

impl Executor {
    pub(in crate::store) fn new(meta: StoreMeta, secret: Secret, opening: Opening) -> Self {
        let heads = HeadCache::default();
        let commits = Commit::Flushed;
        Self {
            meta,
            secret,
            heads,
            commits,
            noted: None,
            opening: Some(opening),
            failures: 0,
            failure: PersistError::Failed,
        }
    }

    pub(in crate::store) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(in crate::store) fn meta(&self) -> &StoreMeta {
        &self.meta
    }

    /// Records a failed batch: batches that its caller queued before receiving the report fail too, as they may depend
    /// on it.
    pub(in crate::store) fn batch_failed(&mut self, error: PersistError) {
        self.failures += 1;
        self.failure = error;
    }

    /// Executes tasks in one transaction; says whether it is flushed.
    pub(in crate::store) fn attempt<'a>(
        &mut self,
        connection: &Connection,
        tasks: impl Iterator<Item = &'a Task> + Clone,
    ) -> Result<(Commit, Vec<JobOutcome>), TransactionError> {
        let before = self.meta.clone();
        let done = self.set_commit(connection, tasks.clone()).and_then(|()| self.transact(connection, tasks));
        if done.is_err() {
            self.meta = before;
            self.heads.clear();
            self.noted = None;
            if !connection.is_autocommit() {
                // If this fails, the next BEGIN fails too, and its batch is reported as failed.
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
        done.map(|done| (self.commits, done))
    }

    /// Lets the next transaction flush, unless it has nothing but entries of others. The first one of an opening begins a run, and flushes.
    fn set_commit<'a>(
        &mut self,
        connection: &Connection,
        mut tasks: impl Iterator<Item = &'a Task>,
    ) -> Result<(), TransactionError> {
        let of_others = self.opening.is_none() && tasks.all(|task| self.is_of_others(task));
        let (commits, sql) = match of_others {
            true => (Commit::Unflushed, "PRAGMA synchronous = NORMAL"),
            false => (Commit::Flushed, "PRAGMA synchronous = FULL"),
        };
        if self.commits != commits {
            connection.execute_batch(sql)?;
            self.commits = commits;
        }
        Ok(())
    }

    fn is_of_others(&self, task: &Task) -> bool {
        let Task::Write(Write::Batch(batch, _), _) = task else { return false };
        batch.changes.incarnation.is_none() && batch.entries.iter().all(|item| item.entry.author() != self.meta.me)
    }

    fn transact<'a>(
        &mut self,
        connection: &Connection,
        tasks: impl IntoIterator<Item = &'a Task>,
    ) -> Result<Vec<JobOutcome>, TransactionError> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        if let Some(opening) = &self.opening {
            opening.write(connection)?;
        }
        let done = tasks.into_iter().map(|task| self.execute(connection, task)).collect::<Result<_, _>>()?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        self.opening.take().into_iter().for_each(Opening::written);
        Ok(done)
    }

    fn execute(&mut self, connection: &Connection, task: &Task) -> Result<JobOutcome, TransactionError> {
        match task {
            Task::Write(write, seen_failures) => self.write(connection, write, *seen_failures),
            Task::Begin(room, addrs, _) => {
                if self.meta.room.as_ref().is_some_and(|known| known.id != room.id) {
                    return Ok(JobOutcome::Begun(Err(ChangeError::OtherRoom)));
                }
                restore::store_addrs(connection, addrs)?;
                if self.meta.room.is_none() {
                    self.meta.room = Some(room.clone());
                    self.meta.write(connection)?;
                }
                Ok(JobOutcome::Begun(Ok(())))
            }
            Task::Seal(request, _) => {
                let room = self.meta.room.as_ref().map(|room| room.id);
                let sealed = dm::seal(connection, &self.secret, self.meta.me, room, request, wall_clock())?;
                Ok(JobOutcome::Sealed(sealed))
            }
            Task::RotateKeys(_) => Ok(JobOutcome::Keys(dm::rotate_keys(connection, &self.secret)?)),
            Task::DropBodies(held_before, _) => {
                Ok(JobOutcome::Dropped(retention::drop_some(connection, *held_before)?))
            }
            Task::Index(_) | Task::ResetIndex(_) | Task::Close => Ok(JobOutcome::Elsewhere),
            #[cfg(test)]
            Task::Pragma(..) => Ok(JobOutcome::Elsewhere),
        }
    }

    fn context<'a>(&'a mut self, connection: &'a Connection, now: Timestamp) -> WriteContext<'a> {
        WriteContext {
            connection,
            heads: &mut self.heads,
            me: self.meta.me,
            room: self.meta.room.clone(),
            secret: &self.secret,
            now,
        }
    }

    fn write(
        &mut self,
        connection: &Connection,
        write: &Write,
        seen_failures: u64,
    ) -> Result<JobOutcome, TransactionError> {
        match write {
            Write::Batch(batch, keys) => {
                if seen_failures < self.failures {
                    return Err(TransactionError::Stale(self.failure));
                }
                if let Some(incarnation) = batch.changes.incarnation {
                    self.meta.incarnation = incarnation;
                    connection.execute("UPDATE facts SET incarnation = ?", [ordered(incarnation.0)])?;
                    // A copy that continued this log elsewhere continued its sessions too.
                    dm::retire_sessions(connection)?;
                }
                let now = wall_clock();
                events::note_time(connection, &mut self.noted, now)?;
                let mut context = self.context(connection, now);
                let mut inserted = insert_batch(&mut context, batch, keys)?;
                for item in &batch.bodies {
                    retention::fill(&mut context, item, &mut inserted)?;
                }
                for (first, second) in &batch.changes.forks {
                    branches::store_fork(connection, first, second)?;
                    context.heads.clear();
                }
                let mut visibility = VisibilityChange::default();
                for (log, upto) in &batch.changes.cuts {
                    visibility::apply(&context, *log, *upto, &mut visibility)?;
                }
                self.meta.room = context.room;
                Ok(JobOutcome::Batch(batch.id, inserted, visibility))
            }
            Write::Event(event) => {
                let now = wall_clock();
                events::note_time(connection, &mut self.noted, now)?;
                Ok(JobOutcome::Event(Box::new(events::insert_other(connection, event, now)?)))
            }
            Write::Addrs(records) => restore::store_addrs(connection, records).map(|()| Ok(JobOutcome::Addrs))?,
            Write::Repair(entry) => {
                let repaired = damage::repair(connection, entry)?;
                Ok(if repaired { JobOutcome::Repaired(entry.log(), entry.seq()) } else { JobOutcome::Kept })
            }
            Write::Seen(seen) => restore::store_seen(connection, seen).map(|()| Ok(JobOutcome::Kept))?,
        }
    }
}
