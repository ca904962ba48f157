//! The writer: one thread, one connection, many jobs in one transaction.

pub(in crate::store) mod checkpoint;
pub(in crate::store) mod maintenance;
pub(in crate::store) mod queue;
mod retry_queue;
pub(in crate::store) mod transaction;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tracing::{debug, error, info, warn};

use crate::store::context::Shared;
use crate::store::error::{ChangeError, SealError};
use crate::store::tables::models::StoredEvent;
use crate::store::writer::checkpoint::Checkpointer;
use crate::store::writer::maintenance::Chores;
use crate::store::writer::queue::{Job, Taken, Task, Waiting};
use crate::store::writer::transaction::{Done, Failure, Hand};
use crate::store::{Report, Write};

/// Quiet for so long, the writer turns to what can wait: a pause between two messages of a lively talk is shorter.
const QUIET: Duration = Duration::from_millis(250);

/// What the writer's thread owns.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) hand: Hand,
    pub(super) shared: Arc<Shared>,
    pub(super) waiting: Waiting,
    pub(super) outlets: Outlets,
    pub(super) checkpointer: Checkpointer,
    pub(super) chores: Chores,
}

/// Where the writer tells what it did.
pub(super) struct Outlets {
    /// With a report that holds entries: the room it takes until it is read.
    pub(super) reports: mpsc::Sender<(Report, Option<OwnedSemaphorePermit>)>,
    pub(super) events: broadcast::Sender<Arc<StoredEvent>>,
}

impl Writer {
    /// Works until it is told to close, or until nobody is left who could give it anything.
    pub(super) fn run(mut self) {
        let mut patience = QUIET;
        let mut closing = false;
        loop {
            match self.waiting.take(patience) {
                Taken::Group(jobs) => {
                    closing |= self.group(jobs);
                    let busy = closing || self.chores.searches_wait();
                    patience = if busy { Duration::ZERO } else { QUIET };
                }
                Taken::Nothing if closing => break,
                Taken::Nothing => patience = self.idle(),
                Taken::Closed => break,
            }
        }
        self.end();
    }

    /// Does a group of jobs; says whether one of them ends the writer.
    fn group(&mut self, jobs: Vec<Job>) -> bool {
        let (mut work, mut searches, mut closing) = (Vec::new(), Vec::new(), false);
        for job in jobs {
            match job.task {
                Task::Write(..) | Task::Begin(..) | Task::Seal(..) | Task::RotateKeys(_) => work.push(job),
                Task::Index(reply) => searches.push(reply),
                Task::ResetIndex(reply) => self.reset_index(reply),
                Task::Close => {
                    self.waiting.close();
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
            self.chores.add_search(self.shared.newest_message(), reply);
        }
        self.after_group();
        closing
    }

    /// All in one transaction; where that fails, each by itself, so that one job's failure is not the others'.
    fn work(&mut self, jobs: Vec<Job>) {
        match self.hand.attempt(&self.connection, jobs.iter().map(|job| &job.task)) {
            Ok(done) => self.finish(jobs.into_iter().zip(done)),
            Err(failure) if jobs.len() > 1 => {
                debug!(%failure, jobs = jobs.len(), "a group failed and is tried job by job");
                for job in jobs {
                    match self.hand.attempt(&self.connection, [&job.task]) {
                        Ok(done) => self.finish(std::iter::once(job).zip(done)),
                        Err(failure) => self.fail(job, &failure),
                    }
                }
            }
            Err(failure) => jobs.into_iter().for_each(|job| self.fail(job, &failure)),
        }
    }

    fn finish(&mut self, jobs: impl Iterator<Item = (Job, Done)>) {
        self.shared.count_commit();
        for (job, done) in jobs {
            self.finish_one(job.task, done);
        }
        if self.chores.failing {
            info!("the database can be written again");
            self.chores.failing = false;
        }
        self.retry_deferred();
        if let Err(error) = self.checkpointer.after_commit(&self.connection) {
            warn!(%error, "a checkpoint failed and is tried again");
        }
    }

    fn finish_one(&mut self, task: Task, done: Done) {
        match (done, task) {
            (Done::Batch(id, inserted), _) => {
                self.shared.add_messages(inserted.events.len() as u64, inserted.newest_message);
                if inserted.room.is_some() {
                    self.room_changed();
                }
                self.tell(inserted.events);
                self.report(Report::Persisted(id));
            }
            (Done::Event(event), _) => self.tell(vec![event]),
            (Done::Cut(cut), _) => {
                self.shared.add_messages(cut.shown, 0);
                self.shared.hide_messages(cut.hidden);
                self.tell(cut.events);
            }
            (Done::Addrs, _) => self.chores.sidecar_stale = true,
            (Done::Incarnation, _) => self.shared.set_facts(self.hand.facts().clone()),
            (Done::Begun(begun), Task::Begin(_, _, reply)) => {
                self.room_changed();
                let _ = reply.send(begun);
            }
            (Done::Sealed(sealed), Task::Seal(_, reply)) => {
                let _ = reply.send(sealed);
            }
            (Done::Keys(keys), Task::RotateKeys(reply)) => {
                self.shared.set_dm_keys(keys);
                let _ = reply.send(Ok(keys));
            }
            (Done::Kept | Done::Elsewhere, _) => {}
            (done @ (Done::Begun(_) | Done::Sealed(_) | Done::Keys(_)), task) => {
                error!(?task, ?done, "a job was taken for another");
            }
        }
    }

    fn fail(&mut self, job: Job, failure: &Failure) {
        let error = failure.persist_error();
        let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
        if self.chores.failing {
            debug!(%failure, cause, "another write failed");
        } else {
            error!(%failure, cause, "a write failed");
            self.chores.failing = true;
        }
        if failure.is_corruption() && !self.chores.suspect {
            self.chores.suspect = true;
            self.write_sidecar();
        }
        match job.task {
            Task::Write(Write::Batch(batch, _), _) => {
                self.hand.batch_failed(error);
                self.report(Report::PersistFailed(batch.id, error));
            }
            Task::Write(write, _) => self.chores.deferred.push(write),
            Task::Begin(_, _, reply) => drop(reply.send(Err(ChangeError::Disk(error)))),
            Task::RotateKeys(reply) => drop(reply.send(Err(ChangeError::Disk(error)))),
            Task::Seal(_, reply) => drop(reply.send(Err(SealError::Disk(error)))),
            Task::Index(_) | Task::ResetIndex(_) | Task::Close => {}
            #[cfg(test)]
            Task::Pragma(..) => {}
        }
    }

    /// What failed before may succeed now.
    pub(super) fn retry_deferred(&mut self) {
        let tasks = self.chores.deferred.tasks();
        if tasks.is_empty() {
            return;
        }
        match self.hand.attempt(&self.connection, &tasks) {
            Ok(done) => {
                self.chores.deferred.clear();
                for (task, done) in tasks.into_iter().zip(done) {
                    self.finish_one(task, done);
                }
            }
            Err(failure) => debug!(%failure, "what was put off waits on"),
        }
    }

    /// Streams events that are on disk.
    fn tell(&self, events: Vec<StoredEvent>) {
        for event in events {
            self.shared.set_newest_event(event.id);
            // Nobody listens: not an error.
            let _ = self.outlets.events.send(Arc::new(event));
        }
    }

    fn report(&self, report: Report) {
        if self.outlets.reports.blocking_send((report, None)).is_err() {
            debug!("nobody hears reports any more");
        }
    }

    fn room_changed(&mut self) {
        self.shared.set_facts(self.hand.facts().clone());
        self.write_sidecar();
    }

    fn end(mut self) {
        if self.chores.sidecar_stale {
            self.write_sidecar();
        }
        self.checkpointer.stop();
        self.shared.readers.close();
        if let Err(error) = checkpoint::finish(&self.connection) {
            warn!(%error, "the last checkpoint failed; nothing is lost");
        }
    }
}
