//! The queue of jobs for the writer, bounded by the memory of the jobs.
//!
//! A job is a [`Task`] with a permit for its estimated size, in KiB, of a semaphore of [`QUEUE_KIB_MAX`]. Callers
//! either wait for space ([`JobQueue::push`]) or get the task back ([`JobQueue::try_push`]). The permit is released
//! when the writer drops the job, so the bound covers jobs that are being executed too. [`JobReceiver::take`] hands the
//! writer everything that waits, up to [`GROUP_KIB_MAX`], as one group for one transaction.
//!
//! Invariants: tasks are taken in the order in which they were queued; a task larger than the whole queue is still
//! accepted, alone; when the writer ends, however it ends, pushing fails at once and no caller waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use chat_core::log::entry::MessageBody;
use chat_core::peers::addrs::AddrRecord;
use chat_proto::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::store::dm::SealRequest;
use crate::store::error::{ChangeError, Closed, ReadError, SealError};
use crate::store::tables::models::{DmKeys, RoomRecord};
use crate::store::types::Write;

/// Maximum memory of queued jobs, in KiB (32 MiB): a few seconds of work for a slow disk.
pub(in crate::store) const QUEUE_KIB_MAX: u32 = 32 * 1024;

/// Maximum memory of the jobs of one transaction, in KiB; bounds how long its first message waits for its last.
const GROUP_KIB_MAX: u32 = 2 * 1024;

/// A task for the writer.
#[derive(Debug)]
pub(in crate::store) enum Task {
    /// A write. The number of failed batches whose reports the caller had received comes with it.
    Write(Write, u64),
    /// Binds the database to a room.
    Begin(RoomRecord, Vec<AddrRecord>, oneshot::Sender<Result<(), ChangeError>>),
    /// Seals a direct message.
    Seal(SealRequest, oneshot::Sender<Result<MessageBody, SealError>>),
    /// Makes a new fallback key.
    RotateKeys(oneshot::Sender<Result<DmKeys, ChangeError>>),
    /// Drops the bodies of some messages that were held before a time; answers whether there may be more.
    DropBodies(Timestamp, oneshot::Sender<Result<bool, ChangeError>>),
    /// Adds every message that is on disk by then to the text index.
    Index(oneshot::Sender<Result<(), ReadError>>),
    /// Empties the text index, because it is damaged.
    ResetIndex(oneshot::Sender<Result<(), ReadError>>),
    /// Changes a setting of the connection.
    #[cfg(test)]
    Pragma(String, oneshot::Sender<()>),
    /// Ends the writer after everything that was queued before.
    Close,
}

/// A task and the space it takes in the queue.
#[derive(Debug)]
pub(in crate::store) struct Job {
    pub(in crate::store) task: Task,
    kib: u32,
    /// Released when the job is done.
    _permit: OwnedSemaphorePermit,
}

impl Task {
    /// Estimated memory of the task, in KiB; at least 1, at most the whole queue.
    fn kib(&self) -> u32 {
        let bytes = match self {
            Self::Write(Write::Batch(batch, _), _) => {
                let entries: usize = batch.entries.iter().map(|item| item.entry.signed().len_bytes() + 1024).sum();
                let bodies: usize = batch.bodies.iter().map(|item| item.entry.signed().len_bytes() + 1024).sum();
                entries + bodies + batch.changes.cuts.len() * 64 + batch.changes.forks.len() * 32 * 1024
            }
            Self::Write(Write::Repair(entry), _) => entry.signed().len_bytes() + 1024,
            Self::Write(Write::Addrs(records), _) => records.len() * 512,
            Self::Write(Write::Seen(seen), _) => seen.len() * 64,
            Self::Write(Write::Event(_), _) => 1024,
            Self::Begin(_, records, _) => records.len() * 512,
            Self::Seal(request, _) => request.text.len() * 4,
            Self::RotateKeys(_) | Self::DropBodies(..) | Self::Index(_) | Self::ResetIndex(_) | Self::Close => 0,
            #[cfg(test)]
            Self::Pragma(..) => 0,
        };
        u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, QUEUE_KIB_MAX)
    }
}

/// The callers' end of the queue.
#[derive(Clone, Debug)]
pub(in crate::store) struct JobQueue {
    jobs: Sender<Job>,
    space: Arc<Semaphore>,
}

/// Why a task was not queued.
#[derive(Debug)]
pub(in crate::store) enum PushError {
    Full(Box<Task>),
    Closed,
}

impl JobQueue {
    pub(in crate::store) fn new() -> (Self, JobReceiver) {
        let (jobs, receiver) = channel();
        let space = Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize));
        (Self { jobs, space: space.clone() }, JobReceiver { jobs: receiver, space, next: None })
    }

    pub(in crate::store) fn try_push(&self, task: Task) -> Result<(), PushError> {
        let kib = task.kib();
        match Arc::clone(&self.space).try_acquire_many_owned(kib) {
            Ok(permit) => self.send(Job { task, kib, _permit: permit }).map_err(|Closed| PushError::Closed),
            Err(TryAcquireError::NoPermits) => Err(PushError::Full(Box::new(task))),
            Err(TryAcquireError::Closed) => Err(PushError::Closed),
        }
    }

    /// Queues a task, waiting for space. Cancel safe.
    pub(in crate::store) async fn push(&self, task: Task) -> Result<(), Closed> {
        let kib = task.kib();
        let permit = Arc::clone(&self.space).acquire_many_owned(kib).await.map_err(|_| Closed)?;
        self.send(Job { task, kib, _permit: permit })
    }

    fn send(&self, job: Job) -> Result<(), Closed> {
        self.jobs.send(job).map_err(|_| Closed)
    }
}

/// The writer's end of the queue.
#[derive(Debug)]
pub(in crate::store) struct JobReceiver {
    jobs: Receiver<Job>,
    space: Arc<Semaphore>,
    next: Option<Job>,
}

/// Result of [`JobReceiver::take`].
#[derive(Debug)]
pub(in crate::store) enum TakenJobs {
    /// Jobs, in order.
    Group(Vec<Job>),
    /// No job arrived in time.
    TimedOut,
    /// The queue is empty and every handle is dropped.
    Closed,
}

impl JobReceiver {
    /// Takes all queued jobs up to [`GROUP_KIB_MAX`], waiting up to `patience` for the first one.
    pub(in crate::store) fn take(&mut self, patience: Duration) -> TakenJobs {
        let first = match self.next.take() {
            Some(job) => job,
            None => match self.jobs.recv_timeout(patience) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => return TakenJobs::TimedOut,
                Err(RecvTimeoutError::Disconnected) => return TakenJobs::Closed,
            },
        };
        let mut kib = first.kib;
        let mut group = vec![first];
        while let Ok(job) = self.jobs.try_recv() {
            kib = kib.saturating_add(job.kib);
            if kib > GROUP_KIB_MAX {
                self.next = Some(job);
                break;
            }
            group.push(job);
        }
        TakenJobs::Group(group)
    }

    /// Refuses further tasks; queued jobs can still be taken.
    pub(in crate::store) fn close(&self) {
        self.space.close();
    }
}

impl Drop for JobReceiver {
    /// However the writer ends, no caller must wait for it.
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_proto::id::PeerId;
    use chat_proto::time::Timestamp;

    fn seen(peers: usize) -> Task {
        Task::Write(Write::Seen(vec![(PeerId::from_bytes([1; 32]), Timestamp::from_ms(1)); peers]), 0)
    }

    #[test]
    fn queue_at_its_bound_refuses_until_jobs_are_done() {
        let (queue, mut jobs) = JobQueue::new();
        let mut queued = 0;
        while queue.try_push(seen(16 * 1024)).is_ok() {
            queued += 1;
        }
        assert_eq!(queued, 32, "tasks of a MiB each");
        let TakenJobs::Group(group) = jobs.take(Duration::ZERO) else { panic!("jobs wait") };
        assert_eq!(group.len(), 2, "a group is bounded too");
        assert!(
            matches!(queue.try_push(seen(16 * 1024)), Err(PushError::Full(_))),
            "space is held until the job is done"
        );
        drop(group);
        assert!(queue.try_push(seen(16 * 1024)).is_ok());
    }

    #[test]
    fn task_larger_than_the_queue_is_taken_alone() {
        let (queue, mut jobs) = JobQueue::new();
        assert!(queue.try_push(seen(1024 * 1024)).is_ok());
        assert!(matches!(queue.try_push(seen(1)), Err(PushError::Full(_))));
        assert!(matches!(jobs.take(Duration::ZERO), TakenJobs::Group(group) if group.len() == 1));
        assert!(queue.try_push(seen(1)).is_ok());
    }

    #[tokio::test]
    async fn waiting_push_gets_space_when_jobs_are_taken() {
        let (queue, mut jobs) = JobQueue::new();
        while queue.try_push(seen(16 * 1024)).is_ok() {}
        let late = tokio::spawn({
            let queue = queue.clone();
            async move { queue.push(seen(1)).await }
        });
        let mut taken = 0;
        while !late.is_finished() || taken < 33 {
            match jobs.take(Duration::ZERO) {
                TakenJobs::Group(group) => taken += group.len(),
                TakenJobs::TimedOut => tokio::task::yield_now().await,
                TakenJobs::Closed => panic!("the queue is open"),
            }
        }
        assert!(matches!(late.await, Ok(Ok(()))));
    }

    #[test]
    fn closed_queue_refuses() {
        let (queue, jobs) = JobQueue::new();
        jobs.close();
        assert!(matches!(queue.try_push(seen(1)), Err(PushError::Closed)));
    }
}
