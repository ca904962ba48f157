//! The writer: one thread, one read-write connection, many jobs in one transaction.
//!
//! [`StoreWriter::run`] takes a group of jobs from the [`queue`] and executes it in one [`transaction`]. If the group
//! fails, each of its jobs is tried alone, so that one job's failure does not fail the others. After the commit it
//! answers and reports, publishes events and counters, and starts a [`checkpoint`] if the write-ahead log has grown.
//! When the queue stays empty it runs [`maintenance`]: text index, pruning, key rotation, `room.json`.
//!
//! Invariants:
//! * A report or answer is sent only after the commit was flushed. Events of own messages are published after that, too;
//!   those of others before, and the [`log_flusher`] flushes then.
//! * Reports, events and answers leave in the order of the jobs. After a failed batch, every batch that was queued
//!   before its report was received fails too, because it may depend on the failed one.
//! * Writes that callers do not retry themselves are kept in a [`RetryQueue`](retry_queue::RetryQueue).
//!
//! [`Store::open`](crate::store::Store::open) starts the thread; [`Store::close`](crate::store::Store::close), or
//! dropping the last handle, ends it. The last checkpoint then empties the write-ahead log.

pub(in crate::store) mod checkpoint;
pub(in crate::store) mod log_flusher;
pub(in crate::store) mod maintenance;
pub(in crate::store) mod queue;
mod retry_queue;
pub(in crate::store) mod transaction;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chat_core::input::{BatchId, PersistError};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tracing::{debug, error, info, warn};

use crate::store::context::StoreContext;
use crate::store::error::{ChangeError, SealError};
use crate::store::open::head_mark::HeadMarker;
use crate::store::tables::models::StoredEvent;
use crate::store::types::{StoreReport, Write};
use crate::store::writer::checkpoint::Checkpointer;
use crate::store::writer::log_flusher::LogFlusher;
use crate::store::writer::maintenance::Maintenance;
use crate::store::writer::queue::{Job, JobReceiver, TakenJobs, Task};
use crate::store::writer::transaction::{Commit, Executor, JobOutcome, TransactionError};

/// Idle time after which the writer runs maintenance; longer than the pauses of a lively conversation.
const IDLE_AFTER: Duration = Duration::from_millis(250);

/// State that the writer's thread owns.
pub(super) struct StoreWriter {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) executor: Executor,
    pub(super) context: Arc<StoreContext>,
    pub(super) jobs: JobReceiver,
    pub(super) outlets: Outlets,
    pub(super) log_flusher: LogFlusher,
    pub(super) checkpointer: Checkpointer,
    pub(super) maintenance: Maintenance,
    pub(super) head_marker: HeadMarker,
}

/// Channels the writer reports to.
pub(super) struct Outlets {
    /// A report that holds entries carries a permit, which is held until the report is received.
    pub(super) reports: mpsc::Sender<(StoreReport, Option<OwnedSemaphorePermit>)>,
    pub(super) events: broadcast::Sender<Arc<StoredEvent>>,
}

impl StoreWriter {
    /// Runs until [`Task::Close`], or until every handle is dropped.
    pub(super) fn run(mut self) {
        let mut patience = IDLE_AFTER;
        let mut closing = false;
        loop {
            match self.jobs.take(patience) {
                TakenJobs::Group(jobs) => {
                    closing |= self.group(jobs);
                    let busy = closing || self.maintenance.has_searches();
                    patience = if busy { Duration::ZERO } else { IDLE_AFTER };
                }
                TakenJobs::TimedOut if closing => break,
                TakenJobs::TimedOut => patience = self.idle(),
                TakenJobs::Closed => break,
            }
        }
        self.end();
    }

    /// Executes a group of jobs; returns whether one of them closes the store.
    fn group(&mut self, jobs: Vec<Job>) -> bool {
        let (mut work, mut searches, mut closing) = (Vec::new(), Vec::new(), false);
        for job in jobs {
            match job.task {
                Task::Write(..) | Task::Begin(..) | Task::Seal(..) | Task::RotateKeys(_) | Task::DropBodies(..) => {
                    work.push(job);
                }
                Task::Index(reply) => searches.push(reply),
                Task::ResetIndex(reply) => self.reset_index(reply),
                Task::Close => {
                    self.jobs.close();
                    closing = true;
                }
                #[cfg(test)]
                Task::Pragma(sql, reply) => {
                    self.connection.execute_batch(&sql).expect("a valid pragma");
                    let _ = reply.send(());
                }
            }
        }
        if !work.is_empty() {
            self.work(work);
        }
        for reply in searches {
            self.maintenance.add_search(self.context.newest_message(), reply);
        }
        self.after_group();
        closing
    }

    /// Executes jobs in one transaction; if that fails, each alone, so that one failure does not fail the others.
    fn work(&mut self, jobs: Vec<Job>) {
        match self.executor.attempt(&self.connection, jobs.iter().map(|job| &job.task)) {
            Ok((commit, done)) => self.finish(commit, jobs.into_iter().zip(done)),
            Err(failure) if jobs.len() > 1 => {
                debug!(%failure, jobs = jobs.len(), "a group failed and is tried job by job");
                for job in jobs {
                    match self.executor.attempt(&self.connection, std::iter::once(&job.task)) {
                        Ok((commit, done)) => self.finish(commit, std::iter::once(job).zip(done)),
                        Err(failure) => self.fail(job, &failure),
                    }
                }
            }
            Err(failure) => jobs.into_iter().for_each(|job| self.fail(job, &failure)),
        }
    }

    fn finish(&mut self, commit: Commit, jobs: impl Iterator<Item = (Job, JobOutcome)>) {
        self.context.count_commit();
        let written: Vec<BatchId> = jobs.filter_map(|(job, done)| self.finish_one(job.task, done)).collect();
        let flushed = match commit {
            Commit::Flushed => Ok(()),
            Commit::Unflushed => self.log_flusher.flush(&self.connection),
        };
        if let Err(failure) = flushed {
            return self.not_flushed(&failure, written);
        }
        for batch in written {
            self.report(StoreReport::Persisted(batch));
        }
        if self.maintenance.failing {
            info!("the database can be written again");
            self.maintenance.failing = false;
        }
        self.retry_failed_writes();
        if let Err(error) = self.checkpointer.after_commit(&self.connection) {
            warn!(%error, "a checkpoint failed and is tried again");
        }
    }

    /// Batches of others that are written and perhaps not flushed are written again.
    fn not_flushed(&mut self, failure: &std::io::Error, batches: Vec<BatchId>) {
        if !std::mem::replace(&mut self.maintenance.failing, true) {
            error!(%failure, "messages could not be flushed");
        }
        for batch in batches {
            self.executor.batch_failed(PersistError::Failed);
            self.report(StoreReport::PersistFailed(batch, PersistError::Failed));
        }
    }

    /// Publishes and answers what was committed; gives the batch that is to be reported.
    fn finish_one(&mut self, task: Task, done: JobOutcome) -> Option<BatchId> {
        match (done, task) {
            (JobOutcome::Batch(id, inserted, visibility), Task::Write(Write::Batch(batch, _), _)) => {
                self.context.add_messages(inserted.events.len() as u64, inserted.newest_message);
                self.context.add_messages(visibility.shown, 0);
                self.context.hide_messages(visibility.hidden);
                match inserted.placeholders {
                    more @ 0.. => self.context.add_messages(more.unsigned_abs(), 0),
                    fewer => self.context.hide_messages(fewer.unsigned_abs()),
                }
                if inserted.room.is_some() {
                    self.room_changed();
                }
                self.publish(inserted.events);
                self.publish(visibility.events);
                self.context.set_meta(self.executor.meta().clone());
                // Before the report: nothing of an own entry leaves this machine until it is marked.
                self.head_marker.follow(&batch, self.executor.meta());
                return Some(id);
            }
            (JobOutcome::Event(event), _) => self.publish(vec![*event]),
            (JobOutcome::Repaired(log, seq), _) => self.context.remove_damaged(log, seq),
            (JobOutcome::Addrs, _) => self.maintenance.room_file_stale = true,
            (JobOutcome::Begun(begun), Task::Begin(_, _, reply)) => {
                self.room_changed();
                let _ = reply.send(begun);
            }
            (JobOutcome::Sealed(sealed), Task::Seal(_, reply)) => {
                let _ = reply.send(sealed);
            }
            (JobOutcome::Keys(keys), Task::RotateKeys(reply)) => {
                self.context.set_dm_keys(keys);
                let _ = reply.send(Ok(keys));
            }
            (JobOutcome::Dropped(more), Task::DropBodies(_, reply)) => drop(reply.send(Ok(more))),
            (JobOutcome::Kept | JobOutcome::Elsewhere, _) => {}
            (
                done @ (JobOutcome::Batch(..)
                | JobOutcome::Begun(_)
                | JobOutcome::Sealed(_)
                | JobOutcome::Keys(_)
                | JobOutcome::Dropped(_)),
                task,
            ) => {
                error!(?task, ?done, "the outcome does not belong to the job");
            }
        }
        None
    }

    fn fail(&mut self, job: Job, failure: &TransactionError) {
        let error = failure.persist_error();
        let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
        if self.maintenance.failing {
            debug!(%failure, cause, "another write failed");
        } else {
            error!(%failure, cause, "a write failed");
            self.maintenance.failing = true;
        }
        if failure.is_corruption() && !self.maintenance.suspect {
            self.maintenance.suspect = true;
            self.write_room_file();
        }
        match job.task {
            Task::Write(Write::Batch(batch, _), _) => {
                self.executor.batch_failed(error);
                self.report(StoreReport::PersistFailed(batch.id, error));
            }
            Task::Write(write, _) => self.maintenance.retries.push(write),
            Task::Begin(_, _, reply) => drop(reply.send(Err(ChangeError::Disk(error)))),
            Task::RotateKeys(reply) => drop(reply.send(Err(ChangeError::Disk(error)))),
            Task::Seal(_, reply) => drop(reply.send(Err(SealError::Disk(error)))),
            Task::DropBodies(_, reply) => drop(reply.send(Err(ChangeError::Disk(error)))),
            Task::Index(_) | Task::ResetIndex(_) | Task::Close => {}
            #[cfg(test)]
            Task::Pragma(..) => {}
        }
    }

    /// Tries failed writes again, as the disk may work now.
    pub(super) fn retry_failed_writes(&mut self) {
        let tasks = self.maintenance.retries.tasks();
        if tasks.is_empty() {
            return;
        }
        match self.executor.attempt(&self.connection, tasks.iter()) {
            Ok((_, done)) => {
                self.maintenance.retries.clear();
                // None of them is a batch.
                for (task, done) in tasks.into_iter().zip(done) {
                    self.finish_one(task, done);
                }
            }
            Err(failure) => debug!(%failure, "failed writes are kept for another try"),
        }
    }

    /// Publishes events that are committed.
    fn publish(&self, events: Vec<StoredEvent>) {
        for event in events {
            self.context.set_newest_event(event.id);
            // No reader listens: not an error.
            let _ = self.outlets.events.send(Arc::new(event));
        }
    }

    pub(super) fn report(&self, report: StoreReport) {
        if self.outlets.reports.blocking_send((report, None)).is_err() {
            debug!("reports are no longer received");
        }
    }

    fn room_changed(&mut self) {
        self.context.set_meta(self.executor.meta().clone());
        self.write_room_file();
    }

    fn end(mut self) {
        if self.maintenance.room_file_stale {
            self.write_room_file();
        }
        self.note_held();
        self.checkpointer.stop();
        self.context.readers.close();
        if let Err(error) = checkpoint::finish(&self.connection) {
            warn!(%error, "the last checkpoint failed; nothing is lost");
        }
    }
}
