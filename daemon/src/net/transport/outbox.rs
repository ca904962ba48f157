//! The queue of frames on their way to one peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use chat_core::config::FRAME_BYTES_MAX;
use iroh::endpoint::WeakConnectionHandle;
use tokio::sync::mpsc;

use crate::net::transport::close::{DownReason, Stop};

/// Most frames that wait for one peer: what a busy room says while this machine's processors are busy elsewhere for some
/// tenths of a second. A peer that is further behind gets more from anti-entropy than from the queue.
pub(crate) const OUTBOX_FRAMES_MAX: usize = 16 * 1024;

/// Most frames that are written at once.
const WRITE_FRAMES_MAX: usize = 1024;

/// Most bytes that wait for one peer (8 MiB): what all peers together can make this node hold stays bounded.
pub(crate) const OUTBOX_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a frame was not queued. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection to the peer; `Down` has come or is on its way.
    #[error("no connection to the peer")]
    NotConnected,
    /// The peer reads too slowly; its connection is being dropped and `Down` is on its way.
    #[error("the peer reads too slowly, its connection is dropped")]
    Full,
    /// Longer than [`FRAME_BYTES_MAX`](chat_core::config::FRAME_BYTES_MAX).
    #[error("frame of {0} bytes is too long")]
    TooLong(usize),
}

/// The sending end of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    /// Carries datagrams past the queue. Weak: whoever holds a queue does not hold its connection open.
    connection: Option<WeakConnectionHandle>,
    frames: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
    stop: Stop,
}

/// The receiving end of a queue.
#[derive(Debug)]
pub(crate) struct Queue {
    frames: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

/// An empty queue whose connection ends when it overflows.
pub(crate) fn outbox(connection: Option<WeakConnectionHandle>, stop: Stop) -> (Outbox, Queue) {
    let (sender, receiver) = mpsc::channel(OUTBOX_FRAMES_MAX);
    let bytes = Arc::<AtomicUsize>::default();
    (Outbox { connection, frames: sender, bytes: bytes.clone(), stop }, Queue { frames: receiver, bytes })
}

impl Outbox {
    /// Queues a frame or ends the connection.
    ///
    /// # Errors
    /// [`SendError`]; the frame was not queued.
    pub(crate) fn push(&self, frame: Bytes) -> Result<(), SendError> {
        let length = frame.len();
        if length > FRAME_BYTES_MAX {
            return Err(SendError::TooLong(length));
        }
        if self.stop.requested().is_some() {
            return Err(SendError::NotConnected);
        }
        if self.bytes.fetch_add(length, Ordering::AcqRel) + length > OUTBOX_BYTES_MAX {
            self.stop.request(DownReason::QueueFull);
            return Err(SendError::Full);
        }
        self.frames.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.stop.request(DownReason::QueueFull);
                SendError::Full
            }
            mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
        })
    }
}

impl Outbox {
    /// Sends a frame past the queue, where it may be lost; one that does not fit into a packet is queued.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub(crate) fn push_datagram(&self, frame: Bytes) -> Result<(), SendError> {
        if self.stop.requested().is_some() {
            return Err(SendError::NotConnected);
        }
        let connection = self.connection.as_ref().and_then(WeakConnectionHandle::upgrade);
        let sent = connection.is_some_and(|connection| connection.send_datagram(frame.clone()).is_ok());
        if sent { Ok(()) } else { self.push(frame) }
    }
}

impl Queue {
    /// Waits for frames and moves what waits into `frames`; `false` when the queue is closed and empty. Cancel safe.
    pub(crate) async fn take(&mut self, frames: &mut Vec<Bytes>) -> bool {
        self.frames.recv_many(frames, WRITE_FRAMES_MAX).await > 0
    }

    /// Makes room for as many bytes as were written.
    pub(crate) fn written(&self, bytes: usize) {
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
    fn too_many_frames_end_the_connection() {
        let stop = Stop::default();
        let (outbox, _queue) = outbox(None, stop.clone());
        for _ in 0..OUTBOX_FRAMES_MAX {
            assert_eq!(outbox.push(Bytes::from_static(b"x")), Ok(()));
        }
        assert_eq!(stop.requested(), None);
        assert_eq!(outbox.push(Bytes::from_static(b"x")), Err(SendError::Full));
        assert_eq!(stop.requested(), Some(DownReason::QueueFull));
        assert_eq!(outbox.push(Bytes::from_static(b"x")), Err(SendError::NotConnected));
    }

    #[tokio::test]
    async fn too_many_bytes_end_the_connection_and_written_ones_make_room() {
        let stop = Stop::default();
        let (outbox, mut queue) = outbox(None, stop.clone());
        let frame = Bytes::from(vec![0; FRAME_BYTES_MAX]);
        for _ in 0..OUTBOX_BYTES_MAX / FRAME_BYTES_MAX {
            assert_eq!(outbox.push(frame.clone()), Ok(()));
        }
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken).await);
        queue.written(FRAME_BYTES_MAX);
        assert_eq!(outbox.push(frame.clone()), Ok(()));
        assert_eq!(outbox.push(frame), Err(SendError::Full));
        assert_eq!(stop.requested(), Some(DownReason::QueueFull));
    }

    #[test]
    fn a_frame_beyond_the_bound_is_refused_alone() {
        let stop = Stop::default();
        let (outbox, _queue) = outbox(None, stop.clone());
        let long = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
        assert_eq!(outbox.push(long), Err(SendError::TooLong(FRAME_BYTES_MAX + 1)));
        assert_eq!(stop.requested(), None);
    }
}
