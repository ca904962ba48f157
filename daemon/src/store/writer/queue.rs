//! What waits for the writer: a queue that is bounded by the memory it holds.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use chat_core::log::entry::MessageBody;
use chat_core::peers::addrs::AddrRecord;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::store::Write;
use crate::store::dm::SealRequest;
use crate::store::error::{ChangeError, Closed, ReadError, SealError};
use crate::store::tables::models::{DmKeys, Room};

/// Most memory that waits for the writer, in KiB (32 MiB): some seconds of work for a slow disk.
pub(in crate::store) const QUEUE_KIB_MAX: u32 = 32 * 1024;

/// Most work in one transaction, in KiB: bounds how long the first message of a group waits for the last.
const GROUP_KIB_MAX: u32 = 2 * 1024;

/// Something for the writer to do.
#[derive(Debug)]
pub(in crate::store) enum Task {
    /// Write something down. The number says how many failures the giver had heard of.
    Write(Write, u64),
    /// Make the database that of a room.
    Begin(Room, Vec<AddrRecord>, oneshot::Sender<Result<(), ChangeError>>),
    /// Seal a direct message.
    Seal(SealRequest, oneshot::Sender<Result<MessageBody, SealError>>),
    /// Make a new fallback key.
    RotateKeys(oneshot::Sender<Result<DmKeys, ChangeError>>),
    /// Take every message into the text index that is on disk by then.
    Index(oneshot::Sender<Result<(), ReadError>>),
    /// The text index is damaged: empty it.
    ResetIndex(oneshot::Sender<Result<(), ReadError>>),
    /// Change a setting of the connection.
    #[cfg(test)]
    Pragma(String, oneshot::Sender<()>),
    /// Write what was given before, and end.
    Close,
}

/// A task and the room it takes in the queue.
#[derive(Debug)]
pub(in crate::store) struct Job {
    pub(in crate::store) task: Task,
    kib: u32,
    /// Given back when the job is done.
    _room: OwnedSemaphorePermit,
}

impl Task {
    /// About how much memory it holds, in KiB, at least one.
    fn kib(&self) -> u32 {
        let bytes = match self {
            Self::Write(Write::Batch(batch, _), _) => {
                batch.entries.iter().map(|item| item.entry.signed().len_bytes() + 1024).sum()
            }
            Self::Write(Write::Fork(first, second), _) => first.len_bytes() + second.len_bytes(),
            Self::Write(Write::Addrs(records), _) => records.len() * 512,
            Self::Write(Write::Seen(seen), _) => seen.len() * 64,
            Self::Write(Write::Event(_) | Write::Hide(..) | Write::Incarnation(_), _) => 1024,
            Self::Begin(_, records, _) => records.len() * 512,
            Self::Seal(request, _) => request.text.len() * 4,
            Self::RotateKeys(_) | Self::Index(_) | Self::ResetIndex(_) | Self::Close => 0,
            #[cfg(test)]
            Self::Pragma(..) => 0,
        };
        u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, QUEUE_KIB_MAX)
    }
}

/// The givers' end of the queue.
#[derive(Clone, Debug)]
pub(in crate::store) struct Queue {
    jobs: Sender<Job>,
    room: Arc<Semaphore>,
}

/// The queue did not take a task.
#[derive(Debug)]
pub(in crate::store) enum PushError {
    Full(Task),
    Closed,
}

impl Queue {
    pub(in crate::store) fn new() -> (Self, Waiting) {
        let (jobs, waiting) = channel();
        let room = Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize));
        (Self { jobs, room: room.clone() }, Waiting { jobs: waiting, room, next: None })
    }

    pub(in crate::store) fn try_push(&self, task: Task) -> Result<(), PushError> {
        let kib = task.kib();
        match Arc::clone(&self.room).try_acquire_many_owned(kib) {
            Ok(room) => self.send(Job { task, kib, _room: room }).map_err(|Closed| PushError::Closed),
            Err(TryAcquireError::NoPermits) => Err(PushError::Full(task)),
            Err(TryAcquireError::Closed) => Err(PushError::Closed),
        }
    }

    /// Waits for room. Cancel safe.
    pub(in crate::store) async fn push(&self, task: Task) -> Result<(), Closed> {
        let kib = task.kib();
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| Closed)?;
        self.send(Job { task, kib, _room: room })
    }

    fn send(&self, job: Job) -> Result<(), Closed> {
        self.jobs.send(job).map_err(|_| Closed)
    }
}

/// The writer's end of the queue.
#[derive(Debug)]
pub(in crate::store) struct Waiting {
    jobs: Receiver<Job>,
    room: Arc<Semaphore>,
    next: Option<Job>,
}

/// What the queue holds.
#[derive(Debug)]
pub(in crate::store) enum Taken {
    /// Jobs, in order.
    Group(Vec<Job>),
    /// Nothing for so long.
    Nothing,
    /// Nothing, and nothing will come.
    Closed,
}

impl Waiting {
    /// Everything that waits, up to a bound; waits for the first job.
    pub(in crate::store) fn take(&mut self, patience: Duration) -> Taken {
        let first = match self.next.take() {
            Some(job) => job,
            None => match self.jobs.recv_timeout(patience) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => return Taken::Nothing,
                Err(RecvTimeoutError::Disconnected) => return Taken::Closed,
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
        Taken::Group(group)
    }

    /// No more room for anybody; what was given before is still taken.
    pub(in crate::store) fn close(&self) {
        self.room.close();
    }
}

impl Drop for Waiting {
    /// However the writer ends: nobody shall wait for it.
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
    fn the_queue_takes_so_much_and_no_more() {
        let (queue, mut waiting) = Queue::new();
        let mut given = 0;
        while queue.try_push(seen(16 * 1024)).is_ok() {
            given += 1;
        }
        assert_eq!(given, 32, "tasks of a MiB each");
        let Taken::Group(group) = waiting.take(Duration::ZERO) else { panic!("jobs wait") };
        assert_eq!(group.len(), 2, "a group is bounded too");
        assert!(
            matches!(queue.try_push(seen(16 * 1024)), Err(PushError::Full(_))),
            "room is held until the job is done"
        );
        drop(group);
        assert!(queue.try_push(seen(16 * 1024)).is_ok());
    }

    #[test]
    fn a_task_larger_than_the_queue_is_taken_alone() {
        let (queue, mut waiting) = Queue::new();
        assert!(queue.try_push(seen(1024 * 1024)).is_ok());
        assert!(matches!(queue.try_push(seen(1)), Err(PushError::Full(_))));
        assert!(matches!(waiting.take(Duration::ZERO), Taken::Group(group) if group.len() == 1));
        assert!(queue.try_push(seen(1)).is_ok());
    }

    #[tokio::test]
    async fn who_waits_gets_room_in_turn() {
        let (queue, mut waiting) = Queue::new();
        while queue.try_push(seen(16 * 1024)).is_ok() {}
        let late = tokio::spawn({
            let queue = queue.clone();
            async move { queue.push(seen(1)).await }
        });
        let mut taken = 0;
        while !late.is_finished() || taken < 33 {
            match waiting.take(Duration::ZERO) {
                Taken::Group(group) => taken += group.len(),
                Taken::Nothing => tokio::task::yield_now().await,
                Taken::Closed => panic!("the queue is open"),
            }
        }
        assert!(matches!(late.await, Ok(Ok(()))));
    }

    #[test]
    fn a_closed_queue_refuses() {
        let (queue, waiting) = Queue::new();
        waiting.close();
        assert!(matches!(queue.try_push(seen(1)), Err(PushError::Closed)));
    }
}
