//! A peer of the role simulation: its process may run, sleep or be gone.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;
use rand::RngExt;

use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::RoleInput;
use crate::rendezvous::settings::RoleSettings;
use crate::sim::clock::SimClock;
use crate::sim::role::network::Id;
use crate::sim::role::world::RoleWorld;
use crate::types::{Change, Switch};

pub(crate) const ROOM: RoomId = RoomId::from_bytes([7; 32]);

/// Maximum number of inputs that wait for a sleeping peer, as its socket buffers have an end.
const INBOX_MAX: usize = 4_000;

/// Whether a peer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessState {
    Running,
    /// Its process does not run, its kernel does.
    Suspended,
    /// Its process is gone.
    Dead,
}

/// A peer: the role's state machine, and what it asked the world for.
pub(super) struct SimPeer {
    pub(super) id: PeerId,
    key: SigningKey,
    pub(super) life: ProcessState,
    pub(super) role: Rendezvous,
    /// Number of restarts: what was meant for an earlier process is dropped.
    pub(super) run: u64,
    inbox: VecDeque<RoleInput>,
    pub(super) clock: SimClock,
    pub(super) wake_at: Option<Duration>,
    /// Time until which it is starved: everything waits.
    pub(super) busy_until: Duration,
    pub(super) keep: BTreeSet<PeerId>,
    pub(super) relay: Switch,
    /// Whether it was asked to stop: it runs on only until the role is handed over.
    pub(super) stopping: bool,
    pub(super) leaving: bool,
    pub(super) changes: Vec<(Duration, Change)>,
    pub(super) frames_sent: u64,
    pub(super) bytes_sent: u64,
}

pub(crate) fn key_of(id: Id) -> SigningKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(id as u64 + 1).to_be_bytes());
    SigningKey::from_bytes(&seed)
}

impl SimPeer {
    pub(super) fn start(id: Id, settings: &RoleSettings, seed: u64) -> Self {
        let (key, clock) = (key_of(id), SimClock::default());
        Self {
            id: PeerId::from_bytes(key.verifying_key().to_bytes()),
            life: ProcessState::Running,
            role: Rendezvous::new(ROOM, key.clone(), settings.clone(), seed, clock.at(Duration::ZERO)),
            key,
            run: 0,
            inbox: VecDeque::new(),
            clock,
            wake_at: None,
            busy_until: Duration::ZERO,
            keep: BTreeSet::new(),
            relay: Switch::Off,
            stopping: false,
            leaving: false,
            changes: Vec::new(),
            frames_sent: 0,
            bytes_sent: 0,
        }
    }

    pub(super) fn put_aside(&mut self, input: RoleInput) {
        if self.inbox.len() < INBOX_MAX {
            self.inbox.push_back(input);
        }
    }

    pub(super) fn has_inbox(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// What was put aside, in order.
    pub(super) fn take_inbox(&mut self) -> VecDeque<RoleInput> {
        std::mem::take(&mut self.inbox)
    }

    /// When the role wants to be woken, in whole microseconds.
    pub(super) fn wake_wanted(&self) -> Option<Duration> {
        let micros = self.role.poll_timeout()?.as_nanos().div_ceil(1_000);
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

impl RoleWorld {
    /// The process dies; its kernel closes its connections.
    pub(super) fn kill(&mut self, id: Id) {
        self.power_off(id);
        self.close_watches(id);
    }

    /// The machine dies without a word.
    pub(super) fn power_off(&mut self, id: Id) {
        self.peers[id].life = ProcessState::Dead;
        self.peers[id].inbox.clear();
        self.watches.retain(|(by, _)| *by != id);
    }

    /// A new process of a peer starts and remembers nothing of the role; connections to the old one are replaced.
    pub(super) fn restart(&mut self, id: Id) {
        let seed = self.rng.random();
        let (now, settings) = (self.time_of(id), self.settings.clone());
        self.conns.retain(|(a, b), _| *a != id && *b != id);
        let peer = &mut self.peers[id];
        peer.role = Rendezvous::new(ROOM, peer.key.clone(), settings, seed, now);
        peer.life = ProcessState::Running;
        peer.run += 1;
        peer.inbox.clear();
        peer.wake_at = None;
        peer.busy_until = Duration::ZERO;
        peer.keep.clear();
        peer.relay = Switch::Off;
        peer.stopping = false;
        peer.leaving = false;
        self.introduce(id);
        self.presence_soon();
    }

    pub(super) fn suspend(&mut self, id: Id) {
        self.peers[id].life = ProcessState::Suspended;
    }

    /// A suspended process goes on: it reads what has arrived, and its timers are late.
    pub(super) fn resume(&mut self, id: Id) {
        if self.peers[id].life != ProcessState::Suspended {
            return;
        }
        self.peers[id].life = ProcessState::Running;
        for input in self.peers[id].take_inbox() {
            self.give(id, input);
        }
        self.peers[id].wake_at = None;
        self.give(id, RoleInput::Tick);
    }

    /// The peer stops in an orderly way: it hands the role over, then tells its neighbours.
    pub(super) fn stop(&mut self, id: Id) {
        self.peers[id].stopping = true;
        self.give(id, RoleInput::Leave);
    }

    /// The peer handed the role over and says goodbye.
    pub(super) fn gone(&mut self, id: Id) {
        self.peers[id].leaving = true;
        for to in self.neighbours(id) {
            let now = self.now();
            let at = self.net.stream(id, to, now, &mut self.rng);
            if let Some(conn) = self.connected(id, to) {
                self.schedule(at - now, move |world| world.bye(id, to, conn));
            }
        }
        self.kill(id);
    }
}
