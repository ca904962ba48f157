//! One room of this daemon while it is in it: the store, the task that owns the room, and their orderly end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chat_core::config::NodeSettings;
use chat_core::input::{Command, Now};
use chat_core::membership::roster::Roster;
use chat_core::node::{Node, StartError};
use chat_core::output::{CommandError, Relays};
use chat_core::restore::{Restored, Start};
use chat_core::types::Switch;
use chat_proto::id::PeerId;
use ed25519_dalek::SigningKey;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::home::Home;
use crate::app::run::leave::set_aside;
use crate::net::Joined;
use crate::net::{Net, NetEvents};
use crate::node::driver::{Clock, Driver, DriverEnd, Ended, Parts};
use crate::node::handle::NodeHandle;
use crate::plumtree::PlumTree;
use crate::store::error::{ChangeError, OpenStoreError, ReadError};
use crate::store::tables::models::RoomRecord;
use crate::store::types::{Absent, Secret, StoreOptions};
use crate::store::{OpenedStore, Store, StoreReports};

/// How long the room may take to hand over and to tell its neighbours that it stops; the core takes a second at most.
const FAREWELL_MAX: Duration = Duration::from_millis(1500);

/// How long the store may take to write what waits.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// How long is waited for the log of a room that was joined. It comes in milliseconds, unless who let this peer in is gone.
const LOG_MAX: Duration = Duration::from_secs(3);

/// What does not change when the daemon moves from one room to another.
#[derive(Clone, Debug)]
pub(crate) struct DaemonContext {
    /// The home.
    pub(crate) home: Home,
    /// This peer's key.
    pub(crate) key: SigningKey,
    /// This peer.
    pub(crate) me: PeerId,
    /// The network.
    pub(crate) net: Net,
    /// The roster that gate, handle and API share.
    pub(crate) roster: Arc<ArcSwap<Roster>>,
}

/// How a room begins.
#[derive(Debug)]
pub(crate) enum RoomEntry {
    /// This peer founds it.
    Found {
        /// The room's name.
        room_name: String,
        /// Whether every knock is admitted.
        open: bool,
        /// The founder's name.
        name: String,
    },
    /// The database knows it.
    Return,
    /// This peer was let in.
    Admitted(Box<Joined>),
}

/// Why there is no room. What is on disk is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoomError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The new room cannot be written down.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// What the database holds cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What the database holds does not make a room.
    #[error("the stored room cannot be used: move {} away to begin anew, or restore it from a backup", .database.display())]
    Start {
        /// The database.
        database: PathBuf,
        /// What is wrong.
        source: StartError,
    },
    /// The database has no room to return to.
    #[error("the database has no room")]
    NoRoom,
    /// The first entry of a new room did not reach the disk.
    #[error("the new room could not be written: see 'chatd logs', check that the disk is not full, and start again")]
    NotWritten,
    /// The files of the room before cannot be set aside.
    #[error("the files of the room cannot be set aside")]
    SetAside(#[source] io::Error),
    /// A part of the daemon broke down.
    #[error("a part of the daemon failed: see 'chatd logs'")]
    Broken,
}

/// Opens the home's database, or creates it.
///
/// # Errors
/// When it cannot be used.
pub(crate) async fn open_store(home: &Home, key: &SigningKey) -> Result<OpenedStore, RoomError> {
    let path = home.database();
    let secret = blake3::derive_key("chatd 2026 key of the ratchets' state v1", key.as_bytes());
    let me = PeerId::from_bytes(key.verifying_key().to_bytes());
    let opening = StoreOptions { me, absent: Absent::Create, secret: Secret(secret) };
    let opened = tokio::task::spawn_blocking(move || Store::open(&path, opening)).await;
    Ok(opened.map_err(|_| RoomError::Broken)??)
}

/// A room that is ready to run.
pub(crate) struct PreparedRoom {
    node: Node,
    clock: Clock,
    store: Store,
    reports: StoreReports,
}

impl PreparedRoom {
    /// Begins a room, or reads it from the database.
    ///
    /// # Errors
    /// [`RoomError`]; the store is closed then.
    pub(crate) async fn new(
        base: &DaemonContext,
        opened: OpenedStore,
        beginning: RoomEntry,
    ) -> Result<Self, RoomError> {
        let OpenedStore { store, reports, .. } = opened;
        let clock = Clock::start();
        match node(base, &store, beginning, clock).await {
            Ok(node) => Ok(Self { node, clock, store, reports }),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Sets it to work.
    pub(crate) fn launch(self, base: &DaemonContext, net_events: NetEvents) -> RunningRoom {
        let Self { node, clock, store, reports } = self;
        // Before the first frame is read and the first caller is answered.
        base.net.gate().set_roster(node.roster());
        let (handle, requests) = NodeHandle::new(base.roster.clone());
        let parts = Parts { requests, net: base.net.clone(), net_events, store: store.clone(), reports };
        let (driver, first_batch) = Driver::new(node, clock, parts);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (stopped, end) = (stop.clone(), ended.clone().drop_guard());
        let driver = tokio::spawn(async move {
            // Dropped when the task ends, in whatever way.
            let _end = end;
            driver.run(stopped).await
        });
        RunningRoom { node: handle, store, driver, first_batch, stop, ended }
    }
}

async fn node(base: &DaemonContext, store: &Store, beginning: RoomEntry, clock: Clock) -> Result<Node, RoomError> {
    let start = match beginning {
        RoomEntry::Found { room_name, open, name } => {
            let (incarnation, addrs) = (store.incarnation(), base.net.addrs());
            Start::Found { room_name, open, name, incarnation, addrs }
        }
        RoomEntry::Return => {
            let restored = store.restore().await?.ok_or(RoomError::NoRoom)?;
            trust_known(base, &restored);
            Start::Restore(restored)
        }
        RoomEntry::Admitted(joined) => {
            let Joined { admitted, door } = *joined;
            let room = RoomRecord { id: admitted.room, name: admitted.room_name, open: admitted.open };
            store.begin(room, admitted.members).await?;
            base.net.gate().open_door(door);
            if let Some(addr) = admitted.observed {
                base.net.add_observed(addr);
            }
            Start::Restore(store.restore().await?.ok_or(RoomError::NoRoom)?)
        }
    };
    let now = clock.now();
    let node = Node::new(NodeSettings::default(), base.key.clone(), start, rand::random(), now)
        .map_err(|source| RoomError::Start { database: base.home.database(), source })?;
    let tree = PlumTree::new(node.me(), node.room(), rand::random(), now);
    Ok(node.with_tree(Box::new(tree), now))
}

/// Lets the members whose addresses are known be doors, newest first: where the log was lost with its database, nothing
/// else says who may bring it again. What the log says counts as soon as it is there.
fn trust_known(base: &DaemonContext, restored: &Restored) {
    let mut records: Vec<_> = restored.addrs.iter().filter(|record| record.peer != base.me).collect();
    records.sort_by_key(|record| record.time);
    records.iter().for_each(|record| base.net.gate().open_door(record.peer));
}

/// A room at work.
#[derive(Debug)]
pub(crate) struct RunningRoom {
    /// Reaches the room.
    pub(crate) node: NodeHandle,
    /// What is on disk of it.
    pub(crate) store: Store,
    driver: JoinHandle<Ended>,
    first_batch: oneshot::Receiver<()>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl RunningRoom {
    /// Waits until a room that is being founded is on disk.
    ///
    /// # Errors
    /// [`RoomError::NotWritten`] when it cannot be.
    pub(crate) async fn founded(&mut self) -> Result<(), RoomError> {
        (&mut self.first_batch).await.map_err(|_| RoomError::NotWritten)
    }

    /// Waits a little until the log that says that this peer is a member has arrived: it may write from then on.
    pub(crate) async fn joined(&self, base: &DaemonContext) {
        let gate = base.net.gate();
        let mut changes = gate.changes();
        let arrived = async { while !gate.roster().is_member(&base.me) && changes.changed().await.is_ok() {} };
        if timeout(LOG_MAX, arrived).await.is_err() {
            tracing::warn!("the room's log has not arrived yet");
        }
    }

    /// Waits until the room ends by itself, which it only does when a part has failed. Cancel safe.
    pub(crate) async fn failed(&self) {
        self.ended.cancelled().await;
    }

    /// Tells neighbours, answers whoever waits, writes what waits, and ends. Gives back the network's events where the
    /// room did not break down.
    pub(crate) async fn stop(self) -> Option<NetEvents> {
        let Self { node, store, driver, stop, ended, .. } = self;
        if !ended.is_cancelled() {
            match timeout(FAREWELL_MAX, node.command(Command::Stop)).await {
                Ok(Ok(_) | Err(CommandError::Stopping)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the room does not stop in an orderly way"),
                Err(_) => tracing::warn!("the room does not answer and is stopped anyhow"),
            }
        }
        // Closed first, so that callers who wait for what is being written are answered before the driver ends.
        if timeout(CLOSE_MAX, store.close()).await.is_err() {
            tracing::warn!("the store is still writing and is left behind");
        }
        stop.cancel();
        match driver.await {
            Ok(Ended { reason: DriverEnd::Stopped | DriverEnd::Store, net_events }) => Some(net_events),
            Ok(Ended { reason: DriverEnd::Net, .. }) => None,
            Err(error) => {
                tracing::error!(%error, "the room broke down");
                None
            }
        }
    }
}

/// Stops the room, sets its files aside and begins the new one; when that cannot be, goes back. No room is given when
/// neither can be had: the daemon cannot go on then.
pub(crate) async fn switch_room(
    base: &DaemonContext,
    room: RunningRoom,
    joined: Joined,
) -> (Option<RunningRoom>, Result<(), RoomError>) {
    let Some(net_events) = room.stop().await else {
        return (None, Err(RoomError::Broken));
    };
    // What the room before wanted of the network ends with it.
    base.net.switch_relay(Switch::Off);
    base.net.set_relays(Relays::default());
    let Now { wall, .. } = Clock::start().now();
    let begun = match set_aside(base.home.root(), wall) {
        Err(source) => Err((RoomError::SetAside(source), None)),
        Ok(aside) => prepare(base, RoomEntry::Admitted(Box::new(joined))).await.map_err(|error| (error, Some(aside))),
    };
    let (error, aside) = match begun {
        Ok(prepared) => {
            tracing::info!("moved to another room");
            return (Some(prepared.launch(base, net_events)), Ok(()));
        }
        Err(failed) => failed,
    };
    tracing::error!(%error, "the other room cannot be begun, going back");
    if let Some(Err(error)) = aside.map(|aside| aside.undo()) {
        tracing::error!(%error, "the room before cannot be put back");
        return (None, Err(RoomError::SetAside(error)));
    }
    match prepare(base, RoomEntry::Return).await {
        Ok(prepared) => (Some(prepared.launch(base, net_events)), Err(error)),
        Err(lost) => {
            tracing::error!(error = %lost, "the room before cannot be used any more");
            (None, Err(error))
        }
    }
}

async fn prepare(base: &DaemonContext, beginning: RoomEntry) -> Result<PreparedRoom, RoomError> {
    let opened = open_store(&base.home, &base.key).await?;
    PreparedRoom::new(base, opened, beginning).await
}
