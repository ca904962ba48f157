//! The network: an iroh endpoint without any outside service.
//!
//! [`Net`] is a handle that never blocks its caller; what happens on the network comes out of [`NetEvents`], which one
//! reader drains. For each peer the events are strictly ordered: `Up`, frames and paths, `Down`; a frame never follows
//! `Down`, and `Up` never follows `Up`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use chat_core::admission::codec::AdmissionAnswer;
use chat_core::input::AdmissionId;
use chat_core::output::{CloseReason, Relays};
use chat_core::types::{RoleRequest, Switch};
use chat_proto::api::members::NearbyRoom;
use chat_proto::id::PeerId;
use iroh::SecretKey;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span};

mod admission;
mod context;
mod discovery;
mod event_queue;
pub mod gate;
pub mod settings;
mod tcp;
mod transport;

use admission::join;
pub use admission::join::{JoinError, Joined};
use admission::server::Admissions;
pub use admission::target::{JoinTarget, ParseTargetError};
use context::{Shared, peer_id};
use discovery::addrs;
use discovery::mdns::{self, Nearby};
use discovery::seen_addrs::Book;
use event_queue::Routes;
pub use event_queue::{NetEvent, NetEvents};
use gate::{Gate, Hook};
use settings::{BindError, Mdns, NetSettings};
use tcp::hello;
use tcp::role_services::{self, Duties};
pub use transport::close::DownReason;
use transport::connections::Links;
use transport::endpoint::{self, Opening};
pub use transport::outbox::SendError;
use transport::tie_break::Process;
use transport::{accept, connection, dial};

/// How long the endpoint may take to close. Who is there answers in a round trip; a call to somebody who is not would hold
/// it for seconds.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// Reaches the network. Cheap to clone; [`Net::shutdown`] ends it for all clones.
#[derive(Clone, Debug)]
pub struct Net {
    shared: Arc<Shared>,
    port: u16,
    port_was_taken: bool,
}

impl Net {
    /// Opens the sockets and begins to listen. `identity` is the ed25519 secret key of this peer, `gate` says who may
    /// speak the room protocol.
    ///
    /// # Errors
    /// [`BindError`], with what to do next; nothing is left open.
    pub async fn bind(
        settings: NetSettings,
        identity: [u8; 32],
        gate: Arc<Gate>,
    ) -> Result<(Self, NetEvents), BindError> {
        let secret = SecretKey::from_bytes(&identity);
        let me = peer_id(secret.public());
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        let duties = Duties::new().await.map_err(BindError::Forwarder)?;
        let opening =
            Opening { settings: &settings, secret: &secret, hook: &Hook(gate.clone()), relay: duties.relay_url() };
        let sockets = endpoint::open(&opening).await?;
        let (closed, routes) = (CancellationToken::new(), Arc::<Routes>::default());
        let (events, receiver) = event_queue::events(routes.clone(), closed.clone());
        let shared = Arc::new(Shared {
            me,
            gate,
            links: Links::new(me, Process(rand::random())),
            events,
            routes,
            inbound: Arc::new(Semaphore::new(connection::INBOUND_BYTES_MAX)),
            dials: Semaphore::new(dial::DIALS_MAX),
            admissions: Admissions::default(),
            book: Book::default(),
            nearby: Nearby::default(),
            queue_drops: AtomicU64::new(0),
            addrs: ArcSwap::from_pointee(addrs::current(&sockets.endpoint)),
            observed: Mutex::new(VecDeque::new()),
            duties,
            tracker,
            token,
            closed,
            endpoint: sockets.endpoint,
        });
        let net = Self {
            port: sockets.port,
            port_was_taken: settings.listen.port.is_none() && sockets.port != chat_proto::PEER_PORT,
            shared,
        };
        let span = info_span!("net", me = %me.short());
        net.spawn(accept::run(net.shared.clone()), &span);
        net.spawn(addrs::watch(net.shared.clone()), &span);
        net.spawn(sweep(net.shared.clone()), &span);
        // Nobody on the local network reaches loopback.
        let local = settings.listen.ip.is_none_or(|ip| !ip.is_loopback());
        if settings.mdns == Mdns::On && local {
            net.spawn(mdns::run(net.shared.clone()), &span);
        }
        net.spawn(role_services::run_relay(net.shared.clone()), &span);
        for listener in sockets.tcp {
            net.spawn(hello::serve(net.shared.clone(), listener), &span);
        }
        Ok((net, receiver))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static, span: &tracing::Span) {
        self.shared.tracker.spawn(task.instrument(span.clone()));
    }

    /// This peer.
    pub fn me(&self) -> PeerId {
        self.shared.me
    }

    /// UDP and TCP port that this peer listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the default port was taken, so that another one is used.
    pub fn port_was_taken(&self) -> bool {
        self.port_was_taken
    }

    /// Who may speak the room protocol.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.shared.gate
    }

    /// Addresses that this peer can give to others now; [`NetEvent::Addrs`] tells changes.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.shared.addrs.load().to_vec()
    }

    /// Queues a frame. Never blocks.
    ///
    /// # Errors
    /// [`SendError`]; with [`SendError::Full`] the connection is dropped.
    pub fn send(&self, peer: PeerId, frame: Bytes) -> Result<(), SendError> {
        self.shared.routes.push(&peer, frame)
    }

    /// Sends a frame past the queue as a datagram, which may be lost and may overtake others; one that does not fit into
    /// a packet is queued. Never blocks.
    ///
    /// # Errors
    /// As [`Net::send`].
    pub fn send_datagram(&self, peer: PeerId, frame: Bytes) -> Result<(), SendError> {
        self.shared.routes.push_datagram(&peer, frame)
    }

    /// Carries out a request of the rendezvous role; `addrs` are the known addresses of the peer it is about. Never
    /// blocks; outcomes arrive as [`NetEvent::Role`].
    pub fn serve_role(&self, request: RoleRequest, addrs: Vec<SocketAddr>) {
        match request {
            RoleRequest::OpenWatch(peer) => role_services::watch(&self.shared, peer, addrs),
            RoleRequest::CloseWatch(peer) => role_services::unwatch(&self.shared, &peer),
            RoleRequest::Probe(peer) => role_services::probe(&self.shared, peer, addrs),
            RoleRequest::SwitchRelay(switch) => self.switch_relay(switch),
        }
    }

    /// Whether this peer runs the relay.
    pub fn switch_relay(&self, switch: Switch) {
        self.shared.duties.switch_relay(switch);
    }

    /// Whose relay is used: relayed packets go there from now on.
    pub fn set_relays(&self, relays: Relays) {
        self.shared.duties.set_relays(&self.shared.me, relays);
    }

    /// Connects to a member on the room protocol. Never blocks; ends in `Up` or `DialFailed`, unless the peer is
    /// connected or being dialled already. To be called for members only: others fail.
    pub fn dial(&self, peer: PeerId, addrs: Vec<SocketAddr>) {
        dial::dial(&self.shared, peer, addrs);
    }

    /// Closes the connection to a peer once what is queued has been sent, or a short time has passed, and gives up
    /// dialling it. Never blocks; ends in `Down` or `DialFailed`.
    pub fn disconnect(&self, peer: PeerId, reason: CloseReason) {
        self.shared.links.stop(&peer, DownReason::Closed(reason));
    }

    /// Answers a stranger. An answer to one that has gone is dropped.
    pub fn answer(&self, id: AdmissionId, answer: AdmissionAnswer) {
        self.shared.admissions.answer(id, answer);
    }

    /// Adds an address at which others see this peer, so that hole punching and newcomers can use it.
    pub fn add_observed(&self, addr: SocketAddr) {
        addrs::observe(&self.shared, addr);
    }

    /// Connections to members that stand.
    pub fn connections(&self) -> usize {
        self.shared.links.standing_count()
    }

    /// Connections that were dropped since the start because the peer read too slowly.
    pub fn queue_drops(&self) -> u64 {
        self.shared.queue_drops.load(Ordering::Relaxed)
    }

    /// Rooms seen on the local network; empty without mDNS.
    pub fn nearby(&self) -> Vec<NearbyRoom> {
        self.shared.nearby.rooms()
    }

    /// Asks to be let into a room under `name` and waits for the answer. `on_words` is called when somebody has to let
    /// this peer in by hand, with the words that both sides show. The peer that let us in may speak the room protocol
    /// from then on ([`Gate::open_door`]). Dropping the future gives up.
    ///
    /// # Errors
    /// [`JoinError`], with what to do next.
    pub async fn join(
        &self,
        target: JoinTarget,
        name: &str,
        on_words: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Joined, JoinError> {
        join::join(&self.shared, &target, name, on_words).await
    }

    /// Sends what is queued, closes all connections and sockets; at the deadline at the latest. The reader of the events
    /// must go on reading until `None`.
    pub async fn shutdown(&self, deadline: Duration) {
        let half = deadline / 2;
        self.shared.token.cancel();
        self.shared.links.stop_all(DownReason::Closed(CloseReason::Stopping));
        self.shared.tracker.close();
        if timeout(half, self.shared.tracker.wait()).await.is_err() {
            debug!("some connections did not end in time");
        }
        if timeout(half.min(CLOSE_MAX), self.shared.endpoint.close()).await.is_err() {
            debug!("the endpoint did not close in time");
            // Dropped, it would complain that nobody closed it.
            std::mem::forget(self.shared.endpoint.clone());
        }
        self.shared.duties.end();
        self.shared.closed.cancel();
    }
}

/// Closes the connections of those who are no longer members, whenever the roster changes.
async fn sweep(shared: Arc<Shared>) {
    let mut changes = shared.gate.changes();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = shared.token.cancelled() => return,
        }
        shared.links.sweep(&shared.gate);
    }
}

#[cfg(test)]
mod tests;
