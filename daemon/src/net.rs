//! The network: an iroh endpoint without any outside service.
//!
//! [`Net`] is a handle that never blocks its caller; what happens on the network comes out of [`NetEvents`], which one
//! reader drains. For each peer the events are strictly ordered: `Up`, frames and paths, `Down`; a frame never follows
//! `Down`, and `Up` never follows `Up`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_core::admission::{AdmissionAnswer, AdmissionRequest};
use chat_core::input::{AdmissionId, PathInfo};
use chat_core::output::CloseReason;
use chat_proto::api::members::NearbyRoom;
use chat_proto::id::PeerId;

pub mod gate;
pub mod join;
pub mod settings;
pub mod target;

use gate::Gate;
use join::{JoinError, Joined};
use settings::{BindError, NetSettings};
use target::JoinTarget;

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
    me: PeerId,
    port: u16,
    gate: Arc<Gate>,
}

/// The stream of events; dropped, the network stops reading.
#[derive(Debug)]
pub struct NetEvents {
    events: tokio::sync::mpsc::Receiver<NetEvent>,
}

impl NetEvents {
    /// The next event; `None` after [`Net::shutdown`]. Cancel safe.
    pub async fn recv(&mut self) -> Option<NetEvent> {
        self.events.recv().await
    }
}

impl Net {
    /// Opens the sockets and begins to listen. `identity` is the ed25519 secret key of this peer, `gate` says who may
    /// speak the room protocol.
    ///
    /// # Errors
    /// [`BindError`], with what to do next; nothing is left open.
    pub async fn bind(
        _settings: NetSettings,
        _identity: [u8; 32],
        _gate: Arc<Gate>,
    ) -> Result<(Self, NetEvents), BindError> {
        Err(BindError::NoFreePort)
    }

    /// This peer.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// UDP and TCP port that this peer listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the default port was taken, so that another one is used.
    pub fn port_was_taken(&self) -> bool {
        self.port != chat_proto::PEER_PORT
    }

    /// Who may speak the room protocol.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Addresses that this peer can give to others now; [`NetEvent::Addrs`] tells changes.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Queues a frame. Never blocks.
    ///
    /// # Errors
    /// [`SendError`]; with [`SendError::Full`] the connection is dropped.
    pub fn send(&self, _peer: PeerId, _frame: Bytes) -> Result<(), SendError> {
        Err(SendError::NotConnected)
    }

    /// Connects to a member on the room protocol. Never blocks; ends in `Up` or `DialFailed`, unless the peer is
    /// connected or being dialled already.
    pub fn dial(&self, _peer: PeerId, _addrs: Vec<SocketAddr>) {}

    /// Closes the connection to a peer once what is queued has been sent, or a short time has passed. Never blocks;
    /// ends in `Down`.
    pub fn disconnect(&self, _peer: PeerId, _reason: CloseReason) {}

    /// Answers a stranger. An answer to one that has gone is dropped.
    pub fn answer(&self, _id: AdmissionId, _answer: AdmissionAnswer) {}

    /// Adds an address at which others see this peer, so that hole punching and newcomers can use it.
    pub fn add_observed(&self, _addr: SocketAddr) {}

    /// Rooms seen on the local network; empty without mDNS.
    pub fn nearby(&self) -> Vec<NearbyRoom> {
        Vec::new()
    }

    /// Asks to be let into a room under `name` and waits for the answer. `on_words` is called when somebody has to let
    /// this peer in by hand, with the words that both sides show. The peer that let us in may speak the room protocol
    /// from then on ([`Gate::open_door`]). Dropping the future gives up.
    ///
    /// # Errors
    /// [`JoinError`], with what to do next.
    pub async fn join(
        &self,
        _target: JoinTarget,
        _name: &str,
        _on_words: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Joined, JoinError> {
        Err(JoinError::Stopping)
    }

    /// Sends what is queued, closes all connections and sockets; at the deadline at the latest.
    pub async fn shutdown(&self, _deadline: Duration) {}
}
