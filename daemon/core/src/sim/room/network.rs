//! The network between machines: connections that carry frames in order or break, partitions, slow readers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::sim::room::machine::Host;

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnId(pub(super) u64);

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Dialler,
    Acceptor,
}

impl End {
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

/// What a machine knows of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// `Up` is on its way.
    Rising,
    /// Frames may be sent.
    Up,
    /// `Down` was told, or the machine is gone.
    Down,
}

/// Frames on their way to one end.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) frames: VecDeque<(Duration, Bytes)>,
    pub(super) bytes: usize,
    /// When the last of them arrives: nothing overtakes it.
    pub(super) last: Duration,
    /// Whether an event stands for the first of them.
    pub(super) moving: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) ends: [Host; 2],
    phases: [Phase; 2],
    lanes: [Lane; 2],
    /// Nothing more is taken from this end.
    closed: [bool; 2],
}

impl Conn {
    pub(super) fn host(&self, end: End) -> Host {
        self.ends[end.index()]
    }

    pub(super) fn end_of(&self, host: Host) -> End {
        if self.ends[0] == host { End::Dialler } else { End::Acceptor }
    }

    pub(super) fn phase(&self, end: End) -> Phase {
        self.phases[end.index()]
    }

    pub(super) fn set_phase(&mut self, end: End, phase: Phase) {
        self.phases[end.index()] = phase;
    }

    /// Frames on their way to an end.
    pub(super) fn lane(&mut self, to: End) -> &mut Lane {
        &mut self.lanes[to.index()]
    }

    pub(super) fn takes(&self, from: End) -> bool {
        !self.closed[from.index()] && self.phase(from) == Phase::Up
    }

    pub(super) fn close(&mut self, from: End) {
        self.closed[from.index()] = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.phases == [Phase::Down; 2]
    }
}

/// All connections, and who cannot reach whom.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) conns: BTreeMap<ConnId, Conn>,
    pub(super) dialling: BTreeSet<(Host, Host)>,
    /// Nothing travels from the first to the second.
    pub(super) blocked: BTreeSet<(Host, Host)>,
    /// Nobody can call these; they call others.
    pub(super) shielded: BTreeSet<Host>,
    /// Who watches whose process.
    pub(super) watches: BTreeSet<(Host, Host)>,
    newest: BTreeMap<(Host, Host), ConnId>,
    next: u64,
}

impl Network {
    pub(super) fn open(&mut self, dialler: Host, acceptor: Host, up_at: [Duration; 2]) -> ConnId {
        self.next += 1;
        let id = ConnId(self.next);
        let lane = |last| Lane { last, ..Lane::default() };
        let lanes = [lane(up_at[0]), lane(up_at[1])];
        let conn = Conn { ends: [dialler, acceptor], phases: [Phase::Rising; 2], lanes, closed: [false; 2] };
        self.conns.insert(id, conn);
        self.newest.insert(pair(dialler, acceptor), id);
        id
    }

    /// The newest connection of two machines that is not over.
    pub(super) fn between(&mut self, a: Host, b: Host) -> Option<(ConnId, &mut Conn)> {
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
        if self.conns.get(&id).is_some_and(Conn::is_over) {
            self.conns.remove(&id);
        }
    }
}

fn pair(a: Host, b: Host) -> (Host, Host) {
    (a.min(b), a.max(b))
}
