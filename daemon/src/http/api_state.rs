//! What the handlers reach: the room of the daemon, and the process around it.
//!
//! A daemon has no room while it loads the one in its home, and while it waits to be admitted to one; it can also move
//! from one room to another while it runs. The process puts the current room, or why there is none, into the [`RoomSlot`];
//! a handler takes it out once per request and keeps using it, so that one answer never mixes two rooms. A request that
//! comes while the room is loaded waits for it, [`LOADING_MAX`] at most, since that takes milliseconds.
//! Handlers hold nothing of the room: they ask the node through its handle, read the store
//! through its read connections, and send through its [`RoomSender`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::access_tokens::AccessTokens;
use crate::http::access_tokens::web_links::WebLinks;
use crate::http::daemon_control::DaemonControl;
use crate::http::handlers::read_marks::ReadMarks;
use crate::node::handle::NodeHandle;
use crate::send::RoomSender;
use crate::store::Store;

/// Maximum number of open event streams: every event wakes each of them, so the number bounds the cost of a message.
pub const READERS_MAX: usize = 1024;

/// How long a request waits for the room to be loaded; a database that is checked as a whole may take longer.
const LOADING_MAX: Duration = Duration::from_secs(2);

/// Handles of the room that the daemon is in.
#[derive(Debug)]
pub struct RoomHandle {
    /// The task that owns the room.
    pub(crate) node: NodeHandle,
    /// Its database.
    pub(crate) store: Store,
    /// Sends messages to it.
    pub(crate) sender: RoomSender,
    closed: CancellationToken,
}

impl RoomHandle {
    /// The room of this peer behind these handles. Reads the names pinned in `home`.
    pub fn new(me: PeerId, node: NodeHandle, store: Store, home: &Path) -> Self {
        let sender = RoomSender::new(me, node.clone(), store.clone(), home);
        Self { node, store, sender, closed: CancellationToken::new() }
    }

    /// Cancelled when the daemon has left this room: its event streams end.
    pub(crate) fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }
}

/// The current room, or why there is none.
#[derive(Clone, Debug, Default)]
enum SlotState {
    #[default]
    Starting,
    Joining,
    Room(Arc<RoomHandle>),
    Stopping,
}

/// Why a request has no room. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// It is being loaded: a retry passes.
    #[error("the daemon is starting: its room is not loaded yet")]
    Starting,
    /// A member has to admit this peer first.
    #[error("this daemon waits to be admitted to a room")]
    Joining,
    /// It is closed.
    #[error("the daemon is stopping")]
    Stopping,
}

/// Holds the current room; shared by the API and the process. At first the room is being loaded.
#[derive(Debug, Default)]
pub struct RoomSlot(watch::Sender<SlotState>);

impl RoomSlot {
    /// Makes a room the current one. Event streams of the room before it end.
    pub fn enter(&self, room: RoomHandle) {
        self.replace(SlotState::Room(Arc::new(room)));
    }

    /// Removes the room, and has later requests learn why there is none. Event streams end.
    pub fn remove(&self, why: NoRoom) {
        self.replace(match why {
            NoRoom::Starting => SlotState::Starting,
            NoRoom::Joining => SlotState::Joining,
            NoRoom::Stopping => SlotState::Stopping,
        });
    }

    /// The current room, if it can be used now.
    pub fn current(&self) -> Option<Arc<RoomHandle>> {
        self.look().ok()
    }

    /// The current room; one that is being loaded is waited for, [`LOADING_MAX`] at most. Cancel safe.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub async fn wait(&self) -> Result<Arc<RoomHandle>, NoRoom> {
        let mut changes = self.0.subscribe();
        let loaded = changes.wait_for(|state| !matches!(state, SlotState::Starting));
        // Whether it was loaded in time is read below.
        let _ = timeout(LOADING_MAX, loaded).await;
        self.look()
    }

    fn look(&self) -> Result<Arc<RoomHandle>, NoRoom> {
        match &*self.0.borrow() {
            SlotState::Starting => Err(NoRoom::Starting),
            SlotState::Joining => Err(NoRoom::Joining),
            SlotState::Room(room) => Ok(Arc::clone(room)),
            SlotState::Stopping => Err(NoRoom::Stopping),
        }
    }

    fn replace(&self, state: SlotState) {
        if let SlotState::Room(before) = self.0.send_replace(state) {
            before.closed.cancel();
        }
    }
}

/// What the API needs to start.
pub struct ApiOptions {
    /// This peer.
    pub me: PeerId,
    /// The secrets of callers over TCP.
    pub tokens: AccessTokens,
    /// The TCP address that it listens on.
    pub tcp_addr: Option<SocketAddr>,
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
    pub(crate) tokens: Arc<AccessTokens>,
    pub(crate) web_links: WebLinks,
    pub(crate) tcp_addr: Option<SocketAddr>,
    pub(crate) home: PathBuf,
    pub(crate) started_at: Timestamp,
    pub(crate) process: Arc<dyn DaemonControl>,
    /// One permit for each event stream.
    pub(crate) readers: Arc<Semaphore>,
    /// Where clients left off reading.
    pub(crate) marks: ReadMarks,
    /// Tasks that go on when their caller hangs up.
    pub(crate) tasks: TaskTracker,
    room: Arc<RoomSlot>,
}

impl Api {
    /// The API of one daemon.
    pub fn new(options: ApiOptions) -> Arc<Self> {
        let ApiOptions { me, tokens, tcp_addr, home, started_at, room, process } = options;
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        let marks = ReadMarks::load(&home);
        Arc::new(Self {
            me,
            tokens: Arc::new(tokens),
            web_links: WebLinks::default(),
            tcp_addr,
            home,
            started_at,
            process,
            readers,
            marks,
            tasks: TaskTracker::new(),
            room,
        })
    }

    /// The room the daemon is in; one that is being loaded is waited for.
    pub(crate) async fn room(&self) -> Result<Arc<RoomHandle>, NoRoom> {
        self.room.wait().await
    }

    /// The room the daemon is in, if it is loaded.
    pub(crate) fn loaded_room(&self) -> Option<Arc<RoomHandle>> {
        self.room.current()
    }
}
