//! A running API: both sockets, a store in a temporary directory, a played room.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use chat_core::input::BatchId;
use chat_core::log::entry::{Body, Incarnation, MessageBody};
use chat_core::membership::roster::{Person, Roster, Sealing, SealingKeys};
use chat_core::output::{Batch, BatchEntry};
use chat_proto::api::members::{Joined, NearbyRoom};
use chat_proto::api::peers::{MemberRole, PeerRef};
use chat_proto::api::status::RoomRef;
use chat_proto::event::Event;
use chat_proto::id::{PeerId, RoomId};
use chat_proto::time::Timestamp;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::http::access_tokens::{AccessTokens, StoredToken, Token, TokenFiles};
use crate::http::api_state::{Api, ApiOptions, NoRoom, RoomHandle, RoomSlot};
use crate::http::daemon_control::{AdminSuccession, DaemonControl, LeaveError, MoveError, NetworkFigures};
use crate::http::server::listen::{Listeners, TcpListen};
use crate::http::server::serve;
use crate::http::tests::played_room::{LogWriter, PlayedRoom, Script, id_of, key};
use crate::http::tests::test_client::{Endpoint, soon};
use crate::net::JoinTarget;
use crate::node::handle::NodeHandle;
use crate::store::tables::models::StoredEvent;
use crate::store::types::{Absent, Secret, StoreOptions, Write};
use crate::store::{OpenedStore, Store};

/// The token of every test.
pub(crate) const TOKEN: &str = "the-token-of-the-tests";

/// The people of the play: ann is this peer, bob has keys, carol has none, dave has left, two are called erin.
pub(crate) const ANN: u8 = 1;
pub(crate) const BOB: u8 = 2;
pub(crate) const CAROL: u8 = 3;
pub(crate) const DAVE: u8 = 4;

/// Who they are.
pub(crate) fn peer(n: u8) -> PeerId {
    id_of(&key(n))
}

/// The process around the API of a test.
#[derive(Default)]
pub(crate) struct TestControl {
    /// Cancelled by `POST /v1/shutdown`.
    pub(crate) stopped: CancellationToken,
    /// What the next join ends with; success where nothing is said.
    pub(crate) join_fails: Mutex<Option<MoveError>>,
}

impl DaemonControl for TestControl {
    fn join(&self, _target: JoinTarget, _name: Option<String>) -> BoxFuture<'_, Result<Joined, MoveError>> {
        let failure = self.join_fails.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { failure.map_or_else(|| Ok(Joined { room: near().room }), Err) }.boxed()
    }

    fn leave(&self, _succession: AdminSuccession) -> BoxFuture<'_, Result<(), LeaveError>> {
        async { Ok(()) }.boxed()
    }

    fn rooms(&self) -> Vec<NearbyRoom> {
        vec![near()]
    }

    fn network(&self) -> NetworkFigures {
        NetworkFigures { port: 24283, addrs: near().addrs, connections: 5, queue_drops: 2 }
    }

    fn shutdown(&self) {
        self.stopped.cancel();
    }
}

fn near() -> NearbyRoom {
    NearbyRoom {
        room: RoomRef { id: RoomId::from_bytes([8; 32]), name: "next-door".into(), open: true },
        peer: peer(CAROL),
        addrs: vec![SocketAddr::from(([192, 0, 2, 7], 24283))],
    }
}

/// A room with its store.
pub(crate) struct ApiTestRoom {
    pub(crate) script: Arc<Script>,
    pub(crate) store: Store,
    pub(crate) bob: LogWriter,
    pub(crate) room: RoomId,
    pub(crate) roster: watch::Sender<Arc<Roster>>,
    node: NodeHandle,
    batches: u64,
    task: JoinHandle<()>,
    // Last: the files go when nothing uses them any more.
    dir: TempDir,
}

impl ApiTestRoom {
    /// A new room in a database of its own.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("room.db");
        let opening = StoreOptions { me: peer(ANN), absent: Absent::Create, secret: Secret([9; 32]) };
        let opened = tokio::task::spawn_blocking(move || Store::open(&path, opening)).await.expect("no panic");
        let OpenedStore { store, mut reports, .. } = opened.expect("a new store opens");
        let (author, genesis) = LogWriter::found(key(ANN), store.incarnation());
        let batch =
            Batch { id: BatchId(0), entries: vec![visible(genesis)], bodies: Vec::new(), changes: Default::default() };
        store.write(Write::Batch(batch, Default::default())).await.expect("the store takes it");
        soon(reports.recv()).await.expect("the store reports");
        let room = author.room();
        let bob_keys = sealing_keys().await;
        let roster = watch::Sender::new(Arc::new(roster(room, bob_keys)));
        let (node, requests) = NodeHandle::new(roster.subscribe());
        let script = Arc::new(Script::default());
        let played = PlayedRoom {
            me: peer(ANN),
            script: Arc::clone(&script),
            author,
            requests,
            store: store.clone(),
            reports,
            batches: 0,
            handle: node.clone(),
        };
        let task = tokio::spawn(played.run());
        let bob = LogWriter::new(key(BOB), room, Incarnation(2));
        Self { script, store, bob, room, roster, node, batches: 1 << 32, task, dir }
    }

    /// What bob says reaches this peer.
    pub(crate) async fn bob_says(&mut self, texts: &[&str]) {
        if texts.is_empty() {
            return;
        }
        let bodies = texts.iter().map(|text| MessageBody::Text((*text).to_owned())).collect();
        let entry = self.bob.write(Body::Messages(bodies));
        self.batches += 1;
        let batch = Batch {
            id: BatchId(self.batches),
            entries: vec![visible(entry)],
            bodies: Vec::new(),
            changes: Default::default(),
        };
        let mut events = self.store.subscribe();
        self.store.write(Write::Batch(batch, Default::default())).await.expect("the store takes it");
        for _ in texts {
            next(&mut events).await;
        }
    }

    /// Something else happens.
    pub(crate) async fn publish(&self, event: Event) {
        let mut events = self.store.subscribe();
        self.store.write(Write::Event(Box::new(event))).await.expect("the store takes it");
        next(&mut events).await;
    }

    /// Events other than messages up to this one are dropped, as the store does with old ones.
    pub(crate) fn forget(&self, event: u64) {
        let event = i64::try_from(event).expect("few events");
        let database = rusqlite::Connection::open(self.dir.path().join("room.db")).expect("a database");
        database.execute("DELETE FROM events WHERE message IS NULL AND id <= ?", [event]).expect("deletes");
        database.execute("UPDATE facts SET events_pruned = ?", [event]).expect("updates");
    }

    pub(crate) fn api_room(&self) -> RoomHandle {
        RoomHandle::new(peer(ANN), self.node.clone(), self.store.clone(), self.dir.path())
    }
}

impl Drop for ApiTestRoom {
    fn drop(&mut self) {
        self.task.abort();
        // Its thread would otherwise write files while the directory is removed.
        self.store.close_blocking();
    }
}

async fn next(events: &mut broadcast::Receiver<Arc<StoredEvent>>) -> Arc<StoredEvent> {
    soon(events.recv()).await.expect("the store tells what it has written")
}

fn visible(entry: chat_core::log::entry::Entry) -> BatchEntry {
    BatchEntry { entry: Arc::new(entry), origins: Vec::new(), visible: true, clock: None, clock_off_ms: None }
}

/// Keys that a real store would publish.
async fn sealing_keys() -> SealingKeys {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("room.db");
    let opening = StoreOptions { me: peer(BOB), absent: Absent::Create, secret: Secret([9; 32]) };
    let opened = tokio::task::spawn_blocking(move || Store::open(&path, opening)).await.expect("no panic");
    let store = opened.expect("a new store opens").store;
    let keys = store.dm_keys();
    store.close().await;
    SealingKeys { identity: keys.identity, fallback: keys.fallback, sealing: keys.sealing }
}

fn roster(room: RoomId, bob_keys: SealingKeys) -> Roster {
    let person = |n: u8, name: &str, active: bool, keys| {
        let id = peer(n);
        let peer = PeerRef { id, name: name.into(), tag: id.tag() };
        (id, Arc::new(Person { peer, active, role: MemberRole::Member, keys }))
    };
    let people = [
        person(ANN, "ann", true, Some(SealingKeys { identity: [1; 32], fallback: [1; 32], sealing: Sealing::Plain })),
        person(BOB, "bob", true, Some(bob_keys)),
        person(CAROL, "carol", true, None),
        person(DAVE, "dave", false, None),
        person(5, "erin", true, None),
        person(6, "erin", true, None),
    ];
    Roster {
        room: Some(room),
        room_name: "lab".into(),
        open: false,
        people: people.into_iter().collect(),
        ..Roster::default()
    }
}

/// Token files that hold nothing.
pub(crate) struct NoTokenFiles;

impl TokenFiles for NoTokenFiles {
    fn save_named(&self, _: &[StoredToken]) -> io::Result<()> {
        Ok(())
    }

    fn save_own(&self, _: &Token) -> io::Result<()> {
        Ok(())
    }
}

/// A running API.
pub(crate) struct TestApi {
    pub(crate) slot: Arc<RoomSlot>,
    pub(crate) around: Arc<TestControl>,
    pub(crate) unix: Endpoint,
    pub(crate) tcp: Endpoint,
    pub(crate) addr: SocketAddr,
    pub(crate) ending: CancellationToken,
    pub(crate) task: JoinHandle<()>,
    pub(crate) dir: TempDir,
}

impl TestApi {
    /// Waits until the number of keyed sends in progress is as wanted.
    pub(crate) async fn sends_in_progress(&self, wanted: impl Fn(usize) -> bool) {
        let room = self.slot.current().expect("there is a room");
        soon(async {
            while !wanted(room.sender.in_progress()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// An API without a room: the peer waits to be admitted to one.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = dir.path().join("chatd.sock");
        let any = TcpListen::FreeFrom(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listeners = Listeners::bind(Some(&socket), any).await.expect("listens");
        let addr = listeners.tcp_addr().expect("listens on TCP");
        let slot = Arc::new(RoomSlot::default());
        slot.remove(NoRoom::Joining);
        let around = Arc::new(TestControl::default());
        let api = Api::new(ApiOptions {
            me: peer(ANN),
            tokens: AccessTokens::new(&Token::new(TOKEN), Vec::new(), Box::new(NoTokenFiles)),
            tcp_addr: Some(addr),
            home: dir.path().to_owned(),
            started_at: Timestamp::from_ms(1_790_000_000_000),
            room: Arc::clone(&slot),
            process: around.clone(),
        });
        let ending = CancellationToken::new();
        let task = tokio::spawn(serve(listeners, api, ending.clone()));
        let (unix, tcp) = (Endpoint::Unix(socket), Endpoint::Tcp(addr, Some(TOKEN.into())));
        Self { slot, around, unix, tcp, addr, ending, task, dir }
    }

    /// An API with a room.
    pub(crate) async fn with_room() -> (Self, ApiTestRoom) {
        let running = Self::start().await;
        let stage = ApiTestRoom::new().await;
        running.enter(&stage);
        (running, stage)
    }

    /// Puts a room in place.
    pub(crate) fn enter(&self, stage: &ApiTestRoom) {
        self.slot.enter(stage.api_room());
    }

    /// Ends the API and starts another on the same room, as a restart of the daemon would.
    pub(crate) async fn restart(self, stage: &ApiTestRoom) -> Self {
        self.ending.cancel();
        soon(self.task).await.expect("the server ends without panic");
        let again = Self::start().await;
        again.enter(stage);
        again
    }
}
