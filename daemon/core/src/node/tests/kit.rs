//! A few nodes side by side: disks that write at once unless told otherwise, links that carry frames at once, and a
//! clock that stands still unless it is moved.

mod on_disk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::api::messages::Wait;
use chat_proto::event::Event;
use chat_proto::id::PeerId;
use chat_proto::ticket::Ticket;
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;

use crate::admission::codec::{AdmissionAnswer, AdmissionRequest, ticket_request};
use crate::config::NodeSettings;
use crate::input::{AdmissionCall, AdmissionId, BatchId, Command, CommandId, Input, Now, PersistError, Verdict};
use crate::log::entry::{Dep, Entry, Incarnation, LogId, MessageBody, Seq, SignedEntry};
use crate::membership::authority::AuthorityClock;
use crate::node::Node;
use crate::output::{Batch, CloseReason, CommandError, Output, Reply};
use crate::restore::{Restored, Start};
use crate::types::PathInfo;
use crate::wire::Frame;

/// Wall-clock time at which every test begins.
pub(super) const BEGINNING: Timestamp = Timestamp::from_ms(1_790_000_000_000);

/// What a disk does with what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// Writes at once.
    Writes,
    /// Answers no request.
    Waits,
    /// Refuses.
    Fails(PersistError),
}

/// A node and what surrounds it.
pub(super) struct Peer {
    pub(super) key: SigningKey,
    pub(super) id: PeerId,
    pub(super) node: Node,
    pub(super) disk: Disk,
    pub(super) waiting: VecDeque<Batch>,
    pub(super) logs: BTreeMap<LogId, Vec<Arc<Entry>>>,
    pub(super) hidden: BTreeMap<LogId, Seq>,
    pub(super) clocks: Vec<(LogId, Seq, AuthorityClock)>,
    pub(super) shown: Vec<MessageBody>,
    /// How far the author's clock was off, for each entry.
    pub(super) clocks_off: Vec<Option<i64>>,
    pub(super) replies: BTreeMap<CommandId, Result<Reply, CommandError>>,
    pub(super) answers: Vec<(AdmissionId, AdmissionAnswer)>,
    pub(super) events: Vec<Event>,
    pub(super) dials: Vec<PeerId>,
    pub(super) observed: Vec<SocketAddr>,
    pub(super) closed: Vec<(PeerId, CloseReason)>,
    pub(super) forks: Vec<(SignedEntry, SignedEntry)>,
    /// Good copies of damaged entries.
    pub(super) repaired: Vec<Arc<Entry>>,
    /// Entries whose bodies are damaged on this disk.
    pub(super) damaged: BTreeSet<Dep>,
    /// Entries whose bodies this peer has dropped.
    pub(super) dropped: BTreeSet<Dep>,
    pub(super) sent: Vec<(PeerId, Frame)>,
    pub(super) incarnation: Incarnation,
    /// Whether the second record of its newest entry is there and agrees.
    pub(super) mark_agrees: bool,
    /// Error of its wall clock, in milliseconds.
    pub(super) clock_error_ms: i64,
}

/// The nodes.
pub(super) struct Kit {
    pub(super) peers: Vec<Peer>,
    pub(super) now: Now,
    links: BTreeSet<(usize, usize)>,
    next: u64,
}

pub(super) fn key(n: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(n).expect("few peers") + 1; 32])
}

pub(super) fn path() -> PathInfo {
    PathInfo { direct: true, rtt: Duration::from_millis(1), loss: 0.0, remote: None, inbound: false }
}

pub(super) fn text(text: &str) -> MessageBody {
    MessageBody::Text(text.into())
}

impl Peer {
    pub(super) fn new(n: usize, start: Start, incarnation: Incarnation, now: Now) -> Self {
        let key = key(n);
        let seed = [u8::try_from(n).expect("few peers"); 32];
        let node = Node::new(NodeSettings::default(), key.clone(), start, seed, now).expect("starts");
        Self {
            id: node.me(),
            key,
            node,
            disk: Disk::Writes,
            waiting: VecDeque::new(),
            logs: BTreeMap::new(),
            hidden: BTreeMap::new(),
            clocks: Vec::new(),
            shown: Vec::new(),
            clocks_off: Vec::new(),
            replies: BTreeMap::new(),
            answers: Vec::new(),
            events: Vec::new(),
            dials: Vec::new(),
            observed: Vec::new(),
            closed: Vec::new(),
            forks: Vec::new(),
            repaired: Vec::new(),
            damaged: BTreeSet::new(),
            dropped: BTreeSet::new(),
            sent: Vec::new(),
            incarnation,
            mark_agrees: true,
            clock_error_ms: 0,
        }
    }

    /// The frames that were sent, and forgets them.
    pub(super) fn take_sent(&mut self) -> Vec<(PeerId, Frame)> {
        std::mem::take(&mut self.sent)
    }
}

impl Kit {
    /// A room with one member.
    pub(super) fn new() -> Self {
        Self::founded(Disk::Writes, false)
    }

    /// The same with an open door.
    pub(super) fn open_room() -> Self {
        Self::founded(Disk::Writes, true)
    }

    /// The same on a disk that may not work.
    pub(super) fn with_disk(disk: Disk) -> Self {
        Self::founded(disk, false)
    }

    fn founded(disk: Disk, open: bool) -> Self {
        let now = Now { mono: Duration::from_secs(100), wall: BEGINNING };
        let incarnation = Incarnation(1000);
        let addrs = vec![addr(0)];
        let start = Start::Found { room_name: "lab".into(), open, name: "p0".into(), incarnation, addrs };
        let mut kit = Self { peers: vec![Peer::new(0, start, incarnation, now)], now, links: BTreeSet::new(), next: 0 };
        kit.peers[0].disk = disk;
        kit.input(0, Input::Addrs(vec![addr(0)]));
        kit
    }

    /// A room with so many members, all connected.
    pub(super) fn room(members: usize) -> Self {
        let mut kit = Self::new();
        for n in 1..members {
            kit.join(n);
        }
        kit.connect_all();
        kit
    }

    /// One more member comes in through the first one, by ticket, and connects to it.
    pub(super) fn join(&mut self, n: usize) {
        let ticket = self.invite(0);
        assert!(self.show_ticket(n, 0, &ticket), "the ticket lets in");
        self.enter(n);
        self.connect(0, n);
    }

    pub(super) fn invite(&mut self, by: usize) -> Ticket {
        let expires = Timestamp::from_ms(self.now.wall.as_ms() + 600_000);
        match self.command(by, Command::Invite { expires, uses: 1 }) {
            Some(Ok(Reply::Invited(_, ticket))) => ticket,
            other => panic!("no ticket: {other:?}"),
        }
    }

    /// A newcomer shows a ticket at a door; returns whether it was admitted.
    pub(super) fn show_ticket(&mut self, n: usize, door: usize, ticket: &Ticket) -> bool {
        let id = PeerId::from_bytes(key(n).verifying_key().to_bytes());
        let answer = self.ask(n, door, ticket_request(ticket, &id, &format!("p{n}")));
        matches!(answer, Some(AdmissionAnswer::Admitted(_)))
    }

    /// A removed peer knocks at an admin, who admits it.
    pub(super) fn readmit(&mut self, n: usize, admin: usize) {
        let request = AdmissionRequest::Knock { name: format!("p{n}"), commitment: [0; 32] };
        assert_eq!(self.ask(n, admin, request), Some(AdmissionAnswer::Waiting));
        let Some(Ok(Reply::Knocks(knocks))) = self.command(admin, Command::Knocks) else { panic!("no knocks") };
        let admit = Command::AnswerKnock(knocks[0].id, Verdict::Yes);
        assert_eq!(self.command(admin, admit), Some(Ok(Reply::Done)));
    }

    /// A newcomer asks to be admitted; returns the newest answer.
    pub(super) fn ask(&mut self, n: usize, door: usize, request: AdmissionRequest) -> Option<AdmissionAnswer> {
        self.ask_from(None, n, door, request)
    }

    /// The same from an address.
    pub(super) fn ask_from(
        &mut self,
        observed: Option<SocketAddr>,
        n: usize,
        door: usize,
        request: AdmissionRequest,
    ) -> Option<AdmissionAnswer> {
        self.next += 1;
        let id = AdmissionId(self.next);
        let peer = PeerId::from_bytes(key(n).verifying_key().to_bytes());
        self.input(door, Input::Admission(AdmissionCall { id, peer, observed, request, words: "babad".into() }));
        self.answer_to(door, id)
    }

    pub(super) fn answer_to(&self, door: usize, id: AdmissionId) -> Option<AdmissionAnswer> {
        self.peers[door].answers.iter().rev().find(|(of, _)| *of == id).map(|(_, answer)| answer.clone())
    }

    pub(super) fn last_request(&self) -> AdmissionId {
        AdmissionId(self.next)
    }

    /// Starts a node for an admitted newcomer; peers are numbered without gaps.
    pub(super) fn enter(&mut self, n: usize) {
        assert_eq!(n, self.peers.len(), "the next number");
        let incarnation = Incarnation(1000 + n as u64);
        let room = self.peers[0].node.room();
        let addrs = self.peers[0].node.peers.addrs.records().cloned().collect();
        let (heads, controls, clocks, forks, seen, lacking, hidden) = Default::default();
        let start = Start::Restore(Restored {
            room,
            incarnation,
            heads,
            controls,
            clocks,
            addrs,
            forks,
            seen,
            lacking,
            hidden,
            mark_agrees: false,
        });
        self.peers.push(Peer::new(n, start, incarnation, self.now));
        self.input(n, Input::Addrs(vec![addr(n)]));
    }

    /// The process of a node ends and another begins on what is on disk.
    pub(super) fn restart(&mut self, n: usize) {
        self.disconnect_all(n);
        let now = self.now_at(n);
        let peer = &mut self.peers[n];
        let start = Start::Restore(peer.restored());
        peer.waiting.clear();
        peer.node = Node::new(NodeSettings::default(), peer.key.clone(), start, [99; 32], now).expect("restarts");
        self.input(n, Input::Addrs(vec![addr(n)]));
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        self.links.insert((a.min(b), a.max(b)));
        let (id_a, id_b) = (self.peers[a].id, self.peers[b].id);
        self.give(a, Input::Up(id_b, path()));
        self.give(b, Input::Up(id_a, path()));
        self.pump();
    }

    pub(super) fn connect_all(&mut self) {
        for a in 0..self.peers.len() {
            for b in 0..a {
                if !self.links.contains(&(b, a)) {
                    self.connect(b, a);
                }
            }
        }
    }

    pub(super) fn disconnect(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a.min(b), a.max(b))) {
            let (id_a, id_b) = (self.peers[a].id, self.peers[b].id);
            self.give(a, Input::Down(id_b));
            self.give(b, Input::Down(id_a));
            self.pump();
        }
    }

    /// Drops everything between two peers, without a notice to either.
    pub(super) fn cut(&mut self, a: usize, b: usize) {
        self.links.remove(&(a.min(b), a.max(b)));
    }

    pub(super) fn disconnect_all(&mut self, n: usize) {
        for other in 0..self.peers.len() {
            self.disconnect(n, other);
        }
    }

    pub(super) fn is_linked(&self, a: usize, b: usize) -> bool {
        self.links.contains(&(a.min(b), a.max(b)))
    }

    /// Gives a command and lets everything follow from it; gives its answer, if there is one by then.
    pub(super) fn command(&mut self, n: usize, command: Command) -> Option<Result<Reply, CommandError>> {
        let id = self.begin(n, command);
        self.peers[n].replies.get(&id).cloned()
    }

    /// The same; gives its number.
    pub(super) fn begin(&mut self, n: usize, command: Command) -> CommandId {
        self.next += 1;
        let id = CommandId(self.next);
        self.input(n, Input::Command(id, command));
        id
    }

    pub(super) fn say(&mut self, n: usize, what: &str) {
        let reply = self.command(n, post(what, Wait::Stored, 1));
        assert!(matches!(reply, Some(Ok(Reply::Posted { .. }))), "{what} is stored: {reply:?}");
    }

    /// An input, and everything that follows.
    pub(super) fn input(&mut self, n: usize, input: Input) {
        self.give(n, input);
        self.pump();
    }

    /// Delivers a frame from any peer.
    pub(super) fn frame(&mut self, to: usize, from: usize, frame: &Frame) {
        let from = self.peers[from].id;
        self.input(to, Input::Frame(from, frame.encode().expect("fits")));
    }

    /// Moves the clock, and ticks every node whose timer is due by then.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now.mono + span;
        let mut at_once = 0;
        loop {
            let next = (0..self.peers.len()).filter_map(|n| Some((self.peers[n].node.poll_timeout()?, n))).min();
            let Some((at, n)) = next.filter(|(at, _)| *at <= end) else { break };
            at_once = if at <= self.now.mono { at_once + 1 } else { 0 };
            assert!(at_once < 1000, "{n} wants to be woken without end");
            self.move_to(at.max(self.now.mono));
            self.input(n, Input::Tick);
        }
        self.move_to(end);
    }

    fn move_to(&mut self, mono: Duration) {
        let passed = u64::try_from((mono - self.now.mono).as_millis()).expect("short");
        self.now = Now { mono, wall: Timestamp::from_ms(self.now.wall.as_ms() + passed) };
    }

    /// The time as a node's clocks show it.
    pub(super) fn now_at(&self, n: usize) -> Now {
        let wall = self.now.wall.as_ms().saturating_add_signed(self.peers[n].clock_error_ms);
        Now { wall: Timestamp::from_ms(wall), ..self.now }
    }

    fn give(&mut self, n: usize, input: Input) {
        let now = self.now_at(n);
        self.peers[n].node.handle(input, now);
    }

    /// Lets everything follow until nothing does.
    pub(super) fn pump(&mut self) {
        for _ in 0..100_000 {
            let next = (0..self.peers.len()).find_map(|n| Some((n, self.peers[n].node.poll_output()?)));
            match next {
                Some((n, output)) => self.carry_out(n, output),
                None => return,
            }
        }
        panic!("the nodes do not come to rest");
    }

    fn carry_out(&mut self, n: usize, output: Output) {
        match output {
            Output::Persist(batch) => self.persist(n, batch),
            Output::Send(to, raw) => self.send(n, to, raw),
            Output::Load { id, log, from, to, bytes_max, scope } => {
                let entries = self.peers[n].load(&log, from..=to, bytes_max, scope);
                self.give(n, Input::Loaded(id, entries));
            }
            Output::Disconnect(peer, reason) => {
                self.peers[n].closed.push((peer, reason));
                if let Some(other) = self.peers.iter().position(|other| other.id == peer) {
                    self.disconnect(n, other);
                }
            }
            Output::Reply(id, reply) => {
                let twice = self.peers[n].replies.insert(id, reply);
                assert!(twice.is_none(), "{id:?} is answered twice");
            }
            Output::Admission(id, answer) => self.peers[n].answers.push((id, answer)),
            Output::Publish(event) => self.peers[n].events.push(event),
            Output::Dial(peer, _) => self.peers[n].dials.push(peer),
            Output::Reload(batch) => {
                let restored = Box::new(self.peers[n].restored());
                self.give(n, Input::Refiled(batch, restored));
            }
            Output::Observed(addr) => self.peers[n].observed.push(addr),
            Output::Repair(entry) => self.peers[n].repaired.push(entry),
            Output::Roster(_)
            | Output::StoreAddrs(_)
            | Output::StoreSeen(_)
            | Output::Datagram(..)
            | Output::Role(..)
            | Output::Relays(_) => {}
        }
    }

    fn send(&mut self, from: usize, to: PeerId, raw: Bytes) {
        let frame = Frame::decode(&raw).expect("nodes send frames");
        self.peers[from].sent.push((to, frame));
        let sender = self.peers[from].id;
        let to = self.peers.iter().position(|peer| peer.id == to);
        if let Some(to) = to.filter(|to| self.is_linked(from, *to)) {
            self.give(to, Input::Frame(sender, raw));
        }
    }

    fn persist(&mut self, n: usize, batch: Batch) {
        match self.peers[n].disk {
            Disk::Writes => self.written(n, &batch),
            Disk::Waits => self.peers[n].waiting.push_back(batch),
            Disk::Fails(error) => self.give(n, Input::PersistFailed(batch.id, error)),
        }
    }

    fn written(&mut self, n: usize, batch: &Batch) {
        self.peers[n].write(batch);
        let id: BatchId = batch.id;
        self.give(n, Input::Persisted(id));
    }

    /// The disk catches up and works from now on.
    pub(super) fn let_write(&mut self, n: usize) {
        self.peers[n].disk = Disk::Writes;
        while let Some(batch) = self.peers[n].waiting.pop_front() {
            self.written(n, &batch);
        }
        self.pump();
    }

    /// All nodes show the same, after some time, and this number of messages.
    pub(super) fn assert_alike_after(&mut self, messages: usize) {
        self.pass(Duration::from_secs(60));
        assert_eq!(self.peers[0].history().len(), messages);
        self.assert_alike();
    }

    /// All nodes show the same.
    pub(super) fn assert_alike(&self) {
        for peer in &self.peers[1..] {
            assert_eq!(peer.history(), self.peers[0].history(), "{}", peer.id.short());
            assert_eq!(peer.node.roster(), self.peers[0].node.roster(), "{}", peer.id.short());
        }
    }
}

pub(super) fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1000 + u16::try_from(n).expect("few peers")))
}

pub(super) fn post(what: &str, wait: Wait, copies: u32) -> Command {
    Command::Post { body: text(what), reply_to: None, wait, copies, timeout: Duration::from_secs(5) }
}
