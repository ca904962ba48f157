//! One peer of one room: feed it inputs, drain its outputs, wake it when it asks.
//!
//! ```text
//!   command, frame, link, disk, tick ──▶ handle(input, now) ──▶ poll_output() … until None
//!                                                           └─▶ poll_timeout() = when to tick
//! ```
//!
//! [`Node`] owns the parts in [`state`] and decides what concerns several of them; a handler such as
//! [`DoorHandler`] decides what concerns one. The only caller is the daemon's driver (`daemon/src/node/driver.rs`), or a
//! simulation.
//!
//! A command's message becomes a draft. Drafts are cut into one signed entry while the entry before it is being flushed,
//! so that under load many messages share one signature and one flush. Invariants:
//!
//! * After a start, nothing is written until this peer knows that its disk was not rolled back (`standing.rs`).
//! * An own entry is applied, sent and answered only when it is on disk: a peer that loses its last milliseconds never
//!   contradicts what others hold of it.
//! * An entry of another author is verified, applied in causal order and forwarded at once, then written, and shown when
//!   written. Its author receives a receipt only after the flush.
//! * At most one batch is being written at a time, so that a failed write never leaves a hole in a log.

mod commands;
mod dialing;
mod dissemination;
mod forks;
mod frames;
mod ingest;
#[cfg(test)]
mod inspect;
mod liveness;
pub(crate) mod members;
mod persist;
pub(crate) mod repair;
mod role;
mod standing;
pub(crate) mod state;
pub(crate) mod timers;
mod vectors;
mod views;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::admission::door::{Door, DoorHandler};
use crate::config::NodeSettings;
use crate::delivery::drafts::DraftOrigin;
use crate::input::{Input, Now};
use crate::log::entry::{Control, Entry, Header, Hlc, Incarnation, LogId, Seq};
use crate::log::heads::LogHead;
use crate::membership::roster::Roster;
use crate::node::role::Role;
use crate::node::standing::Standing;
use crate::node::state::{Delivery, Local, Logs, Membership};
use crate::node::timers::Timer;
use crate::output::Output;
use crate::peers::Peers;
use crate::peers::addrs::RecordOwner;
use crate::rendezvous::events::RoleInput;
use crate::restore::{Restored, Start, StoredHead};
use crate::timers::Timers;

/// One peer of one room.
pub struct Node {
    settings: NodeSettings,
    rng: ChaCha8Rng,
    local: Local,
    logs: Logs,
    membership: Membership,
    peers: Peers,
    delivery: Delivery,
    door: Door,
    role: Role,
    timers: Timers<Timer>,
    out: VecDeque<Output>,
    life: Life,
}

/// Whether the node works or stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Works.
    Running,
    /// Refuses new commands; work under way is finished.
    Stopping,
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
        let me = PeerId::from_bytes(key.verifying_key().to_bytes());
        let rng = ChaCha8Rng::from_seed(seed);
        let node = |room: RoomId, incarnation: Incarnation| Self {
            settings,
            rng,
            local: Local { key, me, room, log: LogId { author: me, incarnation }, standing: Standing::default() },
            logs: Logs::default(),
            membership: Membership::default(),
            peers: Peers::default(),
            delivery: Delivery::default(),
            door: Door::default(),
            role: Role::default(),
            timers: Timers::new(),
            out: VecDeque::new(),
            life: Life::Running,
        };
        let mut node = match start {
            Start::Found { room_name, open, name, incarnation, addrs } => {
                chat_proto::text::check_name("room name", &room_name)?;
                chat_proto::text::check_name("name", &name)?;
                let mut node = node(RoomId::from_bytes([0; 32]), incarnation);
                node.peers.own_addrs = addrs;
                node.found(room_name, open, name, now)?;
                node
            }
            Start::Restore(restored) => {
                let mut node = node(restored.room, restored.incarnation);
                node.restore(restored, now)?;
                node
            }
        };
        let newest = node.logs.heads.head(&node.local.log).map(|head| (head.seq, head.hash));
        node.delivery.receipts.begin(node.local.log, newest);
        let role = node.settings.role.clone();
        node.begin_role(role, now);
        node.timers.set(Timer::AntiEntropy, now.mono + node.settings.anti_entropy);
        node.timers.set(Timer::Seen, now.mono + timers::SEEN_EVERY);
        Ok(node)
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
        match input {
            Input::Command(id, command) => self.on_command(id, command, now),
            Input::Up(peer, path) => self.on_up(peer, path, now),
            Input::Path(peer, path) => self.on_path(peer, path, now),
            Input::Down(peer) => self.on_down(peer, now),
            Input::DialFailed(peer) => self.on_dial_failed(peer, now),
            Input::Frame(peer, raw) => self.on_frame(peer, &raw, now),
            Input::Persisted(batch) => self.on_persisted(batch, now),
            Input::PersistFailed(batch, error) => self.on_persist_failed(batch, error, now),
            Input::Loaded(id, entries) => self.on_loaded(id, entries, now),
            Input::Damaged(log, seq) => self.on_damaged(log, seq, now),
            Input::Admission { id, peer, observed, request, words } => {
                self.door().on_admission(id, peer, observed, request, words, now);
            }
            Input::AdmissionGone(id) => self.door().on_admission_gone(id),
            Input::Addrs(addrs) => self.on_addrs(addrs, now),
            Input::Role(event) => self.tell_role(RoleInput::Net(event), now),
            Input::Deaf => self.on_deaf(now),
            Input::Tick => self.on_tick(now),
        }
        self.settle(now);
    }

    /// What follows every input:
    ///
    /// 1. The membership is derived anew where control entries were applied; entries that waited for it are reconsidered.
    /// 2. Unless a batch is being written, the next one is cut: drafts are sealed into one signed own entry, and received
    ///    entries go with it, or alone where there is no draft.
    fn settle(&mut self, now: Now) {
        self.catch_up(now);
        self.flush(now);
    }

    /// Takes the next output; `None` when there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When the node wants an [`Input::Tick`], on the monotonic clock of [`Now`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    fn found(&mut self, room_name: String, open: bool, name: String, now: Now) -> Result<(), StartError> {
        let control = Control::Genesis { room_name, open, name, nonce: self.rng.random() };
        let header = self.next_header(Vec::new(), Hlc::from_wall(now.wall));
        let genesis = Entry::sign(header, crate::log::entry::Body::Control(control), &self.local.key)?;
        self.local.room = RoomId::from_bytes(*genesis.hash().as_bytes());
        self.membership.controls.add(&genesis, genesis.header().order_after(None), &self.local.room);
        self.derive(now);
        self.write_own(genesis, vec![DraftOrigin::Nobody], now);
        Ok(())
    }

    fn restore(&mut self, restored: Restored, now: Now) -> Result<(), StartError> {
        for head in restored.heads {
            let StoredHead { log, seq, hash, label, order, first } = head;
            self.logs.heads.restore(log, LogHead { seq, hash, label, order, first });
        }
        for (signed, order) in restored.controls {
            if let Some(entry) = repair::intact(signed) {
                self.membership.controls.add(&entry, order, &self.local.room);
            }
        }
        for (one, other) in restored.forks {
            self.logs.forks.restore(one, other);
        }
        for record in restored.addrs {
            self.peers.addrs.add(record, RecordOwner::Member);
        }
        for (peer, at) in restored.seen {
            self.peers.connections.restore_seen(peer, at);
        }
        self.begin_standing(restored.mark_agrees);
        self.derive(now);
        // A crash, or an older build, may have left messages hidden although nothing cuts their logs.
        for log in restored.hidden {
            if self.logs.heads.cut(&log).is_none() {
                self.logs.disk.changes.cuts.insert(log, Seq::MAX);
            }
        }
        self.dial_everybody(now);
        Ok(())
    }

    /// The header of this peer's next entry; hashes are filled in when it is signed.
    fn next_header(&self, deps: Vec<crate::log::entry::Dep>, time: Hlc) -> Header {
        let head = self.logs.heads.head(&self.local.log);
        Header {
            version: 1,
            room: self.local.room,
            log: self.local.log,
            seq: head.map_or(Seq(1), |head| head.seq.next()),
            backlink: head.map(|head| head.hash),
            time,
            deps,
            body_hash: [0; 32],
            body_bytes: 0,
        }
    }

    fn door(&mut self) -> DoorHandler<'_> {
        DoorHandler {
            local: &self.local,
            membership: &self.membership,
            logs: &self.logs,
            peers: &self.peers,
            life: self.life,
            door: &mut self.door,
            drafts: &mut self.delivery.drafts,
            out: &mut self.out,
        }
    }

    fn is_member(&self) -> bool {
        self.membership.roster.is_member(&self.local.me)
    }

    fn jitter(&mut self) -> f64 {
        self.rng.random_range(0.0..1.0)
    }
}

#[cfg(test)]
mod tests;
