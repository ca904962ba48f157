//! The room that the daemon is in: its store, the task that owns it, its orderly end, and the switch to another room.
//!
//! A room is prepared ([`PreparedRoom`]: founded, restored from the database, or begun from an admission), launched
//! ([`RunningRoom`]: the driver's task runs), and stopped, which gives the network's events back for the next room.
//! [`DaemonContext`] is what all rooms of a process share: key, network, roster.
//!
//! Invariants: at most one room runs; the gate knows the roster before the first frame is read; the store is closed before
//! the driver's task ends, so that callers who wait for a write are answered; a room that ends by itself means that a part
//! failed, and the daemon stops.
//!
//! Used by [`open_room`](super::open_room) at the start and [`services`](super::services) until the end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chat_core::config::{BudgetSettings, NodeSettings};
use chat_core::input::{Command, Now};
use chat_core::membership::roster::Roster;
use chat_core::node::{Node, StartError};
use chat_core::output::{CommandError, Relays};
use chat_core::restore::{Restored, Start};
use chat_core::types::Switch;
use chat_proto::id::PeerId;
use ed25519_dalek::SigningKey;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::home::Home;
use crate::app::run::leave::set_aside;
use crate::app::run::retention;
use crate::app::settings::RetentionDays;
use crate::clock::Clock;
use crate::http::api_state::RoomSlot;
use crate::net::JoinedRoom;
use crate::net::{Net, NetEvents};
use crate::node::driver::{Driver, DriverEnd, DriverParts, EndedDriver};
use crate::node::handle::NodeHandle;
use crate::plumtree::PlumTree;
use crate::store::error::{ChangeError, OpenStoreError, ReadError};
use crate::store::tables::models::RoomRecord;
use crate::store::types::{Absent, Secret, StoreOptions};
use crate::store::{OpenedStore, Store, StoreReports};

/// Timeout for the room to hand over and to notify its neighbours; the core takes a second at most.
const FAREWELL_MAX: Duration = Duration::from_millis(1500);

/// Timeout for the store to write what is queued.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Timeout for the log of a joined room. It arrives in milliseconds, unless the member that admitted this peer is gone.
const LOG_MAX: Duration = Duration::from_secs(3);

/// What does not change when the daemon switches rooms.
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
    /// The roster, shared by gate, handle and API.
    pub(crate) roster: watch::Sender<Arc<Roster>>,
    /// The room as the API has it.
    pub(crate) slot: Arc<RoomSlot>,
    /// For how long texts are kept, if not for ever.
    pub(crate) retention: Option<RetentionDays>,
    /// What one member may write in a day.
    pub(crate) budget: BudgetSettings,
}

/// How the daemon enters a room.
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
    /// The database holds it.
    Return,
    /// A member has admitted this peer.
    Admitted(Box<JoinedRoom>),
}

/// Why there is no room. What is on disk is unchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoomError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The new room cannot be written.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The database cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stored entries do not make a room.
    #[error("the stored room cannot be used: move {} away to start over, or restore it from a backup", .database.display())]
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
    /// The files of the former room cannot be set aside.
    #[error("the files of the room cannot be set aside")]
    SetAside(#[source] io::Error),
    /// A part of the daemon failed.
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
    /// Creates a room, or restores it from the database.
    ///
    /// # Errors
    /// [`RoomError`]; the store is closed then.
    pub(crate) async fn new(base: &DaemonContext, opened: OpenedStore, entry: RoomEntry) -> Result<Self, RoomError> {
        let OpenedStore { store, reports, .. } = opened;
        let clock = Clock::start();
        match node(base, &store, entry, clock).await {
            Ok(node) => Ok(Self { node, clock, store, reports }),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Starts its task.
    pub(crate) fn launch(self, base: &DaemonContext, net_events: NetEvents) -> RunningRoom {
        let Self { node, clock, store, reports } = self;
        // Before the first frame is read and the first call is answered.
        base.net.gate().set_roster(node.roster());
        let (handle, requests) = NodeHandle::new(base.roster.subscribe());
        let parts = DriverParts { requests, net: base.net.clone(), net_events, store: store.clone(), reports };
        let (driver, first_batch) = Driver::new(node, clock, parts);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (stopped, end) = (stop.clone(), ended.clone().drop_guard());
        let driver = tokio::spawn(async move {
            // Dropped when the task ends, however it ends.
            let _end = end;
            driver.run(stopped).await
        });
        let retaining =
            |days| AbortOnDropHandle::new(tokio::spawn(retention::run(days, handle.clone(), store.clone())));
        let retention = base.retention.map(retaining);
        RunningRoom { node: handle, store, driver, first_batch, stop, ended, _retention: retention }
    }
}

async fn node(base: &DaemonContext, store: &Store, entry: RoomEntry, clock: Clock) -> Result<Node, RoomError> {
    let start = match entry {
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
            let JoinedRoom { admitted, door } = *joined;
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
    let settings = NodeSettings { budget: base.budget, ..NodeSettings::default() };
    let node = Node::new(settings, base.key.clone(), start, rand::random(), now)
        .map_err(|source| RoomError::Start { database: base.home.database(), source })?;
    let tree = PlumTree::new(node.me(), node.room(), rand::random(), now);
    Ok(node.with_tree(Box::new(tree), now))
}

/// Trusts the peers whose addresses are known to deliver the log, newest first: if the log was lost with its database,
/// nothing else says who is a member. The log decides as soon as it has arrived.
fn trust_known(base: &DaemonContext, restored: &Restored) {
    let mut records: Vec<_> = restored.addrs.iter().filter(|record| record.peer != base.me).collect();
    records.sort_by_key(|record| record.time);
    records.iter().for_each(|record| base.net.gate().open_door(record.peer));
}

/// A room whose task runs.
#[derive(Debug)]
pub(crate) struct RunningRoom {
    /// The handle for commands to the room.
    pub(crate) node: NodeHandle,
    /// The room's store.
    pub(crate) store: Store,
    driver: JoinHandle<EndedDriver>,
    first_batch: oneshot::Receiver<()>,
    stop: CancellationToken,
    ended: CancellationToken,
    /// Drops old texts as long as the room runs.
    _retention: Option<AbortOnDropHandle<()>>,
}

impl RunningRoom {
    /// Waits until a new room is on disk.
    ///
    /// # Errors
    /// [`RoomError::NotWritten`] when it cannot be.
    pub(crate) async fn founded(&mut self) -> Result<(), RoomError> {
        (&mut self.first_batch).await.map_err(|_| RoomError::NotWritten)
    }

    /// Waits until the log that makes this peer a member has arrived, [`LOG_MAX`] at most: it may write from then on.
    pub(crate) async fn joined(&self, base: &DaemonContext) {
        let gate = base.net.gate();
        let mut changes = gate.changes();
        let arrived = async { while !gate.roster().is_member(&base.me) && changes.changed().await.is_ok() {} };
        if timeout(LOG_MAX, arrived).await.is_err() {
            tracing::warn!("the room's log has not arrived yet");
        }
    }

    /// Waits until the room ends by itself, which means that a part has failed. Cancel safe.
    pub(crate) async fn failed(&self) {
        self.ended.cancelled().await;
    }

    /// Notifies the neighbours, answers waiting callers, writes what is queued, and ends. Returns the network's events
    /// unless the room failed.
    pub(crate) async fn stop(self) -> Option<NetEvents> {
        let Self { node, store, driver, stop, ended, .. } = self;
        if !ended.is_cancelled() {
            match timeout(FAREWELL_MAX, node.command(Command::Stop)).await {
                Ok(Ok(_) | Err(CommandError::Stopping)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the room does not stop in order"),
                Err(_) => tracing::warn!("the room does not answer and is stopped without notice"),
            }
        }
        // Closed first, so that callers who wait for what is being written are answered before the driver ends.
        if timeout(CLOSE_MAX, store.close()).await.is_err() {
            tracing::warn!("the store is still writing and is left behind");
        }
        stop.cancel();
        match driver.await {
            Ok(EndedDriver { reason: DriverEnd::Stopped | DriverEnd::Store, net_events }) => Some(net_events),
            Ok(EndedDriver { reason: DriverEnd::Net, .. }) => None,
            Err(error) => {
                tracing::error!(%error, "the room's task failed");
                None
            }
        }
    }
}

/// Stops the room, sets its files aside and opens the new one; if that fails, returns to the former one. Returns no room
/// if both fail: the daemon cannot go on.
pub(crate) async fn switch_room(
    base: &DaemonContext,
    room: RunningRoom,
    joined: JoinedRoom,
) -> (Option<RunningRoom>, Result<(), RoomError>) {
    let Some(mut net_events) = room.stop().await else {
        return (None, Err(RoomError::Broken));
    };
    // The former room's connections and requests to the network end with it.
    base.net.part(&mut net_events).await;
    base.net.switch_relay(Switch::Off);
    base.net.set_relays(Relays::default());
    let Now { wall, .. } = Clock::start().now();
    let begun = match set_aside(base.home.root(), wall) {
        Err(source) => Err((RoomError::SetAside(source), None)),
        Ok(aside) => prepare(base, RoomEntry::Admitted(Box::new(joined))).await.map_err(|error| (error, Some(aside))),
    };
    let (error, aside) = match begun {
        Ok(prepared) => {
            tracing::info!("switched to another room");
            return (Some(prepared.launch(base, net_events)), Ok(()));
        }
        Err(failed) => failed,
    };
    tracing::error!(%error, "the other room cannot be opened, returning to the former one");
    if let Some(Err(error)) = aside.map(|aside| aside.undo()) {
        tracing::error!(%error, "the files of the former room cannot be put back");
        return (None, Err(RoomError::SetAside(error)));
    }
    match prepare(base, RoomEntry::Return).await {
        Ok(prepared) => (Some(prepared.launch(base, net_events)), Err(error)),
        Err(lost) => {
            tracing::error!(error = %lost, "the former room cannot be opened any more");
            (None, Err(error))
        }
    }
}

async fn prepare(base: &DaemonContext, entry: RoomEntry) -> Result<PreparedRoom, RoomError> {
    let opened = open_store(&base.home, &base.key).await?;
    PreparedRoom::new(base, opened, entry).await
}
