//! One peer of one room: feed it inputs, drain its outputs, wake it when it asks.
//!
//! ```text
//!   command, frame, link, disk, tick ──▶ handle(input, now) ──▶ poll_output() … until None
//!                                                           └─▶ poll_timeout() = when to tick
//! ```
//!
//! [`Node`] owns the parts. Each part has its own state and methods, in the folder of its subject; a handler such as
//! [`DoorHandler`] borrows the parts that one concern may change. `impl Node` has only what concerns several of them: what
//! follows from an entry, from a connection that ends, from a changed membership. The only caller is the daemon's driver
//! (`daemon/src/node/driver.rs`), or a simulation.
//!
//! A command's message becomes a draft. Drafts are cut into one signed entry while the entry before it is being flushed,
//! so that under load many messages share one signature and one flush. Invariants:
//!
//! * After a start, nothing is written until this peer knows that its disk was not rolled back (`log/local.rs`).
//! * An own entry is applied, sent and answered only when it is on disk: a peer that loses its last milliseconds never
//!   contradicts what others hold of it.
//! * An entry of another author is verified, applied in causal order and forwarded at once, then written, and shown when
//!   written. Its author receives a receipt only after the flush.
//! * At most one batch is being written at a time, so that a failed write never leaves a hole in a log.

mod commands;
mod entries;
mod frames;
#[cfg(any(test, fuzzing))]
mod inspect;
mod links;
mod members;
mod persist;
mod role;
mod ticks;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;
use rand::RngExt;

use crate::admission::door::{Door, DoorHandler};
use crate::config::NodeSettings;
use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::delivery::Delivery;
use crate::delivery::dissemination::DisseminationHandler;
use crate::delivery::drafts::DraftOrigin;
use crate::delivery::ingest::IngestHandler;
use crate::delivery::own_log::OwnLogHandler;
use crate::delivery::receipts::ReceiptHandler;
use crate::delivery::sync::SyncHandler;
use crate::delivery::tree::Tree;
use crate::input::{Input, Now};
use crate::log::Logs;
use crate::log::entry::{Body, Control, Dep, Hlc, Seq};
use crate::log::forks::ForkHandler;
use crate::log::heads::LogHead;
use crate::log::local::Local;
use crate::membership::Membership;
use crate::membership::control_log::StoredStart;
use crate::membership::gaps::Gaps;
use crate::membership::roster::Roster;
use crate::node::role::Role;
use crate::node::ticks::SEEN_EVERY;
use crate::output::Output;
use crate::peers::Peers;
use crate::peers::addrs::RecordOwner;
use crate::peers::dialing::DialHandler;
use crate::rendezvous::events::RoleInput;
use crate::restore::{Restored, Start, StoredHead};

/// One peer of one room.
pub struct Node {
    cx: NodeContext,
    local: Local,
    logs: Logs,
    membership: Membership,
    peers: Peers,
    delivery: Delivery,
    door: Door,
    role: Role,
}

/// Why a node cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The first entry of the room cannot be signed.
    #[error("the first entry of the room is invalid: {0}")]
    Entry(#[from] crate::log::entry::EntryError),
    /// The name of the room or the founder breaks the rules.
    #[error(transparent)]
    Text(#[from] chat_proto::text::TextError),
}

impl Node {
    /// A node that founds a room, or comes back to one. `seed` drives everything random: jitter, nonces, ticket keys.
    ///
    /// # Errors
    /// [`StartError`] when names are not allowed.
    pub fn new(
        settings: NodeSettings,
        key: SigningKey,
        start: Start,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Self, StartError> {
        let (room, incarnation) = match &start {
            Start::Found { incarnation, .. } => (RoomId::from_bytes([0; 32]), *incarnation),
            Start::Restore(restored) => (restored.room, restored.incarnation),
        };
        let mut node = Self {
            cx: NodeContext::new(settings, seed, now),
            local: Local::new(key, room, incarnation),
            logs: Logs::default(),
            membership: Membership::default(),
            peers: Peers::default(),
            delivery: Delivery::default(),
            door: Door::default(),
            role: Role::default(),
        };
        match start {
            Start::Found { room_name, open, name, addrs, .. } => {
                chat_proto::text::check_name("room name", &room_name)?;
                chat_proto::text::check_member_name(&name)?;
                node.peers.own_addrs = addrs;
                node.found(room_name, open, name)?;
            }
            Start::Restore(restored) => node.restore(restored),
        }
        let newest = node.logs.heads.head(&node.local.log).map(|head| (head.seq, head.hash));
        node.delivery.receipts.begin(node.local.log, newest);
        node.role.begin(&node.local, &mut node.cx);
        node.tell_role_members();
        node.tell_role(RoleInput::Addrs(node.peers.own_addrs.clone()));
        node.cx.set(Timer::AntiEntropy, node.cx.settings.anti_entropy);
        node.cx.set(Timer::Seen, SEEN_EVERY);
        Ok(node)
    }

    /// Gives the node the tree it uses when the room is large. Without one every room is a mesh.
    #[must_use]
    pub fn with_tree(mut self, tree: Box<dyn Tree>, now: Now) -> Self {
        self.cx.now = now;
        self.delivery.dissemination.tree = Some(tree);
        self.choose_mode();
        self
    }

    /// The room.
    pub fn room(&self) -> RoomId {
        self.local.room
    }

    /// This peer.
    pub fn me(&self) -> PeerId {
        self.local.me
    }

    /// The newest roster.
    pub fn roster(&self) -> Arc<Roster> {
        self.membership.roster.clone()
    }

    /// Processes an input. Drain [`Node::poll_output`] afterwards.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.cx.now = now;
        match input {
            Input::Command(id, command) => self.on_command(id, command),
            Input::Up(peer, path) => self.on_up(peer, path),
            Input::Path(peer, path) => self.on_path(peer, path),
            Input::Down(peer) => self.on_down(peer),
            Input::DialFailed(peer) => {
                if !self.peers.connections.is_connected(&peer) {
                    self.disseminate(|tree| tree.peer_down(peer));
                }
                self.dials().failed(peer);
            }
            Input::Frame(peer, raw) => self.on_frame(peer, &raw),
            Input::Persisted(batch) => self.on_persisted(batch),
            Input::PersistFailed(batch, error) => self.on_persist_failed(batch, error),
            Input::Loaded(id, entries) => self.on_loaded(id, entries),
            Input::Refiled(batch, restored) => self.on_refiled(batch, *restored),
            Input::Damaged(log, seq) => self.logs.repairs.damaged(Dep { log, seq }, &mut self.cx),
            Input::Admission(call) => self.door().on_admission(call),
            Input::AdmissionGone(id) => self.door().on_admission_gone(id),
            Input::Addrs(addrs) => {
                self.peers.own_addrs.clone_from(&addrs);
                self.tell_role(RoleInput::Addrs(addrs));
                self.dials().publish_own_addrs();
            }
            Input::Role(event) => self.tell_role(RoleInput::Net(event)),
            Input::Deaf => {
                self.peers.connections.forgive(now.mono);
                self.tell_role(RoleInput::Deaf);
            }
            Input::Tick => self.on_tick(),
        }
        self.settle();
    }

    /// What follows every input:
    ///
    /// 1. The membership is derived anew where control entries were applied; entries that waited for it are reconsidered.
    /// 2. Unless a batch is being written, the next one is cut: drafts are sealed into one signed own entry, and received
    ///    entries go with it, or alone where there is no draft.
    fn settle(&mut self) {
        self.catch_up();
        self.flush();
    }

    /// Takes the next output; `None` when there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.out.pop_front()
    }

    /// When the node wants an [`Input::Tick`], on the monotonic clock of [`Now`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.cx.timers.next()
    }

    fn found(&mut self, room_name: String, open: bool, name: String) -> Result<(), StartError> {
        let control = Control::Genesis { room_name, open, name, nonce: self.cx.rng.random() };
        let time = Hlc::from_wall(self.cx.now.wall);
        let genesis = self.local.sign(&self.logs.heads, Vec::new(), time, Body::Control(control))?;
        self.local.room = RoomId::from_bytes(*genesis.hash().as_bytes());
        self.membership.controls.add(&genesis, genesis.header().order_after(None), &self.local.room);
        self.membership.authority.observe(&genesis);
        self.membership.outdate();
        self.derive();
        self.persist(Some((Arc::new(genesis), vec![DraftOrigin::Nobody])));
        Ok(())
    }

    fn restore(&mut self, mut restored: Restored) {
        for (one, other) in std::mem::take(&mut restored.forks) {
            self.logs.forks.restore(one, other);
        }
        for record in std::mem::take(&mut restored.addrs) {
            self.peers.addrs.add(record, RecordOwner::Member);
        }
        for (peer, at) in &restored.seen {
            self.peers.presence.restore(*peer, *at);
        }
        let mark_agrees = restored.mark_agrees;
        self.take_logs(restored);
        self.local.restored(&self.logs.heads, mark_agrees);
        self.dials().consider_all();
    }

    /// Takes over the logs as the store holds them.
    fn take_logs(&mut self, restored: Restored) {
        let mut starts = BTreeMap::new();
        for head in restored.heads {
            let StoredHead { log, seq, hash, label, order, first, roots, signed, parent } = head;
            self.logs.heads.restore(log, signed, LogHead { seq, hash, label, order });
            starts.insert(log, StoredStart { first, roots, signed, parent });
        }
        self.logs.forks.show(&mut self.logs.heads);
        for (log, seq, clock) in restored.clocks {
            self.membership.authority.restore_clock(log, seq, clock);
        }
        let repairs = &mut self.logs.repairs;
        let read = |(log, signed, order)| {
            let (place, entry) = repairs.read(log, signed, &mut self.cx);
            (place, entry.map(Arc::new), order)
        };
        let controls = restored.controls.into_iter().map(read).collect();
        // Only members' entries are stored: the authors were members, too.
        let authors: Vec<PeerId> = starts.keys().map(|log| log.author).collect();
        let seen = restored.seen.iter().map(|(peer, _)| *peer).chain(authors);
        self.membership.restore(Gaps::new(controls, starts, seen, self.cx.now.mono), &self.local.room);
        self.derive();
        self.logs.bodies.restore(restored.lacking, &self.logs.forks);
        for peer in self.peers.connections.connected_ids() {
            self.logs.bodies.met(peer, &mut self.cx);
        }
        // A crash, or an older build, may have left messages hidden although nothing cuts their logs.
        for log in restored.hidden {
            if self.logs.heads.cut(&log).is_none() && !self.membership.gaps.are_open() {
                self.logs.disk.changes.cuts.insert(log, Seq::MAX);
            }
        }
    }
}

/// Handlers: what each may change, and what it may read.
impl Node {
    fn door(&mut self) -> DoorHandler<'_> {
        DoorHandler {
            local: &self.local,
            membership: &self.membership,
            heads: &self.logs.heads,
            peers: &self.peers,
            door: &mut self.door,
            drafts: &mut self.delivery.drafts,
            cx: &mut self.cx,
        }
    }

    fn sync(&mut self) -> SyncHandler<'_> {
        SyncHandler {
            sync: &mut self.delivery.sync,
            budgets: &mut self.delivery.budgets,
            logs: &mut self.logs,
            cuts_moved: &mut self.membership.cuts_moved,
            peers: &mut self.peers,
            cx: &mut self.cx,
        }
    }

    fn forks(&mut self) -> ForkHandler<'_> {
        ForkHandler {
            local: &self.local,
            roster: &self.membership.roster,
            logs: &mut self.logs,
            connections: &self.peers.connections,
            cx: &mut self.cx,
        }
    }

    fn own_log(&mut self) -> OwnLogHandler<'_> {
        OwnLogHandler {
            local: &mut self.local,
            logs: &mut self.logs,
            membership: &self.membership,
            connections: &self.peers.connections,
            drafts: &mut self.delivery.drafts,
            receipts: &mut self.delivery.receipts,
            budgets: &self.delivery.budgets,
            cx: &mut self.cx,
        }
    }

    fn receipts(&mut self) -> ReceiptHandler<'_> {
        ReceiptHandler {
            local: &self.local,
            heads: &self.logs.heads,
            roster: &self.membership.roster,
            peers: &mut self.peers,
            receipts: &mut self.delivery.receipts,
            cx: &mut self.cx,
        }
    }

    fn ingest(&mut self) -> IngestHandler<'_> {
        IngestHandler {
            local: &self.local,
            logs: &mut self.logs,
            membership: &mut self.membership,
            connections: &mut self.peers.connections,
            budgets: &mut self.delivery.budgets,
            cx: &mut self.cx,
        }
    }

    fn dials(&mut self) -> DialHandler<'_> {
        DialHandler {
            local: &self.local,
            roster: &self.membership.roster,
            dissemination: &self.delivery.dissemination,
            keep: &self.role.keep,
            peers: &mut self.peers,
            cx: &mut self.cx,
        }
    }

    fn dissemination(&mut self) -> DisseminationHandler<'_> {
        DisseminationHandler {
            local: &self.local,
            roster: &self.membership.roster,
            dissemination: &mut self.delivery.dissemination,
            peers: &mut self.peers,
            cx: &mut self.cx,
        }
    }
}

#[cfg(test)]
mod tests;
