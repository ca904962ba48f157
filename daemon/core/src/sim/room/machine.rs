//! A machine: its key, clock and disk, and the node that runs on it, if one does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::PeerId;
use chat_proto::ticket::Ticket;
use ed25519_dalek::SigningKey;

use crate::input::AdmissionId;
use crate::membership::roster::Roster;
use crate::node::Node;
use crate::sim::clock::Clock;
use crate::sim::queue::Event;
use crate::sim::room::disk::{Disk, Held};
use crate::sim::room::world::World;

/// Names a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Host(pub(super) usize);

/// What a machine does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not in the room.
    Outside,
    /// Asks to be let in.
    Asking(AdmissionId, Host),
    /// A node runs.
    Running,
    /// The node runs and gets no time.
    Suspended,
    /// Told to stop; finishes what is on its way.
    Stopping,
    /// Off, the disk as it is.
    Off,
}

/// A machine.
pub(super) struct Machine {
    pub(super) key: SigningKey,
    pub(super) id: PeerId,
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) disk: Disk,
    pub(super) backup: Option<Held>,
    pub(super) node: Option<Box<Node>>,
    pub(super) state: State,
    /// Grows with each start and crash: what was meant for an earlier life is dropped.
    pub(super) life: u32,
    /// For when the next wake-up is set.
    pub(super) woken: Option<Duration>,
    pub(super) roster: Arc<Roster>,
    pub(super) doors: Vec<PeerId>,
    pub(super) ticket: Option<Ticket>,
    /// What happened while it was suspended.
    pub(super) deferred: Vec<Event<World>>,
    pub(super) clock: Clock,
    /// Frames and bytes that it sent, datagrams included.
    pub(super) sent: (u64, u64),
    /// After how many ticks in a row the node wanted another at once.
    pub(super) restless: u32,
}

impl Machine {
    pub(super) fn new(n: usize, key: SigningKey) -> Self {
        let id = PeerId::from_bytes(key.verifying_key().to_bytes());
        let port = 10_000 + u16::try_from(n).expect("a run has few machines");
        Self {
            key,
            id,
            name: format!("m{n}"),
            addr: SocketAddr::from(([192, 0, 2, 1], port)),
            disk: Disk::default(),
            backup: None,
            node: None,
            state: State::Outside,
            life: 0,
            woken: None,
            roster: Arc::default(),
            doors: Vec::new(),
            ticket: None,
            deferred: Vec::new(),
            clock: Clock::default(),
            sent: (0, 0),
            restless: 0,
        }
    }

    /// A process begins.
    pub(super) fn begin(&mut self, at: Duration) {
        self.life += 1;
        self.clock.restart(at);
        self.woken = None;
        self.deferred.clear();
    }

    /// The process is gone.
    pub(super) fn end(&mut self) {
        self.life += 1;
        self.node = None;
        self.deferred.clear();
        self.woken = None;
    }

    /// Whether a node is there, working or not.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Running | State::Suspended | State::Stopping)
    }

    /// Whether this machine lets a peer speak the room protocol.
    pub(super) fn admits(&self, peer: &PeerId) -> bool {
        match self.roster.people.get(peer) {
            Some(person) => person.active,
            None => self.doors.contains(peer),
        }
    }
}
