//! Carries one connection to a member: reads, writes and measures until one of them ends.
//!
//! `accept` and `dial` make connections and ask the table which to keep; each kept one runs here, in a task of its own. The
//! task reports `Up`, then frames and paths, then `Down`, through the event queue, and takes frames to send from its
//! outbox.
//!
//! Invariants: `Up` follows the `Down` of the connection before it. The table no longer holds the connection when `Down` is
//! reported, so that a dial on `Down` is not refused. Reading pauses while too many bytes wait for the room, and so QUIC's
//! flow control slows the sender. The task never waits for the peer to read: a full outbox ends the connection, and
//! anti-entropy repairs what was lost.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_core::output::CloseReason;
use chat_proto::id::PeerId;
use iroh::Endpoint;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use n0_future::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info_span};

use crate::net::context::NetContext;
use crate::net::event_queue::{EventSender, NetEvent, QueuedEvent};
use crate::net::tcp::forwarder::direct_peers::DirectPeers;
use crate::net::transport::close::{CloseRequest, DownReason};
use crate::net::transport::connections::{CarryPermit, ConnectionTable};
use crate::net::transport::framing::{FrameReader, FramingError, join_frames};
use crate::net::transport::outbox::{OutboxReader, outbox};
use crate::net::transport::path::{PathSampler, SAMPLE_EVERY};
use crate::net::transport::tie_break::Welcome;
use crate::net::transport::{direct_again, silence};

/// Timeout for the other end to receive the welcome.
const WELCOME_MAX: Duration = Duration::from_secs(5);

/// Timeout for an ending connection to send what is queued.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// How long a direct path must have lasted before nothing more is relayed to the peer.
const DIRECT_AFTER: Duration = Duration::from_secs(5);

/// How long after its stream the other end may close the connection.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A connection that this end decided to keep.
#[derive(Debug)]
pub(crate) struct MemberConnection {
    pub(crate) peer: PeerId,
    pub(crate) connection: Connection,
    pub(crate) endpoint: Endpoint,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) permit: CarryPermit,
    /// Sent before the connection is used; `None` where the other end sends it.
    pub(crate) welcome: Option<Welcome>,
}

impl MemberConnection {
    /// Carries the connection in its own task.
    pub(crate) fn spawn(self, ctx: &NetContext, table: &Arc<ConnectionTable>) {
        let span = info_span!("link", me = %ctx.me.short(), remote = %self.peer.short());
        ctx.spawn(span, self.run(ctx.clone(), table.clone()));
    }

    async fn run(mut self, ctx: NetContext, table: Arc<ConnectionTable>) {
        let mut end = End { table: &table, peer: self.peer, permit: &self.permit, ended: false };
        let early = match &self.welcome {
            Some(welcome) => send_welcome(&mut self.send, *welcome).await,
            None => None,
        };
        // The connection before this one reports `Down` first.
        if let Some(before) = &self.permit.before {
            before.cancelled().await;
        }
        let closed = || self.connection.close_reason().as_ref().map(DownReason::from_connection);
        if let Some(reason) = early.or_else(|| self.permit.close.requested()).or_else(closed) {
            debug!(?reason, "connection ended before it was used");
            self.connection.close(reason.code().var_int(), b"");
            end.leave_table();
            if reason != DownReason::Replaced {
                ctx.events.send(NetEvent::DialFailed(self.peer)).await;
            }
            return;
        }
        let (peer, connection) = (self.peer, &self.connection);
        let mut sampler = PathSampler::default();
        let (outbox, queue) = outbox(Some(connection.weak_handle()), self.permit.close.clone());
        let info = sampler.sample(connection);
        debug!(direct = info.direct, rtt = ?info.rtt, inbound = info.inbound, "connected");
        ctx.events.send_queued(QueuedEvent::Up { peer, info, outbox }).await;
        let carrier = Carrier {
            peer,
            connection,
            endpoint: &self.endpoint,
            events: &ctx.events,
            inbound: &table.inbound,
            direct: &table.direct,
        };
        let streams = (self.send, self.recv);
        let reason = carrier.carry(streams, queue, &self.permit.close, sampler, &ctx.token).await;
        debug!(?reason, "connection ended");
        if reason == DownReason::QueueFull {
            table.count_queue_drop();
        }
        connection.close(reason.code().var_int(), b"");
        // A dial that is requested on `Down` must find no connection.
        end.leave_table();
        ctx.events.send(NetEvent::Down(peer, reason)).await;
    }
}

/// Ends a connection's turn, even when its task panics: the next connection waits for it.
struct End<'a> {
    table: &'a ConnectionTable,
    peer: PeerId,
    permit: &'a CarryPermit,
    ended: bool,
}

impl End<'_> {
    /// Takes the connection out of the table.
    fn leave_table(&mut self) {
        if !self.ended {
            self.ended = true;
            self.table.ended(&self.peer, self.permit.id);
        }
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.leave_table();
        self.permit.done.cancel();
    }
}

/// Tells the other end that the connection is kept; returns why that failed.
async fn send_welcome(send: &mut SendStream, welcome: Welcome) -> Option<DownReason> {
    match timeout(WELCOME_MAX, send.write_all(&welcome.encode())).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(DownReason::Lost),
        Err(_) => Some(DownReason::Protocol),
    }
}

/// What the reader, the writer and the sampler of one connection share.
#[derive(Clone, Copy)]
struct Carrier<'a> {
    peer: PeerId,
    connection: &'a Connection,
    endpoint: &'a Endpoint,
    events: &'a EventSender,
    /// Bytes of frames that may still be read.
    inbound: &'a Arc<Semaphore>,
    direct: &'a Arc<DirectPeers>,
}

impl Carrier<'_> {
    /// Reads, writes and measures until one of them ends or the end is requested.
    async fn carry(
        self,
        (send, recv): (SendStream, RecvStream),
        queue: OutboxReader,
        close: &CloseRequest,
        sampler: PathSampler,
        token: &CancellationToken,
    ) -> DownReason {
        let flush = CancellationToken::new();
        let sent = queue.sent();
        let mut write = pin!(write(self.connection, send, queue, &flush));
        let reason = tokio::select! {
            reason = self.read(recv) => reason,
            reason = &mut write => reason,
            reason = self.read_datagrams() => reason,
            reason = self.measure(sampler) => reason,
            () = silence::silent(self.connection, &sent) => DownReason::PathSilent,
            () = direct_again::look(self.endpoint, self.connection) => DownReason::Lost,
            reason = close.wait() => reason,
            () = token.cancelled() => DownReason::Closed(CloseReason::Stopping),
        };
        // From here on nothing more is queued.
        close.request(reason);
        if reason.flushes() {
            flush.cancel();
            // What could not be sent in time is repaired by anti-entropy.
            let _ = timeout(FLUSH_MAX, write).await;
        }
        reason
    }

    async fn read(self, recv: RecvStream) -> DownReason {
        let mut frames = FrameReader::new(recv);
        loop {
            match frames.next().await {
                Ok(Some(frame)) => {
                    let frame = accounted(frame, self.inbound).await;
                    if !self.events.send(NetEvent::Frame(self.peer, frame)).await {
                        return DownReason::Closed(CloseReason::Stopping);
                    }
                }
                Ok(None) | Err(FramingError::Stream(_)) => return closed(self.connection).await,
                Err(error @ (FramingError::TooLong(_) | FramingError::Cut)) => {
                    debug!(%error, "bad frame");
                    return DownReason::Protocol;
                }
            }
        }
    }

    /// Reads frames that came past the stream. QUIC bounds how many bytes of them wait and drops the oldest.
    async fn read_datagrams(self) -> DownReason {
        while let Ok(frame) = self.connection.read_datagram().await {
            if !self.events.send(NetEvent::Frame(self.peer, frame)).await {
                return DownReason::Closed(CloseReason::Stopping);
            }
        }
        // The connection has ended; the reader of the stream reports why, after what arrived before.
        pending().await
    }

    /// Reports how the path changes, as long as it is polled.
    async fn measure(self, mut sampler: PathSampler) -> DownReason {
        let mut changes = self.connection.path_events();
        let mut ticks = interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let (mut direct_since, mut direct_path) = (None, None);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // The stream ends with the connection; the reader reports why, after what arrived before.
                change = changes.next() => if change.is_none() { return pending().await },
            }
            let info = sampler.sample(self.connection);
            if info.direct {
                let since = *direct_since.get_or_insert_with(Instant::now);
                if direct_path.is_none() && since.elapsed() >= DIRECT_AFTER {
                    direct_path = Some(self.direct.enter(self.peer));
                }
            } else {
                (direct_since, direct_path) = (None, None);
            }
            if !self.events.send(NetEvent::Path(self.peer, info)).await {
                return DownReason::Closed(CloseReason::Stopping);
            }
        }
    }
}

/// Why the other end closed: its stream ends a little before its connection.
async fn closed(connection: &Connection) -> DownReason {
    match timeout(CLOSE_MAX, connection.closed()).await {
        Ok(error) => DownReason::from_connection(&error),
        Err(_) => DownReason::ClosedByPeer,
    }
}

/// Counts a frame against the bytes that may be read, until its last reader has dropped it.
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

/// Writes what is queued; after `flush`, until the queue is empty and the other end has received everything.
async fn write(
    connection: &Connection,
    mut send: SendStream,
    mut queue: OutboxReader,
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
                // The reader reports why, after what arrived before.
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
