//! A peer of the simulation: a machine that may run, sleep or be dead, and what it asked for.

use std::collections::{BTreeSet, VecDeque};

use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;

use crate::input::Now;
use crate::rendezvous::Rendezvous;
use crate::rendezvous::io::RoleInput;
use crate::rendezvous::settings::RoleSettings;
use crate::sim::role::net::{Id, Us};
use crate::types::{Change, Switch};

pub(crate) const ROOM: RoomId = RoomId::from_bytes([7; 32]);

/// Most inputs that wait for a sleeping peer: its socket buffers.
const INBOX_MAX: usize = 4_000;

/// Whether a peer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    /// Its process does not run, its kernel does.
    Suspended,
    /// Its process is gone.
    Dead,
}

/// A peer.
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) key: SigningKey,
    pub(super) life: Life,
    pub(super) role: Rendezvous,
    /// Grows with each start: what was meant for an earlier process is dropped.
    pub(super) run: u64,
    pub(super) inbox: VecDeque<RoleInput>,
    /// How far its wall clock is off, in milliseconds.
    pub(super) clock_off_ms: u64,
    pub(super) wake_at: Option<Us>,
    /// It is starved until then: everything waits.
    pub(super) busy_until: Us,
    pub(super) keep: BTreeSet<PeerId>,
    pub(super) relay: Switch,
    pub(super) leaving: bool,
    pub(super) changes: Vec<(Us, Change)>,
    pub(super) frames_sent: u64,
    pub(super) bytes_sent: u64,
}

pub(crate) fn key_of(id: Id) -> SigningKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(id as u64 + 1).to_be_bytes());
    SigningKey::from_bytes(&seed)
}

impl Peer {
    pub(super) fn start(id: Id, settings: &RoleSettings, seed: u64, now: Now) -> Self {
        let key = key_of(id);
        let role = Rendezvous::new(ROOM, key.clone(), settings.clone(), seed, now);
        Self {
            id: PeerId::from_bytes(key.verifying_key().to_bytes()),
            key,
            life: Life::Running,
            role,
            run: 0,
            inbox: VecDeque::new(),
            clock_off_ms: 0,
            wake_at: None,
            busy_until: 0,
            keep: BTreeSet::new(),
            relay: Switch::Off,
            leaving: false,
            changes: Vec::new(),
            frames_sent: 0,
            bytes_sent: 0,
        }
    }

    /// A new process of the same peer: it remembers nothing of the role.
    pub(super) fn restart(&mut self, settings: &RoleSettings, seed: u64, now: Now) {
        self.role = Rendezvous::new(ROOM, self.key.clone(), settings.clone(), seed, now);
        self.life = Life::Running;
        self.run += 1;
        self.inbox.clear();
        self.wake_at = None;
        self.busy_until = 0;
        self.keep.clear();
        self.relay = Switch::Off;
        self.leaving = false;
    }

    pub(super) fn put_aside(&mut self, input: RoleInput) {
        if self.inbox.len() < INBOX_MAX {
            self.inbox.push_back(input);
        }
    }
}
