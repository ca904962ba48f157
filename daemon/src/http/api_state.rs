//! What the handlers reach: the room the daemon is in, and the process around it.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chat_core::output::CommandError;
use chat_proto::api::members::{Joined, NearbyRoom};
use chat_proto::error::ErrorCode;
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::auth::Token;
use crate::http::handlers::messages::Posts;
use crate::http::problem::Refusal;
use crate::net::JoinError;
use crate::net::JoinTarget;
use crate::node::handle::NodeHandle;
use crate::store::Store;

/// Most event streams at a time: each is woken by every event, so their number bounds what one message costs.
pub const READERS_MAX: usize = 256;

/// What the API asks of the process around it.
pub trait DaemonControl: Send + Sync + 'static {
    /// Moves to another room, under another name if one is given: finds a member, is let in, puts the new room into the
    /// [`RoomSlot`]. Must be cancel safe: the future is dropped when the caller hangs up, and a pending knock then ends.
    fn join(&self, target: JoinTarget, name: Option<String>) -> BoxFuture<'_, Result<Joined, MoveError>>;

    /// Leaves the room for good: waits a little until another member knows, then begins the orderly shutdown, at whose end
    /// the room's files are set aside.
    fn leave(&self) -> BoxFuture<'_, Result<(), CommandError>>;

    /// Rooms seen on the local network.
    fn rooms(&self) -> Vec<NearbyRoom>;

    /// Figures of the network.
    fn network(&self) -> NetworkFigures;

    /// Begins the orderly shutdown and returns at once.
    fn shutdown(&self);
}

/// What the network tells for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkFigures {
    /// UDP and TCP port the peer listens on.
    pub port: u16,
    /// Addresses it gives to others.
    pub addrs: Vec<SocketAddr>,
    /// Connections to members.
    pub connections: u64,
    /// Connections that were dropped because their queue was full, since the start.
    pub queue_drops: u64,
}

/// Why a daemon does not get into another room. It is in the room it was in before.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The daemon is not alone in its room: its messages would be left behind.
    #[error("this daemon is in a room with others")]
    AlreadyInRoom,
    /// It is asking elsewhere already, or was a moment ago.
    #[error("this daemon is asking to be let into another room already")]
    Moving,
    /// It was not let in.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The room it is in does not answer.
    #[error(transparent)]
    Room(#[from] CommandError),
    /// Something failed inside.
    #[error("moving to the other room failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// The room a daemon is in, as the API reaches it.
#[derive(Debug)]
pub struct RoomHandle {
    /// The task that owns the room.
    pub(crate) node: NodeHandle,
    /// What is on disk of it.
    pub(crate) store: Store,
    /// Keyed posts that are under way.
    pub(crate) posts: Posts,
    closed: CancellationToken,
}

impl RoomHandle {
    /// A room behind these handles.
    pub fn new(node: NodeHandle, store: Store) -> Self {
        Self { node, store, posts: Posts::default(), closed: CancellationToken::new() }
    }

    /// Cancelled when the daemon has left this room: its event streams end.
    pub(crate) fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }
}

/// Holds the current room; shared by the API and the life of the process.
#[derive(Debug, Default)]
pub struct RoomSlot(ArcSwapOption<RoomHandle>);

impl RoomSlot {
    /// Puts another room in place, or none. Event streams of the one before end.
    pub fn set(&self, room: Option<RoomHandle>) {
        if let Some(before) = self.0.swap(room.map(Arc::new)) {
            before.closed.cancel();
        }
    }

    /// The current room.
    pub fn get(&self) -> Option<Arc<RoomHandle>> {
        self.0.load_full()
    }
}

/// What the API needs to start.
pub struct ApiOptions {
    /// This peer.
    pub me: PeerId,
    /// What callers over TCP show.
    pub token: Token,
    /// The daemon's home directory.
    pub home: PathBuf,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// The room; may be filled later.
    pub room: Arc<RoomSlot>,
    /// The process around.
    pub process: Arc<dyn DaemonControl>,
}

/// What every handler reaches.
pub struct Api {
    pub(crate) me: PeerId,
    pub(crate) token: Token,
    pub(crate) home: PathBuf,
    pub(crate) started_at: Timestamp,
    pub(crate) process: Arc<dyn DaemonControl>,
    /// Places for event streams.
    pub(crate) readers: Arc<Semaphore>,
    /// What goes on when its caller hangs up.
    pub(crate) tasks: TaskTracker,
    room: Arc<RoomSlot>,
}

impl Api {
    /// The API of one daemon.
    pub fn new(options: ApiOptions) -> Arc<Self> {
        let ApiOptions { me, token, home, started_at, room, process } = options;
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        Arc::new(Self { me, token, home, started_at, process, readers, tasks: TaskTracker::new(), room })
    }

    /// The room the daemon is in.
    pub(crate) fn room(&self) -> Result<Arc<RoomHandle>, Refusal> {
        self.room.get().ok_or_else(|| {
            Refusal::new(ErrorCode::NotInRoom, "this daemon is in no room yet")
                .hint("it waits to be let in: a member sees it with 'chat knocks'")
        })
    }
}
