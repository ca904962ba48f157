//! Carries one connection to a member: reads, writes and measures until one of them ends.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chat_core::output::CloseReason;
use chat_proto::id::PeerId;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use n0_future::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span};

use crate::net::context::Shared;
use crate::net::event_queue::NetEvent;
use crate::net::event_queue::{Event, Events};
use crate::net::transport::close::DownReason;
use crate::net::transport::connections::Turn;
use crate::net::transport::framing::{FrameReader, ReadFrameError, join_frames};
use crate::net::transport::outbox::{Queue, outbox};
use crate::net::transport::path::{PathSampler, SAMPLE_EVERY};
use crate::net::transport::tie_break::Welcome;

/// Most bytes of frames that were read and not yet handled, of all peers together (64 MiB): beyond, reading pauses.
pub(crate) const INBOUND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long the other end may take to receive the welcome.
const WELCOME_MAX: Duration = Duration::from_secs(5);

/// How long an ending connection may take to send what is queued.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// How long the closing of a stream may precede that of its connection.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A connection that this end decided to keep.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: PeerId,
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) turn: Turn,
    /// What is still to be said before it may be used; nothing where the other end said it.
    pub(crate) welcome: Option<Welcome>,
}

impl Link {
    /// Carries the connection in its own task.
    pub(crate) fn spawn(self, shared: &Arc<Shared>) {
        let span = info_span!("link", me = %shared.me.short(), remote = %self.peer.short());
        shared.tracker.spawn(self.run(shared.clone()).instrument(span));
    }

    async fn run(mut self, shared: Arc<Shared>) {
        let mut end = End { shared: &shared, peer: self.peer, turn: &self.turn, told: false };
        let early = match &self.welcome {
            Some(welcome) => say(&mut self.send, *welcome).await,
            None => None,
        };
        // The one before says `Down` first.
        if let Some(before) = &self.turn.before {
            before.cancelled().await;
        }
        let closed = || self.connection.close_reason().as_ref().map(DownReason::from_connection);
        if let Some(reason) = early.or_else(|| self.turn.stop.requested()).or_else(closed) {
            debug!(?reason, "connection ended before it was used");
            self.connection.close(reason.code().var_int(), b"");
            end.tell();
            if reason != DownReason::Replaced {
                shared.events.send(NetEvent::DialFailed(self.peer)).await;
            }
            return;
        }
        let (peer, connection) = (self.peer, &self.connection);
        let mut sampler = PathSampler::default();
        let (outbox, queue) = outbox(Some(connection.weak_handle()), self.turn.stop.clone());
        let info = sampler.sample(connection);
        debug!(direct = info.direct, rtt = ?info.rtt, inbound = info.inbound, "connected");
        shared.events.send_event(Event::Up { peer, info, outbox }).await;
        let reason = carry(&shared, peer, connection, (self.send, self.recv), queue, &self.turn, sampler).await;
        debug!(?reason, "connection ended");
        if reason == DownReason::QueueFull {
            shared.queue_drops.fetch_add(1, Ordering::Relaxed);
        }
        connection.close(reason.code().var_int(), b"");
        // A dial that is asked for on hearing `Down` must find nothing standing.
        end.tell();
        shared.events.send(NetEvent::Down(peer, reason)).await;
    }
}

/// Ends a connection's turn, whatever becomes of its task: the next one waits for it.
struct End<'a> {
    shared: &'a Shared,
    peer: PeerId,
    turn: &'a Turn,
    told: bool,
}

impl End<'_> {
    /// The connection no longer stands.
    fn tell(&mut self) {
        if !self.told {
            self.told = true;
            self.shared.links.ended(&self.peer, self.turn.id);
        }
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.tell();
        self.turn.done.cancel();
    }
}

/// Says that the connection is kept, or why that failed.
async fn say(send: &mut SendStream, welcome: Welcome) -> Option<DownReason> {
    match timeout(WELCOME_MAX, send.write_all(&welcome.encode())).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(DownReason::Lost),
        Err(_) => Some(DownReason::Protocol),
    }
}

async fn carry(
    shared: &Shared,
    peer: PeerId,
    connection: &Connection,
    (send, recv): (SendStream, RecvStream),
    queue: Queue,
    turn: &Turn,
    sampler: PathSampler,
) -> DownReason {
    let flush = CancellationToken::new();
    let mut write = pin!(write(connection, send, queue, &flush));
    let reason = tokio::select! {
        reason = read(connection, recv, peer, &shared.events, &shared.inbound) => reason,
        reason = &mut write => reason,
        reason = read_datagrams(connection, peer, &shared.events) => reason,
        reason = measure(connection, peer, &shared.events, sampler) => reason,
        reason = turn.stop.wait() => reason,
        () = shared.token.cancelled() => DownReason::Closed(CloseReason::Stopping),
    };
    // From here on nothing more is queued.
    turn.stop.request(reason);
    if reason.flushes() {
        flush.cancel();
        // What could not be sent in time is repaired by anti-entropy.
        let _ = timeout(FLUSH_MAX, write).await;
    }
    reason
}

async fn read(
    connection: &Connection,
    recv: RecvStream,
    peer: PeerId,
    events: &Events,
    inbound: &Arc<Semaphore>,
) -> DownReason {
    let mut frames = FrameReader::new(recv);
    loop {
        match frames.next().await {
            Ok(Some(frame)) => {
                let frame = accounted(frame, inbound).await;
                if !events.send(NetEvent::Frame(peer, frame)).await {
                    return DownReason::Closed(CloseReason::Stopping);
                }
            }
            Ok(None) => return closed(connection).await,
            Err(ReadFrameError::Stream(_)) => return closed(connection).await,
            Err(error @ (ReadFrameError::TooLong(_) | ReadFrameError::Cut)) => {
                debug!(%error, "bad frame");
                return DownReason::Protocol;
            }
        }
    }
}

/// Reads frames that came past the stream. QUIC bounds how many bytes of them wait and drops the oldest.
async fn read_datagrams(connection: &Connection, peer: PeerId, events: &Events) -> DownReason {
    while let Ok(frame) = connection.read_datagram().await {
        if !events.send(NetEvent::Frame(peer, frame)).await {
            return DownReason::Closed(CloseReason::Stopping);
        }
    }
    // The connection has ended; the reader of the stream tells why, after what arrived before.
    pending().await
}

/// Why the other end closes: its stream ends a little before its connection.
async fn closed(connection: &Connection) -> DownReason {
    match timeout(CLOSE_MAX, connection.closed()).await {
        Ok(error) => DownReason::from_connection(&error),
        Err(_) => DownReason::ClosedByPeer,
    }
}

/// Counts a frame against [`INBOUND_BYTES_MAX`] until its last reader has dropped it.
async fn accounted(frame: Bytes, inbound: &Arc<Semaphore>) -> Bytes {
    let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    match inbound.clone().acquire_many_owned(bytes).await {
        Ok(permit) => Bytes::from_owner(Accounted { frame, _permit: permit }),
        // The semaphore is never closed.
        Err(_) => frame,
    }
}

struct Accounted {
    frame: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Accounted {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

/// Writes what is queued; once `flush` is asked for, until nothing waits and the other end has received it all.
async fn write(
    connection: &Connection,
    mut send: SendStream,
    mut queue: Queue,
    flush: &CancellationToken,
) -> DownReason {
    let mut frames = Vec::new();
    let mut flushing = false;
    loop {
        let open = if flushing {
            queue.take(&mut frames).await
        } else {
            tokio::select! {
                open = queue.take(&mut frames) => open,
                () = flush.cancelled() => {
                    flushing = true;
                    queue.close();
                    continue;
                }
            }
        };
        if !open {
            break;
        }
        let bytes = frames.iter().map(Bytes::len).sum();
        if send.write_all_chunks(&mut join_frames(frames.drain(..))).await.is_err() {
            if connection.close_reason().is_some() {
                // The reader tells why, after what arrived before.
                return pending().await;
            }
            return DownReason::Protocol;
        }
        queue.written(bytes);
    }
    // Both fail only when the connection is gone already.
    let _ = send.finish();
    let _ = send.stopped().await;
    DownReason::Closed(CloseReason::Surplus)
}

/// Tells how the path changes, as long as it is polled.
async fn measure(connection: &Connection, peer: PeerId, events: &Events, mut sampler: PathSampler) -> DownReason {
    let mut changes = connection.path_events();
    let mut ticks = interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // The stream ends with the connection; the reader tells why, after what arrived before.
            change = changes.next() => if change.is_none() { return pending().await },
        }
        let info = sampler.sample(connection);
        if !events.send(NetEvent::Path(peer, info)).await {
            return DownReason::Closed(CloseReason::Stopping);
        }
    }
}
