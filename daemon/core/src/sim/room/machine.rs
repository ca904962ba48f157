//! A machine: its key, clocks and disk, and the node on it while its process runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::PeerId;
use chat_proto::ticket::Ticket;
use ed25519_dalek::SigningKey;

use crate::input::AdmissionId;
use crate::membership::roster::Roster;
use crate::node::Node;
use crate::sim::clock::SimClock;
use crate::sim::queue::SimEvent;
use crate::sim::room::machine::clients::Clients;
use crate::sim::room::machine::disk::{HeldData, SimDisk};
use crate::sim::room::plan::CrashPoint;
use crate::sim::room::world::RoomWorld;

pub(super) mod clients;
pub(super) mod disk;
pub(super) mod flood_tree;

/// Names a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Host(pub(super) usize);

/// What a machine is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MachineState {
    /// Not in the room.
    Outside,
    /// Asks a member for admission.
    Asking(AdmissionId, Host),
    /// A node runs.
    Running,
    /// The node gets no processor time.
    Suspended,
    /// The node is stopping and finishes its work.
    Stopping,
    /// The process has ended.
    Off,
}

/// A machine.
pub(super) struct Machine {
    pub(super) key: SigningKey,
    pub(super) id: PeerId,
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) disk: SimDisk,
    pub(super) backup: Option<HeldData>,
    pub(super) node: Option<Box<Node>>,
    pub(super) state: MachineState,
    /// Number of starts and ends; events for an earlier process are dropped.
    pub(super) life: u32,
    /// Time of the scheduled wake-up.
    pub(super) woken: Option<Duration>,
    pub(super) roster: Arc<Roster>,
    pub(super) doors: Vec<PeerId>,
    pub(super) ticket: Option<Ticket>,
    /// Events that arrived while the process was suspended.
    pub(super) deferred: Vec<SimEvent<RoomWorld>>,
    pub(super) clock: SimClock,
    /// Frames and bytes that it sent, datagrams included.
    pub(super) sent: (u64, u64),
    /// Whether the process has read its disk and nothing else.
    pub(super) booting: bool,
    /// The step at which the process dies.
    pub(super) trap: Option<CrashPoint>,
    /// Clients of the local API.
    pub(super) clients: Clients,
    /// Number of ticks in a row after which the node was due again at once.
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
            disk: SimDisk::default(),
            backup: None,
            node: None,
            state: MachineState::Outside,
            life: 0,
            woken: None,
            roster: Arc::default(),
            doors: Vec::new(),
            ticket: None,
            deferred: Vec::new(),
            clock: SimClock::default(),
            sent: (0, 0),
            booting: false,
            trap: None,
            clients: Clients::default(),
            restless: 0,
        }
    }

    /// Starts a process.
    pub(super) fn begin(&mut self, at: Duration) {
        self.life += 1;
        self.clock.restart(at);
        self.woken = None;
        self.deferred.clear();
    }

    /// Ends the process.
    pub(super) fn end(&mut self) {
        self.life += 1;
        self.node = None;
        self.deferred.clear();
        self.woken = None;
        self.trap = None;
    }

    /// Whether a process exists, running or not.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, MachineState::Running | MachineState::Suspended | MachineState::Stopping)
    }

    /// Whether this machine lets a peer speak the room protocol.
    pub(super) fn admits(&self, peer: &PeerId) -> bool {
        match self.roster.people.get(peer) {
            Some(person) => person.active,
            None => self.doors.contains(peer) || self.roster.unsure.contains(peer),
        }
    }
}
