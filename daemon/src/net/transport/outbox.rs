//! The queue of frames to one peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use chat_core::config::FRAME_BYTES_MAX;
use iroh::endpoint::WeakConnectionHandle;
use tokio::sync::{Notify, mpsc};

use crate::net::transport::close::{CloseRequest, DownReason};

/// Maximum number of queued frames per peer: the traffic of a busy room while this machine's processors are busy elsewhere
/// for some tenths of a second. A peer that is further behind is disconnected and repaired by anti-entropy.
pub(crate) const OUTBOX_FRAMES_MAX: usize = 16 * 1024;

/// Maximum number of frames written at once.
const WRITE_FRAMES_MAX: usize = 1024;

/// Maximum queued bytes per peer (8 MiB), so that all peers together cannot exhaust this node's memory.
pub(crate) const OUTBOX_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a frame was not queued. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// There is no connection to the peer; `Down` has come or is on its way.
    #[error("no connection to the peer")]
    NotConnected,
    /// The peer reads too slowly; its connection is being dropped and `Down` is on its way.
    #[error("the peer reads too slowly, its connection is dropped")]
    Full,
    /// Longer than `chat_core::config::FRAME_BYTES_MAX`.
    #[error("frame of {0} bytes is too long")]
    TooLong(usize),
}

/// The sending end of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    /// Carries datagrams past the queue. Weak, so that a queue does not keep its connection open.
    connection: Option<WeakConnectionHandle>,
    frames: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
    sent: Arc<Notify>,
    close: CloseRequest,
}

/// The receiving end of a queue.
#[derive(Debug)]
pub(crate) struct OutboxReader {
    frames: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
    sent: Arc<Notify>,
}

/// Creates an empty queue whose connection ends when it overflows.
pub(crate) fn outbox(connection: Option<WeakConnectionHandle>, close: CloseRequest) -> (Outbox, OutboxReader) {
    let (sender, receiver) = mpsc::channel(OUTBOX_FRAMES_MAX);
    let (bytes, sent) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
    let outbox = Outbox { connection, frames: sender, bytes: bytes.clone(), sent: sent.clone(), close };
    (outbox, OutboxReader { frames: receiver, bytes, sent })
}

impl Outbox {
    /// Queues a frame or ends the connection.
    ///
    /// # Errors
    /// [`OutboxError`]; the frame was not queued.
    pub(crate) fn push(&self, frame: Bytes) -> Result<(), OutboxError> {
        let length = frame.len();
        if length > FRAME_BYTES_MAX {
            return Err(OutboxError::TooLong(length));
        }
        if self.close.requested().is_some() {
            return Err(OutboxError::NotConnected);
        }
        if self.bytes.fetch_add(length, Ordering::AcqRel) + length > OUTBOX_BYTES_MAX {
            self.close.request(DownReason::QueueFull);
            return Err(OutboxError::Full);
        }
        self.frames.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.close.request(DownReason::QueueFull);
                OutboxError::Full
            }
            mpsc::error::TrySendError::Closed(_) => OutboxError::NotConnected,
        })
    }

    /// Sends a frame past the queue, where it may be lost; one that does not fit into a packet is queued.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub(crate) fn push_datagram(&self, frame: Bytes) -> Result<(), OutboxError> {
        if self.close.requested().is_some() {
            return Err(OutboxError::NotConnected);
        }
        let connection = self.connection.as_ref().and_then(WeakConnectionHandle::upgrade);
        let sent = connection.is_some_and(|connection| connection.send_datagram(frame.clone()).is_ok());
        if !sent {
            return self.push(frame);
        }
        self.sent.notify_one();
        Ok(())
    }
}

impl OutboxReader {
    /// Waits for frames and moves those that wait into `frames`; `false` when the queue is closed and empty. Cancel safe.
    pub(crate) async fn take(&mut self, frames: &mut Vec<Bytes>) -> bool {
        self.frames.recv_many(frames, WRITE_FRAMES_MAX).await > 0
    }

    /// Notified when something was sent.
    pub(crate) fn sent(&self) -> Arc<Notify> {
        self.sent.clone()
    }

    /// Frees the space of bytes that were written.
    pub(crate) fn written(&self, bytes: usize) {
        self.sent.notify_one();
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Takes no more frames; those that wait can still be taken.
    pub(crate) fn close(&mut self) {
        self.frames.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outbox_with_too_many_frames_ends_the_connection() {
        let close = CloseRequest::default();
        let (outbox, _queue) = outbox(None, close.clone());
        for _ in 0..OUTBOX_FRAMES_MAX {
            assert_eq!(outbox.push(Bytes::from_static(b"x")), Ok(()));
        }
        assert_eq!(close.requested(), None);
        assert_eq!(outbox.push(Bytes::from_static(b"x")), Err(OutboxError::Full));
        assert_eq!(close.requested(), Some(DownReason::QueueFull));
        assert_eq!(outbox.push(Bytes::from_static(b"x")), Err(OutboxError::NotConnected));
    }

    #[tokio::test]
    async fn outbox_with_too_many_bytes_ends_the_connection() {
        let close = CloseRequest::default();
        let (outbox, mut queue) = outbox(None, close.clone());
        let frame = Bytes::from(vec![0; FRAME_BYTES_MAX]);
        for _ in 0..OUTBOX_BYTES_MAX / FRAME_BYTES_MAX {
            assert_eq!(outbox.push(frame.clone()), Ok(()));
        }
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken).await);
        queue.written(FRAME_BYTES_MAX);
        assert_eq!(outbox.push(frame.clone()), Ok(()));
        assert_eq!(outbox.push(frame), Err(OutboxError::Full));
        assert_eq!(close.requested(), Some(DownReason::QueueFull));
    }

    #[test]
    fn frame_beyond_the_bound_is_rejected_alone() {
        let close = CloseRequest::default();
        let (outbox, _queue) = outbox(None, close.clone());
        let long = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
        assert_eq!(outbox.push(long), Err(OutboxError::TooLong(FRAME_BYTES_MAX + 1)));
        assert_eq!(close.requested(), None);
    }
}
