//! The network: an iroh endpoint without any outside service.
//!
//! [`Net`] is a handle that never blocks its caller; what happens on the network comes out of [`NetEvents`], which one
//! reader drains: the driver of the room.
//!
//! * `transport`: QUIC connections between members, each with a bounded queue of frames.
//! * `admission`: joining a room, for the newcomer and for the member that lets it in.
//! * `tcp`: the services on the TCP port with the same number: hello, watches, relay.
//! * `discovery`: the addresses of this peer and of others.
//! * `gate`: decides which peers may speak the room protocol; all four ask it.
//!
//! Invariants: for each peer the events are strictly ordered: `Up`, frames and paths, `Down`; a frame never follows
//! `Down`, and `Up` never follows `Up`. Every task is tracked and ends with the token of the context. Every queue, table
//! and set of tasks that a remote peer can fill has a named bound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_core::admission::codec::AdmissionAnswer;
use chat_core::input::AdmissionId;
use chat_core::output::{CloseReason, Relays};
use chat_core::types::{RoleRequest, Switch};
use chat_proto::api::members::NearbyRoom;
use chat_proto::id::PeerId;
use iroh::{Endpoint, SecretKey};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info_span};

pub(crate) mod admission;
mod context;
mod discovery;
mod event_queue;
pub mod gate;
mod places;
pub mod settings;
pub(crate) mod tcp;
pub(crate) mod transport;

use admission::join::Joining;
pub use admission::join::{JoinError, JoinedRoom};
use admission::server::Admissions;
pub use admission::target::{JoinTarget, ParseTargetError};
use context::{NetContext, peer_id};
use discovery::address_book::AddressBook;
use discovery::mdns::{self, ListenAddr};
pub use discovery::mdns::{MulticastError, search};
use discovery::nearby::Nearby;
use discovery::own_addrs::OwnAddrs;
use event_queue::Outboxes;
pub use event_queue::{NetEvent, NetEvents};
use gate::Gate;
use settings::{BindError, Mdns, NetSettings};
use tcp::forwarder::Forwarder;
use tcp::listener;
use tcp::role_services::RoleServices;
use transport::accept::Acceptor;
pub use transport::close::DownReason;
use transport::connections::ConnectionTable;
use transport::dial::MemberDialer;
use transport::endpoint::{self, EndpointParams, GateHook};
pub use transport::outbox::OutboxError;

/// Timeout for closing the endpoint. A peer that is there answers in a round trip; a call to one that is not would hold it
/// for seconds.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// How long the connections of a room that has ended may take to end.
const PART_MAX: Duration = Duration::from_secs(1);

/// Handle to the network. Cheap to clone; [`Net::shutdown`] ends it for all clones.
#[derive(Clone, Debug)]
pub struct Net {
    ctx: NetContext,
    endpoint: Endpoint,
    port: u16,
    port_was_taken: bool,
    outboxes: Arc<Outboxes>,
    connections: Arc<ConnectionTable>,
    dialer: Arc<MemberDialer>,
    admissions: Arc<Admissions>,
    role: Arc<RoleServices>,
    addresses: Arc<OwnAddrs>,
    nearby: Arc<Nearby>,
    /// Ends the stream of events.
    closed: CancellationToken,
}

impl Net {
    /// Opens the sockets and starts to listen. `identity` is the ed25519 secret key of this peer, `gate` decides which
    /// peers may speak the room protocol.
    ///
    /// # Errors
    /// [`BindError`], with what to do next; nothing is left open.
    pub async fn bind(
        settings: NetSettings,
        identity: [u8; 32],
        gate: Arc<Gate>,
    ) -> Result<(Self, NetEvents), BindError> {
        let secret = SecretKey::from_bytes(&identity);
        let forwarder = Arc::new(Forwarder::start(secret.clone()).await.map_err(BindError::Forwarder)?);
        let hook = GateHook(gate.clone());
        let params = EndpointParams { settings: &settings, secret: &secret, hook: &hook, relay: forwarder.url() };
        let sockets = endpoint::open(&params).await?;

        let (closed, outboxes) = (CancellationToken::new(), Arc::<Outboxes>::default());
        let (events, receiver) = event_queue::events(outboxes.clone(), closed.clone());
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        let ctx = NetContext { me: peer_id(secret.public()), gate, events, tracker, token };
        // Loopback is not reachable from the local network.
        let loopback = settings.listen.ip.is_some_and(|ip| ip.is_loopback());
        let nearby = Arc::new(Nearby::new(if loopback { Mdns::Off } else { settings.mdns }));
        let endpoint = sockets.endpoint;
        let book = Arc::new(AddressBook::new(forwarder.url().clone(), nearby.clone()));
        let connections = Arc::new(ConnectionTable::new(ctx.me, forwarder.direct_peers().clone()));
        let net = Self {
            port: sockets.port,
            port_was_taken: settings.listen.port.is_none() && sockets.port != chat_proto::PEER_PORT,
            outboxes,
            dialer: Arc::new(MemberDialer::new(
                ctx.clone(),
                endpoint.clone(),
                book,
                connections.clone(),
                forwarder.clone(),
            )),
            connections,
            admissions: Arc::new(Admissions::new(ctx.clone(), secret.clone())),
            role: Arc::new(RoleServices::new(ctx.clone(), secret.clone(), forwarder)),
            addresses: Arc::new(OwnAddrs::new(ctx.clone(), endpoint.clone())),
            nearby,
            closed,
            endpoint,
            ctx,
        };
        net.start_tasks(&settings, sockets.tcp);
        Ok((net, receiver))
    }

    fn start_tasks(&self, settings: &NetSettings, tcp: Vec<tokio::net::TcpListener>) {
        let ctx = &self.ctx;
        let span = info_span!("net", me = %ctx.me.short());
        let acceptor = Acceptor {
            ctx: ctx.clone(),
            endpoint: self.endpoint.clone(),
            connections: self.connections.clone(),
            admissions: self.admissions.clone(),
        };
        ctx.spawn(span.clone(), Arc::new(acceptor).run());
        ctx.spawn(span.clone(), self.addresses.clone().watch());
        ctx.spawn(span.clone(), sweep(ctx.clone(), self.connections.clone()));
        if self.nearby.mdns() == Mdns::On {
            let listen = ListenAddr { ip: settings.listen.ip, port: self.port };
            ctx.spawn(span.clone(), mdns::run(ctx.clone(), listen, self.nearby.clone()));
        }
        ctx.spawn(span.clone(), self.role.clone().run_relay());
        let callers = listener::callers();
        for socket in tcp {
            ctx.spawn(
                span.clone(),
                listener::serve(ctx.clone(), (self.role.clone(), self.admissions.clone()), callers.clone(), socket),
            );
        }
    }

    /// The id of this peer.
    pub fn me(&self) -> PeerId {
        self.ctx.me
    }

    /// UDP and TCP port that this peer listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the default port was taken, so that another one is used.
    pub fn port_was_taken(&self) -> bool {
        self.port_was_taken
    }

    /// Decides which peers may speak the room protocol.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.ctx.gate
    }

    /// Addresses that this peer can announce now; [`NetEvent::Addrs`] reports changes.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.addresses.current()
    }

    /// Queues a frame. Never blocks.
    ///
    /// # Errors
    /// [`OutboxError`]; with [`OutboxError::Full`] the connection is dropped.
    pub fn send(&self, peer: PeerId, frame: Bytes) -> Result<(), OutboxError> {
        self.outboxes.push(&peer, frame)
    }

    /// Sends a frame past the queue as a datagram, which may be lost and may overtake others; one that does not fit into
    /// a packet is queued. Never blocks.
    ///
    /// # Errors
    /// As [`Net::send`].
    pub fn send_datagram(&self, peer: PeerId, frame: Bytes) -> Result<(), OutboxError> {
        self.outboxes.push_datagram(&peer, frame)
    }

    /// Carries out a request of the rendezvous role; `addrs` are the known addresses of the peer it is about. Never
    /// blocks; outcomes arrive as [`NetEvent::Role`].
    pub fn serve_role(&self, request: RoleRequest, addrs: Vec<SocketAddr>) {
        match request {
            RoleRequest::OpenWatch(peer) => self.role.open_watch(peer, addrs),
            RoleRequest::CloseWatch(peer) => self.role.close_watch(&peer),
            RoleRequest::Probe(peer) => self.role.probe(peer, addrs),
            RoleRequest::SwitchRelay(switch) => self.switch_relay(switch),
        }
    }

    /// Starts or stops the relay of this peer.
    pub fn switch_relay(&self, switch: Switch) {
        self.role.switch_relay(switch);
    }

    /// Selects the relays to use: relayed packets go there from now on.
    pub fn set_relays(&self, relays: Relays) {
        self.role.set_relays(relays);
    }

    /// Connects to a member on the room protocol. Never blocks; ends in `Up` or `DialFailed`, unless the peer is
    /// connected or being dialled already. For members only: others fail.
    pub fn dial(&self, peer: PeerId, addrs: Vec<SocketAddr>) {
        self.dialer.dial(peer, addrs);
    }

    /// Closes the connection to a peer once what is queued has been sent, or a short time has passed, and gives up
    /// dialling it. Never blocks; ends in `Down` or `DialFailed`.
    pub fn disconnect(&self, peer: PeerId, reason: CloseReason) {
        self.connections.close(&peer, DownReason::Closed(reason));
    }

    /// Closes the connections that the reader knows to be up, and reads until they have ended, [`PART_MAX`] at most. What
    /// else arrives meanwhile is dropped: it belongs to the room that has ended. The next room knows of no connection, so it
    /// must not find one that is open.
    pub async fn part(&self, events: &mut NetEvents) {
        let ended = async {
            loop {
                let up = events.up();
                up.iter().for_each(|peer| self.disconnect(*peer, CloseReason::Stopping));
                if up.is_empty() || events.recv().await.is_none() {
                    return;
                }
            }
        };
        if timeout(PART_MAX, ended).await.is_err() {
            debug!("some connections of the former room did not end in time");
        }
    }

    /// Answers a stranger. An answer to one that has gone is dropped.
    pub fn answer(&self, id: AdmissionId, answer: AdmissionAnswer) {
        self.admissions.answer(id, answer);
    }

    /// Adds an address at which other peers see this one, so that hole punching and newcomers can use it.
    pub fn add_observed(&self, addr: SocketAddr) {
        self.addresses.observe(addr);
    }

    /// Number of open connections to members.
    pub fn connections(&self) -> usize {
        self.connections.open_count()
    }

    /// Number of connections dropped since the start because the peer read too slowly.
    pub fn queue_drops(&self) -> u64 {
        self.connections.queue_drops()
    }

    /// Rooms seen on the local network; empty without mDNS.
    pub fn nearby(&self) -> Vec<NearbyRoom> {
        self.nearby.rooms()
    }

    /// Asks to join a room under `name` and waits for the answer. `on_words` is called when a member has to admit this
    /// peer by hand, with the words that both sides show. The peer that admitted us may speak the room protocol from then
    /// on ([`Gate::open_door`]). Dropping the future gives up.
    ///
    /// # Errors
    /// [`JoinError`], with what to do next.
    pub async fn join(
        &self,
        target: JoinTarget,
        name: &str,
        on_words: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<JoinedRoom, JoinError> {
        let joining = Joining { ctx: &self.ctx, endpoint: &self.endpoint, book: &self.dialer.book, name, on_words };
        joining.join(&target).await
    }

    /// Sends what is queued, closes all connections and sockets; at the deadline at the latest. The reader of the events
    /// must go on reading until `None`.
    pub async fn shutdown(&self, deadline: Duration) {
        let half = deadline / 2;
        self.ctx.token.cancel();
        self.connections.close_all(DownReason::Closed(CloseReason::Stopping));
        self.ctx.tracker.close();
        if timeout(half, self.ctx.tracker.wait()).await.is_err() {
            debug!("some connections did not end in time");
        }
        if timeout(half.min(CLOSE_MAX), self.endpoint.close()).await.is_err() {
            debug!("the endpoint did not close in time");
            // Dropped, it would complain that it was not closed.
            std::mem::forget(self.endpoint.clone());
        }
        self.role.end();
        self.closed.cancel();
    }
}

/// Closes the connections of former members, whenever the roster changes.
async fn sweep(ctx: NetContext, connections: Arc<ConnectionTable>) {
    let mut changes = ctx.gate.changes();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = ctx.token.cancelled() => return,
        }
        connections.sweep(&ctx.gate);
    }
}

#[cfg(test)]
mod tests;
