//! A room that is played: it answers commands as a test says, and writes posts to the real store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chat_core::input::{BatchId, Command, CommandId};
use chat_core::log::entry::{Body, Control, Dep, Entry, Header, Hlc, Incarnation, LogId, MessageBody, Seq};
use chat_core::output::{Batch, BatchEntry, CommandError, NodeStatus, Reply};
use chat_proto::api::messages::Wait;
use chat_proto::api::peers::{PathView, PeerList, PeerRef, PeerView, RoleView};
use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::api::status::{RendezvousRef, RoomRef};
use chat_proto::id::{EntryHash, InviteId, MessageId, PeerId, RoomId, Term};
use chat_proto::ticket::{Ticket, TicketPeer};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use tokio::sync::{mpsc, watch};

use crate::node::handle::{NodeHandle, Request};
use crate::store::types::{StoreReport, Write};
use crate::store::{Store, StoreReports};

/// A person of the play.
pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub(crate) fn id_of(key: &SigningKey) -> PeerId {
    PeerId::from_bytes(key.verifying_key().to_bytes())
}

/// Writes one log.
pub(crate) struct LogWriter {
    key: SigningKey,
    log: LogId,
    room: RoomId,
    last: Option<(Seq, EntryHash)>,
    time: u64,
}

impl LogWriter {
    /// An author whose log is empty.
    pub(crate) fn new(key: SigningKey, room: RoomId, incarnation: Incarnation) -> Self {
        let log = LogId { author: id_of(&key), incarnation };
        Self { key, log, room, last: None, time: 1_790_000_000_000 << 16 }
    }

    /// The founder: its first entry makes the room.
    pub(crate) fn found(key: SigningKey, incarnation: Incarnation) -> (Self, Entry) {
        let mut author = Self::new(key, RoomId::from_bytes([0; 32]), incarnation);
        let genesis = author.write(Body::Control(Control::Genesis {
            room_name: "lab".into(),
            open: false,
            name: "ann".into(),
            nonce: [7; 16],
        }));
        author.room = RoomId::from_bytes(*genesis.hash().as_bytes());
        (author, genesis)
    }

    pub(crate) fn room(&self) -> RoomId {
        self.room
    }

    /// The next entry.
    pub(crate) fn write(&mut self, body: Body) -> Entry {
        self.write_after(body, Vec::new())
    }

    /// Writes the next entry, with these dependencies.
    pub(crate) fn write_after(&mut self, body: Body, deps: Vec<Dep>) -> Entry {
        let seq = self.last.map_or(Seq(1), |(seq, _)| seq.next());
        self.time += 1 << 16;
        let header = Header {
            version: 1,
            room: self.room,
            log: self.log,
            seq,
            backlink: self.last.map(|(_, hash)| hash),
            time: Hlc(self.time),
            deps,
            body_hash: [0; 32],
            body_bytes: 0,
        };
        let entry = Entry::sign(header, body, &self.key).expect("entries of the play are sound");
        self.last = Some((seq, entry.hash()));
        entry
    }
}

/// What the played room does, and which calls it received.
#[derive(Debug)]
pub(crate) struct Script {
    /// Posts that were carried out.
    posts: AtomicUsize,
    /// Commands that were given.
    given: Mutex<Vec<Command>>,
    /// What every command is refused with.
    refusal: Mutex<Option<CommandError>>,
    /// Who holds every message.
    holders: watch::Sender<Vec<PeerId>>,
    /// Whether posts are taken from the queue.
    open: watch::Sender<bool>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            posts: AtomicUsize::new(0),
            given: Mutex::default(),
            refusal: Mutex::default(),
            holders: watch::channel(Vec::new()).0,
            open: watch::channel(true).0,
        }
    }
}

impl Script {
    pub(crate) fn posts(&self) -> usize {
        self.posts.load(Ordering::SeqCst)
    }

    pub(crate) fn given(&self) -> Vec<Command> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn refuse(&self, refusal: Option<CommandError>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    pub(crate) fn hold(&self, holders: Vec<PeerId>) {
        self.holders.send_replace(holders);
    }

    /// Stops taking commands, or goes on.
    pub(crate) fn open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

/// The task that plays the room.
pub(crate) struct PlayedRoom {
    pub(crate) me: PeerId,
    pub(crate) script: Arc<Script>,
    pub(crate) author: LogWriter,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) store: Store,
    pub(crate) reports: StoreReports,
    pub(crate) batches: u64,
    pub(crate) handle: NodeHandle,
}

impl PlayedRoom {
    pub(crate) async fn run(mut self) {
        let mut open = self.script.open.subscribe();
        while let Some(request) = self.requests.recv().await {
            if open.wait_for(|open| *open).await.is_err() {
                return;
            }
            self.script.given.lock().unwrap_or_else(PoisonError::into_inner).push(request.command.clone());
            let refusal = self.script.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match refusal {
                Some(refusal) => drop(request.reply.send(Err(refusal))),
                None => self.carry_out(request).await,
            }
        }
    }

    async fn carry_out(&mut self, request: Request) {
        if matches!(request.command, Command::Post { .. }) {
            return self.post(request).await;
        }
        let reply = self.reply(request.command);
        drop(request.reply.send(reply));
    }

    async fn post(&mut self, request: Request) {
        let Command::Post { body, reply_to, wait, copies, timeout } = request.command else { return };
        let to: Vec<PeerId> = match &body {
            MessageBody::Text(_) => Vec::new(),
            MessageBody::Sealed(boxes) => boxes.iter().map(|sealed| sealed.to).filter(|to| *to != self.me).collect(),
        };
        let replies = reply_to.map(|answered| Dep::reply(0, answered)).into_iter().collect();
        let entry = Arc::new(self.author.write_after(Body::Messages(vec![body]), replies));
        self.batches += 1;
        let command = CommandId(self.batches);
        let batch = Batch {
            id: BatchId(self.batches),
            entries: vec![BatchEntry {
                entry: Arc::clone(&entry),
                origins: vec![command],
                visible: true,
                clock: None,
                clock_off_ms: None,
            }],
            bodies: Vec::new(),
            changes: Default::default(),
        };
        let keys = request.idempotency.into_iter().map(|key| (command, key)).collect::<HashMap<_, _>>();
        self.store.write(Write::Batch(batch, keys)).await.expect("the store takes it");
        loop {
            match self.reports.recv().await.expect("the store reports") {
                StoreReport::Persisted(id) if id.0 == self.batches => break,
                StoreReport::Persisted(_)
                | StoreReport::Loaded(_, _)
                | StoreReport::Refiled(_, _)
                | StoreReport::Damaged(_, _) => {}
                StoreReport::PersistFailed(_, error) => panic!("the disk of a test fails: {error:?}"),
            }
        }
        self.script.posts.fetch_add(1, Ordering::SeqCst);
        let mut holders = self.script.holders.subscribe();
        let enough = move |held: &Vec<PeerId>| match wait {
            Wait::Stored => true,
            Wait::Replicated => held.len() >= usize::try_from(copies).unwrap_or(usize::MAX),
            Wait::Delivered => to.iter().all(|peer| held.contains(peer)),
        };
        tokio::spawn(async move {
            let complete = matches!(tokio::time::timeout(timeout, holders.wait_for(enough)).await, Ok(Ok(_)));
            let id = MessageId { entry: entry.hash(), index: 0 };
            let held_by = holders.borrow().clone();
            drop(request.reply.send(Ok(Reply::Posted {
                id,
                time: entry.header().time.wall(),
                held_by,
                complete,
                clock_off_ms: None,
            })));
        });
    }

    fn reply(&self, command: Command) -> Result<Reply, CommandError> {
        let me = self.peer_ref(self.me);
        let room = RoomRef { id: self.author.room(), name: "lab".into(), open: false };
        let now = Timestamp::from_ms(1_790_000_000_000);
        Ok(match command {
            Command::Holders(_, _) => Reply::Holders(self.script.holders.borrow().clone()),
            Command::Invite { expires, uses } => {
                let seed = [3; 32];
                let id = InviteId::from_bytes(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
                let invite = chat_proto::api::invites::Invite {
                    id,
                    by: me,
                    created: now,
                    expires,
                    uses,
                    used: 0,
                    revoked: false,
                };
                let peers = vec![TicketPeer { peer: self.me, addrs: Vec::new() }];
                Reply::Invited(invite, Ticket { room: room.id, room_name: room.name, peers, seed, expires })
            }
            Command::Peers => Reply::Peers(PeerList { peers: self.peers(), links: Vec::new() }),
            Command::Status => Reply::Status(NodeStatus {
                missing_entries: 0,
                room,
                role: RoleView::Holder,
                rendezvous: Some(RendezvousRef { peer: me, term: Term(3) }),
                members: 2,
                online: 1,
                observed: Vec::new(),
                inbound: None,
                clock_off_ms: None,
            }),
            Command::Invites => Reply::Invites(Vec::new()),
            Command::Knocks => Reply::Knocks(Vec::new()),
            Command::Rendezvous => Reply::Rendezvous(Box::new(RendezvousView {
                term: Term(3),
                holder: Some(me),
                since: Some(now),
                role: RoleView::Holder,
                ranking: Vec::new(),
                succession: 0,
                history: Vec::new(),
            })),
            Command::Revoke(_) => return Err(CommandError::UnknownInvite),
            Command::AnswerKnock(_, _) => return Err(CommandError::UnknownKnock),
            Command::Remove(_)
            | Command::SetAdmin(_, _)
            | Command::Rename(_)
            | Command::PublishKeys(_, _)
            | Command::Leave
            | Command::Stop
            | Command::Post { .. } => Reply::Done,
        })
    }

    fn peer_ref(&self, peer: PeerId) -> PeerRef {
        self.handle.roster().peer_ref(&peer)
    }

    /// All members, backwards, so that the order of the answer is the API's own.
    fn peers(&self) -> Vec<PeerView> {
        let roster = self.handle.roster();
        let mut members: Vec<_> = roster.members().collect();
        members.sort_by(|a, b| b.peer.name.cmp(&a.peer.name));
        members
            .into_iter()
            .map(|person| PeerView {
                peer: person.peer.clone(),
                me: person.peer.id == self.me,
                online: person.peer.id == self.me,
                path: PathView::None,
                rtt_ms: None,
                last_seen: None,
                role: RoleView::Member,
                rank: None,
                member: person.role,
                clock_off_ms: None,
                let_in_by: None,
                used: None,
                safety_words: None,
            })
            .collect()
    }
}
