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

use super::{DownReason, NetEvent};
use crate::net::events::{Event, Events};
use crate::net::framing::{FrameReader, ReadFrameError, join_frames};
use crate::net::links::Turn;
use crate::net::outbox::{Queue, outbox};
use crate::net::path::{PathSampler, SAMPLE_EVERY};
use crate::net::shared::Shared;

/// Most bytes of frames that were read and not yet handled, of all peers together (64 MiB): beyond, reading pauses.
pub(crate) const INBOUND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an ending connection may take to send what is queued.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// How long the closing of a stream may precede that of its connection.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A connection that was welcomed by both ends.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: PeerId,
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) turn: Turn,
}

impl Link {
    /// Carries the connection in its own task.
    pub(crate) fn spawn(self, shared: &Arc<Shared>) {
        let span = info_span!("link", me = %shared.me.short(), remote = %self.peer.short());
        shared.tracker.spawn(self.run(shared.clone()).instrument(span));
    }

    async fn run(self, shared: Arc<Shared>) {
        let Self { peer, connection, send, recv, turn } = self;
        // The one before says `Down` first.
        if let Some(before) = &turn.before {
            before.cancelled().await;
        }
        let early =
            turn.stop.requested().or_else(|| connection.close_reason().as_ref().map(DownReason::from_connection));
        if let Some(reason) = early {
            debug!(?reason, "connection ended before it was used");
            connection.close(reason.code().var_int(), b"");
            shared.links.ended(&peer, turn.id);
            if reason != DownReason::Replaced {
                shared.events.send(NetEvent::DialFailed(peer)).await;
            }
            turn.done.cancel();
            return;
        }
        let mut sampler = PathSampler::default();
        let (outbox, queue) = outbox(Some(connection.weak_handle()), turn.stop.clone());
        let info = sampler.sample(&connection);
        debug!(direct = info.direct, rtt = ?info.rtt, inbound = info.inbound, "connected");
        shared.events.send_event(Event::Up { peer, info, outbox }).await;
        let reason = carry(&shared, peer, &connection, (send, recv), queue, &turn, sampler).await;
        debug!(?reason, "connection ended");
        if reason == DownReason::QueueFull {
            shared.queue_drops.fetch_add(1, Ordering::Relaxed);
        }
        connection.close(reason.code().var_int(), b"");
        // A dial that is asked for on hearing `Down` must find nothing standing.
        shared.links.ended(&peer, turn.id);
        shared.events.send(NetEvent::Down(peer, reason)).await;
        turn.done.cancel();
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
