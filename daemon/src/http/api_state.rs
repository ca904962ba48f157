//! What the handlers reach: the room of the daemon, and the process around it.
//!
//! A daemon can move from one room to another while it runs, and has no room while it waits to be admitted. The process
//! puts the current room into the [`RoomSlot`]; a handler takes it out once per request and keeps using it, so that one
//! answer never mixes two rooms. Handlers hold nothing of the room: they ask the node through its handle, read the store
//! through its read connections, and send through its [`MessageSender`].

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chat_proto::error::ErrorCode;
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::auth::Token;
use crate::http::daemon_control::DaemonControl;
use crate::http::problem::Refusal;
use crate::node::handle::NodeHandle;
use crate::send::MessageSender;
use crate::store::Store;

/// Maximum number of open event streams: every event wakes each of them, so the number bounds the cost of a message.
pub const READERS_MAX: usize = 256;

/// Handles of the room that the daemon is in.
#[derive(Debug)]
pub struct RoomHandle {
    /// The task that owns the room.
    pub(crate) node: NodeHandle,
    /// Its database.
    pub(crate) store: Store,
    /// Sends messages to it.
    pub(crate) sender: MessageSender,
    closed: CancellationToken,
}

impl RoomHandle {
    /// The room of this peer behind these handles.
    pub fn new(me: PeerId, node: NodeHandle, store: Store) -> Self {
        let sender = MessageSender::new(me, node.clone(), store.clone());
        Self { node, store, sender, closed: CancellationToken::new() }
    }

    /// Cancelled when the daemon has left this room: its event streams end.
    pub(crate) fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }
}

/// Holds the current room; shared by the API and the process.
#[derive(Debug, Default)]
pub struct RoomSlot(ArcSwapOption<RoomHandle>);

impl RoomSlot {
    /// Replaces the current room, or removes it. Event streams of the old room end.
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
    /// The secret that callers over TCP send.
    pub token: Token,
    /// The daemon's home directory.
    pub home: PathBuf,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// The room; may be set later.
    pub room: Arc<RoomSlot>,
    /// The process around the API.
    pub process: Arc<dyn DaemonControl>,
}

/// State that every handler can access.
pub struct Api {
    pub(crate) me: PeerId,
    pub(crate) token: Token,
    pub(crate) home: PathBuf,
    pub(crate) started_at: Timestamp,
    pub(crate) process: Arc<dyn DaemonControl>,
    /// One permit for each event stream.
    pub(crate) readers: Arc<Semaphore>,
    /// Tasks that go on when their caller hangs up.
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
            Refusal::new(ErrorCode::NotInRoom, "this daemon is not in a room yet")
                .hint("it waits to be admitted: a member sees it with 'chat knocks' and admits it with 'chat admit'")
        })
    }
}
