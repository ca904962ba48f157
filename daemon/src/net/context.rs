//! What the tasks of the network share.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use chat_proto::id::PeerId;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayUrl, TransportAddr};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::admission::server::Admissions;
use crate::net::discovery::mdns::Nearby;
use crate::net::discovery::seen_addrs::Book;
use crate::net::event_queue::{Events, Routes};
use crate::net::gate::Gate;
use crate::net::tcp::role_services::Duties;
use crate::net::transport::connections::Links;

/// Everything that more than one task needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: PeerId,
    pub(crate) endpoint: Endpoint,
    pub(crate) gate: Arc<Gate>,
    pub(crate) links: Links,
    pub(crate) events: Events,
    pub(crate) routes: Arc<Routes>,
    /// Bytes of frames that were read and not yet handled.
    pub(crate) inbound: Arc<Semaphore>,
    /// Dials under way.
    pub(crate) dials: Semaphore,
    pub(crate) admissions: Admissions,
    /// Where peers were seen.
    pub(crate) book: Book,
    /// Who was seen on the local network.
    pub(crate) nearby: Nearby,
    /// Connections that were dropped because their queue was full.
    pub(crate) queue_drops: AtomicU64,
    /// What the rendezvous role asked for.
    pub(crate) duties: Duties,
    /// Addresses this peer can give to others.
    pub(crate) addrs: ArcSwap<Vec<SocketAddr>>,
    /// Addresses at which others see this peer.
    pub(crate) observed: Mutex<VecDeque<SocketAddr>>,
    pub(crate) tracker: TaskTracker,
    /// Ends all tasks.
    pub(crate) token: CancellationToken,
    /// Ends the stream of events.
    pub(crate) closed: CancellationToken,
}

impl Shared {
    /// Where to dial a peer: where it says it is, and where it was seen. With a relay, every peer's relay is this node's
    /// own forwarder: one URL for ever.
    pub(crate) fn endpoint_addr(&self, id: EndpointId, addrs: &[SocketAddr]) -> EndpointAddr {
        let peer = peer_id(id);
        let seen = self.book.addrs(&peer).into_iter().chain(self.nearby.addrs(&peer));
        let relay = self.relay_url().map(TransportAddr::Relay);
        EndpointAddr::from_parts(id, addrs.iter().copied().chain(seen).map(TransportAddr::Ip).chain(relay))
    }

    /// URL of the local forwarder to the relay of the room.
    fn relay_url(&self) -> Option<RelayUrl> {
        Some(self.duties.relay_url().clone())
    }
}

/// A peer as iroh names it; `None` when its bytes are not a key.
pub(crate) fn endpoint_id(peer: &PeerId) -> Option<EndpointId> {
    EndpointId::from_bytes(peer.as_bytes()).ok()
}

/// A peer as the room names it.
pub(crate) fn peer_id(id: EndpointId) -> PeerId {
    PeerId::from_bytes(*id.as_bytes())
}
