//! The queue of events from the tasks of the network to their one reader.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chat_core::input::{AdmissionCall, AdmissionId};
use chat_core::types::{PathInfo, RoleEvent};
use chat_proto::id::PeerId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::net::transport::close::DownReason;
use crate::net::transport::outbox::{Outbox, OutboxError};

/// Maximum number of events that wait for the reader. When it is slow, the tasks wait, and with them the peers: QUIC's
/// flow control passes the pressure on to the senders.
const EVENTS_MAX: usize = 1024;

/// Something happened on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A connection on the room protocol is open; frames may be sent.
    Up(PeerId, PathInfo),
    /// The path of a connection changed, or was measured again.
    Path(PeerId, PathInfo),
    /// A connection ended; frames that were not delivered are lost.
    Down(PeerId, DownReason),
    /// Dialling a member failed at all its addresses.
    DialFailed(PeerId),
    /// A whole frame arrived.
    Frame(PeerId, Bytes),
    /// A stranger asks to join; answered with [`Net::answer`](super::Net::answer).
    Admission(AdmissionCall),
    /// The stranger gave up, or its time ran out.
    AdmissionGone(AdmissionId),
    /// The addresses that this peer announces changed.
    Addrs(Vec<SocketAddr>),
    /// The outcome of a request made with [`Net::serve_role`](super::Net::serve_role).
    Role(RoleEvent),
}

/// What the tasks send.
#[derive(Debug)]
pub(crate) enum QueuedEvent {
    /// A connection is open; its queue can be used once the reader has taken this event.
    Up {
        /// The other end.
        peer: PeerId,
        /// The path at the start.
        info: PathInfo,
        /// The queue of frames to it.
        outbox: Outbox,
    },
    /// Anything else.
    Other(NetEvent),
}

/// The sending end of the queue.
#[derive(Clone, Debug)]
pub(crate) struct EventSender(mpsc::Sender<QueuedEvent>);

impl EventSender {
    /// Waits for space and sends; `false` when the reader has gone.
    pub(crate) async fn send(&self, event: NetEvent) -> bool {
        self.send_queued(QueuedEvent::Other(event)).await
    }

    pub(crate) async fn send_queued(&self, event: QueuedEvent) -> bool {
        self.0.send(event).await.is_ok()
    }
}

/// The outboxes of the connections that the reader knows to be up.
///
/// They change when the reader takes `Up` and `Down`, not when the network changes: a frame that answers something of
/// an earlier connection can therefore never be the first on the next one.
#[derive(Debug, Default)]
pub(crate) struct Outboxes(Mutex<HashMap<PeerId, Outbox>>);

impl Outboxes {
    pub(crate) fn push(&self, peer: &PeerId, frame: Bytes) -> Result<(), OutboxError> {
        self.lock().get(peer).ok_or(OutboxError::NotConnected)?.push(frame)
    }

    pub(crate) fn push_datagram(&self, peer: &PeerId, frame: Bytes) -> Result<(), OutboxError> {
        self.lock().get(peer).ok_or(OutboxError::NotConnected)?.push_datagram(frame)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Outbox>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream of events, for one reader. Once it is dropped, the network stops reading from peers.
#[derive(Debug)]
pub struct NetEvents {
    events: mpsc::Receiver<QueuedEvent>,
    outboxes: Arc<Outboxes>,
    closed: CancellationToken,
}

/// Creates both ends; `closed` ends the stream once what waits has been read.
pub(crate) fn events(outboxes: Arc<Outboxes>, closed: CancellationToken) -> (EventSender, NetEvents) {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    (EventSender(sender), NetEvents { events, outboxes, closed })
}

impl NetEvents {
    /// The next event; `None` after [`Net::shutdown`](super::Net::shutdown). Cancel safe.
    pub async fn recv(&mut self) -> Option<NetEvent> {
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = self.closed.cancelled() => None,
        };
        event.map(|event| self.take(event))
    }

    /// The peers whose connections are up, as far as the events were read.
    pub(crate) fn up(&self) -> Vec<PeerId> {
        self.outboxes.lock().keys().copied().collect()
    }

    /// The next event if one is waiting.
    pub fn try_recv(&mut self) -> Option<NetEvent> {
        self.events.try_recv().ok().map(|event| self.take(event))
    }

    fn take(&self, event: QueuedEvent) -> NetEvent {
        match event {
            QueuedEvent::Up { peer, info, outbox } => {
                self.outboxes.lock().insert(peer, outbox);
                NetEvent::Up(peer, info)
            }
            QueuedEvent::Other(event) => {
                if let NetEvent::Down(peer, _) = &event {
                    self.outboxes.lock().remove(peer);
                }
                event
            }
        }
    }
}
