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
use chat_core::admission::{AdmissionAnswer, AdmissionRequest};
use chat_core::input::{AdmissionId, PathInfo};
use chat_core::output::{CloseReason, Relays};
use chat_core::rendezvous::io::{ProbeOutcome, Switch};
use chat_proto::api::members::NearbyRoom;
use chat_proto::id::PeerId;
use iroh::SecretKey;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span};

mod accept;
mod addrs;
mod admission;
mod book;
mod close;
mod dial;
mod duties;
mod endpoint;
mod events;
mod forwarder;
mod framing;
pub mod gate;
mod greeting;
mod hello;
pub mod join;
mod links;
mod mdns;
mod messages;
mod outbox;
mod path;
mod peer;
mod ports;
mod race;
mod rate;
mod relay;
pub mod settings;
mod shared;
mod stop;
pub mod target;
mod watch;

use admission::Admissions;
use book::Book;
use duties::Duties;
use endpoint::Opening;
pub use events::NetEvents;
use events::Routes;
use gate::{Gate, Hook};
use greeting::Process;
use join::{JoinError, Joined};
use links::Links;
use mdns::Nearby;
use settings::{BindError, Mdns, NetSettings};
use shared::{Shared, peer_id};
use target::JoinTarget;
pub use watch::WatchNews;

/// How long the endpoint may take to close. Who is there answers in a round trip; a call to somebody who is not would hold
/// it for seconds.
const CLOSE_MAX: Duration = Duration::from_millis(500);

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
    /// A stranger asks to be let in; answered with [`Net::answer`].
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
    /// What became of a watch that was asked for with [`Net::watch`].
    Watch(PeerId, WatchNews),
    /// What became of a probe that was asked for with [`Net::probe`].
    Probed(PeerId, ProbeOutcome),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DownReason {
    /// This node closed it.
    Closed(CloseReason),
    /// The peer closed it in an orderly way.
    ClosedByPeer,
    /// The peer says that this one is not a member.
    RefusedByPeer,
    /// Nothing was heard for the idle timeout.
    TimedOut,
    /// The peer read too slowly and its queue was full.
    QueueFull,
    /// A newer connection takes its place.
    Replaced,
    /// The peer sent a frame that is too long, or broke the framing.
    Protocol,
    /// The connection broke.
    Lost,
}

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
        let (events, receiver) = events::events(routes.clone(), closed.clone());
        let shared = Arc::new(Shared {
            me,
            gate,
            links: Links::new(me, Process(rand::random())),
            events,
            routes,
            inbound: Arc::new(Semaphore::new(peer::INBOUND_BYTES_MAX)),
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
        net.spawn(duties::run_relay(net.shared.clone()), &span);
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

    /// Opens a plain TCP connection to a peer's port that says nothing and tells when its process ends
    /// ([`NetEvent::Watch`]). Replaces an earlier one over the same peer. Never blocks.
    pub fn watch(&self, peer: PeerId, addrs: Vec<SocketAddr>) {
        duties::watch(&self.shared, peer, addrs);
    }

    /// Ends a watch without a word.
    pub fn unwatch(&self, peer: &PeerId) {
        duties::unwatch(&self.shared, peer);
    }

    /// Finds out whether a peer can be reached without being called first ([`NetEvent::Probed`]). Never blocks.
    pub fn probe(&self, peer: PeerId, addrs: Vec<SocketAddr>) {
        duties::probe(&self.shared, peer, addrs);
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
