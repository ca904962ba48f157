//! The way of events from the tasks of the network to their one reader.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chat_core::admission::codec::AdmissionRequest;
use chat_core::input::AdmissionId;
use chat_core::types::{PathInfo, RoleEvent};
use chat_proto::id::PeerId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::net::transport::close::DownReason;
use crate::net::transport::outbox::{Outbox, SendError};

/// Most events that wait for the reader. When it is slow, the tasks wait, and with them the peers: QUIC's flow control
/// hands the pressure on to the senders.
const EVENTS_MAX: usize = 1024;

/// Something happened on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A connection on the room protocol stands; frames may be sent.
    Up(PeerId, PathInfo),
    /// The path of a connection changed, or was measured again.
    Path(PeerId, PathInfo),
    /// A connection ended; frames that were not delivered are lost.
    Down(PeerId, DownReason),
    /// Dialling a member failed at all its addresses.
    DialFailed(PeerId),
    /// A whole frame arrived.
    Frame(PeerId, Bytes),
    /// A stranger asks to be let in; answered with [`Net::answer`](super::Net::answer).
    Admission {
        /// Names the request in the answer.
        id: AdmissionId,
        /// The stranger; its key was proved by the handshake.
        peer: PeerId,
        /// Where it is seen.
        observed: Option<SocketAddr>,
        /// What it asks.
        request: AdmissionRequest,
        /// With a knock: the words both sides show; empty with a ticket.
        words: String,
    },
    /// The stranger gave up, or its time ran out.
    AdmissionGone(AdmissionId),
    /// The addresses this peer can give to others changed.
    Addrs(Vec<SocketAddr>),
    /// The outcome of a request made with [`Net::serve_role`](super::Net::serve_role).
    Role(RoleEvent),
}

/// What the tasks send.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection stands; its queue is put in place when the reader learns of it.
    Up {
        /// To whom.
        peer: PeerId,
        /// How.
        info: PathInfo,
        /// Its queue.
        outbox: Outbox,
    },
    /// Anything else.
    Other(NetEvent),
}

/// The sending end.
#[derive(Clone, Debug)]
pub(crate) struct Events(mpsc::Sender<Event>);

impl Events {
    /// Waits for space and sends; `false` when nobody reads any more.
    pub(crate) async fn send(&self, event: NetEvent) -> bool {
        self.send_event(Event::Other(event)).await
    }

    pub(crate) async fn send_event(&self, event: Event) -> bool {
        self.0.send(event).await.is_ok()
    }
}

/// Queues of the connections that the reader knows to be up.
///
/// They change when the reader takes `Up` and `Down`, not when the network changes: a frame that answers something of
/// an earlier connection can therefore never be the first on the next one.
#[derive(Debug, Default)]
pub(crate) struct Routes(Mutex<HashMap<PeerId, Outbox>>);

impl Routes {
    pub(crate) fn push(&self, peer: &PeerId, frame: Bytes) -> Result<(), SendError> {
        self.lock().get(peer).ok_or(SendError::NotConnected)?.push(frame)
    }

    pub(crate) fn push_datagram(&self, peer: &PeerId, frame: Bytes) -> Result<(), SendError> {
        self.lock().get(peer).ok_or(SendError::NotConnected)?.push_datagram(frame)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Outbox>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream of events, for one reader. Once it is dropped, the network stops reading from peers.
#[derive(Debug)]
pub struct NetEvents {
    events: mpsc::Receiver<Event>,
    routes: Arc<Routes>,
    closed: CancellationToken,
}

/// Both ends; `closed` ends the stream once what waits has been read.
pub(crate) fn events(routes: Arc<Routes>, closed: CancellationToken) -> (Events, NetEvents) {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    (Events(sender), NetEvents { events, routes, closed })
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

    /// The next event if one waits already.
    pub fn try_recv(&mut self) -> Option<NetEvent> {
        self.events.try_recv().ok().map(|event| self.take(event))
    }

    fn take(&self, event: Event) -> NetEvent {
        match event {
            Event::Up { peer, info, outbox } => {
                self.routes.lock().insert(peer, outbox);
                NetEvent::Up(peer, info)
            }
            Event::Other(event) => {
                if let NetEvent::Down(peer, _) = &event {
                    self.routes.lock().remove(peer);
                }
                event
            }
        }
    }
}
