//! The network between machines: connections that carry frames in order, and directions that are blocked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::sim::room::machine::Host;

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnId(pub(super) u64);

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnEnd {
    Dialler,
    Acceptor,
}

impl ConnEnd {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Dialler => 0,
            Self::Acceptor => 1,
        }
    }
}

/// The state of one end, as its machine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The machine has not learned of the connection yet.
    Rising,
    /// Frames may be sent.
    Up,
    /// The machine has learned of the end, or is gone.
    Down,
}

/// Frames in transit to one end.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) frames: VecDeque<(Duration, Bytes)>,
    pub(super) bytes: usize,
    /// When the last of them arrives; later frames arrive after it.
    pub(super) last: Duration,
    /// Whether an event is scheduled for the first of them.
    pub(super) moving: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct RoomConn {
    pub(super) ends: [Host; 2],
    phases: [Phase; 2],
    lanes: [Lane; 2],
    /// Ends from which nothing more is accepted.
    closed: [bool; 2],
}

impl RoomConn {
    pub(super) fn host(&self, end: ConnEnd) -> Host {
        self.ends[end.index()]
    }

    pub(super) fn end_of(&self, host: Host) -> ConnEnd {
        if self.ends[0] == host { ConnEnd::Dialler } else { ConnEnd::Acceptor }
    }

    pub(super) fn phase(&self, end: ConnEnd) -> Phase {
        self.phases[end.index()]
    }

    pub(super) fn set_phase(&mut self, end: ConnEnd, phase: Phase) {
        self.phases[end.index()] = phase;
    }

    /// Frames in transit to an end.
    pub(super) fn lane(&mut self, to: ConnEnd) -> &mut Lane {
        &mut self.lanes[to.index()]
    }

    pub(super) fn takes(&self, from: ConnEnd) -> bool {
        !self.closed[from.index()] && self.phase(from) == Phase::Up
    }

    pub(super) fn close(&mut self, from: ConnEnd) {
        self.closed[from.index()] = true;
    }

    /// Whether both machines know of it and may send.
    pub(super) fn is_open(&self) -> bool {
        self.phases == [Phase::Up; 2]
    }

    pub(super) fn is_over(&self) -> bool {
        self.phases == [Phase::Down; 2]
    }
}

/// All connections, and what they cannot cross.
#[derive(Debug, Default)]
pub(super) struct RoomNetwork {
    pub(super) conns: BTreeMap<ConnId, RoomConn>,
    pub(super) dialling: BTreeSet<(Host, Host)>,
    /// Nothing travels from the first to the second.
    pub(super) blocked: BTreeSet<(Host, Host)>,
    /// Machines that accept no connections; they dial others.
    pub(super) shielded: BTreeSet<Host>,
    /// Open TCP watches, the watching machine first.
    pub(super) watches: BTreeSet<(Host, Host)>,
    newest: BTreeMap<(Host, Host), ConnId>,
    next: u64,
}

impl RoomNetwork {
    pub(super) fn open(&mut self, dialler: Host, acceptor: Host, up_at: [Duration; 2]) -> ConnId {
        self.next += 1;
        let id = ConnId(self.next);
        let lane = |last| Lane { last, ..Lane::default() };
        let lanes = [lane(up_at[0]), lane(up_at[1])];
        let conn = RoomConn { ends: [dialler, acceptor], phases: [Phase::Rising; 2], lanes, closed: [false; 2] };
        self.conns.insert(id, conn);
        self.newest.insert(pair(dialler, acceptor), id);
        id
    }

    /// The newest connection of two machines that is not over.
    pub(super) fn between(&mut self, a: Host, b: Host) -> Option<(ConnId, &mut RoomConn)> {
        let id = *self.newest.get(&pair(a, b))?;
        self.conns.get_mut(&id).map(|conn| (id, conn))
    }

    pub(super) fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub(super) fn of(&self, host: Host) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, conn)| conn.ends.contains(&host)).map(|(id, _)| *id).collect()
    }

    pub(super) fn forget_if_over(&mut self, id: ConnId) {
        if self.conns.get(&id).is_some_and(RoomConn::is_over) {
            self.conns.remove(&id);
        }
    }
}

fn pair(a: Host, b: Host) -> (Host, Host) {
    (a.min(b), a.max(b))
}
