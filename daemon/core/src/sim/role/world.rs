//! The world of the simulation: peers, connections, time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::api::peers::RoleView;
use chat_proto::id::{PeerId, Term};
use chat_proto::time::Timestamp;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::input::Now;
use crate::rendezvous::io::{RoleFault, RoleInput};
use crate::rendezvous::settings::RoleSettings;
use crate::sim::role::events::{Event, Scheduled};
use crate::sim::role::net::{Id, Net, Us, Way};
use crate::sim::role::peer::{Life, Peer};
use crate::types::PathInfo;

/// After so long without a byte a connection is given up, as QUIC does.
const IDLE: Us = 15_000_000;

/// How often peers try to connect, and idle connections are looked for.
const SWEEP: Us = 250_000;

/// How long it takes until everybody has heard who is online.
pub(super) const PRESENCE: Us = 300_000;

/// More events than this at one moment: somebody wants to be woken for ever.
const AT_ONCE_MAX: u32 = 200_000;

/// A connection, seen from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conn {
    pub(super) number: u64,
    alive: Us,
}

/// Everything.
pub(super) struct World {
    pub(super) now: Us,
    pub(super) rng: ChaCha8Rng,
    pub(super) settings: RoleSettings,
    pub(super) peers: Vec<Peer>,
    pub(super) index: BTreeMap<PeerId, Id>,
    pub(super) net: Net,
    pub(super) conns: BTreeMap<(Id, Id), Conn>,
    /// Which pairs connect by themselves; all, where there is no list.
    pub(super) mesh: Option<BTreeSet<(Id, Id)>>,
    pub(super) watchers: BTreeSet<(Id, Id)>,
    /// Peers that accept no TCP watch.
    pub(super) no_watch: BTreeSet<Id>,
    pub(super) members: BTreeSet<PeerId>,
    pub(super) faults: Vec<(Id, PeerId, RoleFault)>,
    pub(super) presence_due: bool,
    pub(super) probes: u64,
    /// Digest of every frame sent: time, sender, recipient, bytes.
    pub(super) trace: blake3::Hasher,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    conn_number: u64,
    at_once: u32,
}

impl World {
    /// `many` peers, all members, all starting at once, connected by a mesh.
    pub(super) fn new(many: usize, way: Way, seed: u64) -> Self {
        Self::with(many, way, seed, RoleSettings::default(), None)
    }

    pub(super) fn with(
        many: usize,
        way: Way,
        seed: u64,
        settings: RoleSettings,
        mesh: Option<BTreeSet<(Id, Id)>>,
    ) -> Self {
        let mut world = Self {
            now: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            peers: Vec::new(),
            index: BTreeMap::new(),
            net: Net::new(way),
            conns: BTreeMap::new(),
            mesh,
            watchers: BTreeSet::new(),
            no_watch: BTreeSet::new(),
            members: BTreeSet::new(),
            faults: Vec::new(),
            presence_due: false,
            probes: 0,
            trace: blake3::Hasher::new(),
            queue: BinaryHeap::new(),
            order: 0,
            conn_number: 0,
            at_once: 0,
            settings,
        };
        for id in 0..many {
            let seed = world.rng.random();
            let peer = Peer::start(id, &world.settings, seed, world.now_of(0));
            world.index.insert(peer.id, id);
            world.members.insert(peer.id);
            world.peers.push(peer);
        }
        for id in 0..many {
            world.introduce(id);
        }
        world.schedule(0, Event::Sweep);
        world
    }

    /// Tells a peer who is a member and where it lives.
    pub(super) fn introduce(&mut self, id: Id) {
        let members = RoleInput::Members { active: self.members.clone(), former: BTreeSet::new() };
        self.give(id, members);
        self.give(id, RoleInput::Addrs(vec![addr(id)]));
    }

    fn now_of(&self, off_ms: u64) -> Now {
        let wall = 1_790_000_000_000 + self.now / 1_000 + off_ms;
        Now { mono: Duration::from_micros(self.now), wall: Timestamp::from_ms(wall) }
    }

    pub(super) fn time_of(&self, id: Id) -> Now {
        self.now_of(self.peers[id].clock_off_ms)
    }

    pub(super) fn schedule(&mut self, at: Us, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), order: self.order, event }));
    }

    /// Runs until this time has passed.
    pub(super) fn run_for(&mut self, span: Us) {
        let end = self.now + span;
        self.run_until(end, |_| false);
    }

    /// Runs until `done` or the time has come; returns whether it was done.
    pub(super) fn run_until(&mut self, end: Us, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            match self.queue.peek() {
                Some(Reverse(next)) if next.at <= end => {}
                Some(_) | None => {
                    self.now = end;
                    return done(self);
                }
            }
            if let Some(Reverse(next)) = self.queue.pop() {
                self.at_once = if next.at == self.now { self.at_once + 1 } else { 0 };
                assert!(self.at_once < AT_ONCE_MAX, "time stands still");
                self.now = next.at;
                self.happen(next.event);
            }
        }
    }

    /// Gives an input to a peer's machine now, unless it sleeps or is starved, and does what it says.
    pub(super) fn give(&mut self, id: Id, input: RoleInput) {
        let now = self.time_of(id);
        let peer = &mut self.peers[id];
        match peer.life {
            Life::Dead => return,
            Life::Suspended => return peer.put_aside(input),
            Life::Running if self.now < peer.busy_until => {
                let (at, run) = (peer.busy_until, peer.run);
                return self.schedule(at, Event::Input { to: id, run, input });
            }
            Life::Running => {}
        }
        peer.role.handle(input, now);
        self.drain(id);
    }

    pub(super) fn drain(&mut self, id: Id) {
        while let Some(output) = self.peers[id].role.poll_output() {
            self.execute(id, output);
        }
        let peer = &mut self.peers[id];
        let wake = peer.role.poll_timeout().map(|at| Us::try_from(at.as_nanos().div_ceil(1_000)).unwrap_or(Us::MAX));
        let run = peer.run;
        if peer.life == Life::Running
            && let Some(at) = wake
            && peer.wake_at.is_none_or(|known| at < known || known < self.now)
        {
            peer.wake_at = Some(at);
            self.schedule(at, Event::Wake { id, run });
        }
    }

    /// A frame to a peer, as an ordered stream or a datagram would bring it.
    pub(super) fn connected(&self, a: Id, b: Id) -> Option<Conn> {
        self.conns.get(&(a.min(b), a.max(b))).copied()
    }

    /// Connects who wants to be, gives up what is idle.
    pub(super) fn sweep(&mut self) {
        self.schedule(self.now + SWEEP, Event::Sweep);
        let lost: Vec<(Id, Id)> = self
            .conns
            .iter_mut()
            .filter_map(|(&(a, b), conn)| {
                let runs = |id: Id| self.peers[id].life == Life::Running;
                if runs(a) && runs(b) && self.net.both_ways(a, b) {
                    conn.alive = self.now;
                }
                (conn.alive + IDLE < self.now).then_some((a, b))
            })
            .collect();
        for (a, b) in lost {
            self.disconnect(a, b);
        }
        for (a, b) in self.wanted() {
            let runs = |id: Id| self.peers[id].life == Life::Running && !self.peers[id].leaving;
            if runs(a) && runs(b) && self.net.both_ways(a, b) && !self.conns.contains_key(&(a, b)) {
                let at = self.now + self.net.rtt(a, b) + self.rng.random_range(0..2_000);
                let runs = (self.peers[a].run, self.peers[b].run);
                self.schedule(at, Event::Connect { a, b, runs });
            }
        }
    }

    fn wanted(&self) -> Vec<(Id, Id)> {
        let mut pairs: BTreeSet<(Id, Id)> = match &self.mesh {
            Some(mesh) => mesh.clone(),
            None => (0..self.peers.len()).flat_map(|a| (a + 1..self.peers.len()).map(move |b| (a, b))).collect(),
        };
        if self.mesh.is_some() {
            for (id, peer) in self.peers.iter().enumerate() {
                pairs.extend(peer.keep.iter().filter_map(|kept| self.index.get(kept)).map(|kept| {
                    let kept = *kept;
                    (id.min(kept), id.max(kept))
                }));
            }
        }
        pairs.into_iter().filter(|pair| !self.conns.contains_key(pair)).collect()
    }

    pub(super) fn connect(&mut self, a: Id, b: Id) {
        self.conn_number += 1;
        let conn = Conn { number: self.conn_number, alive: self.now };
        self.net.reset_stream(a, b);
        self.conns.insert((a, b), conn);
        for (id, other, inbound) in [(a, b, false), (b, a, true)] {
            let path = PathInfo {
                direct: self.net.direct(a, b),
                rtt: Duration::from_micros(self.net.rtt(a, b)),
                loss: 0.0,
                remote: self.net.direct(a, b).then(|| addr(other)),
                inbound,
            };
            let peer = self.peers[other].id;
            self.give(id, RoleInput::Up(peer, path));
        }
        self.presence_soon();
    }

    pub(super) fn disconnect(&mut self, a: Id, b: Id) {
        if self.conns.remove(&(a.min(b), a.max(b))).is_some() {
            for (id, other) in [(a, b), (b, a)] {
                let peer = self.peers[other].id;
                self.give(id, RoleInput::Down(peer));
            }
            self.presence_soon();
        }
    }

    pub(super) fn presence_soon(&mut self) {
        if !self.presence_due {
            self.presence_due = true;
            self.schedule(self.now + PRESENCE, Event::Presence);
        }
    }

    /// Tells everybody who is connected to it, directly or through others.
    pub(super) fn presence(&mut self) {
        self.presence_due = false;
        for group in self.groups(|world, a, b| world.connected(a, b).is_some()) {
            let online: BTreeSet<PeerId> = group.iter().map(|id| self.peers[*id].id).collect();
            for id in group {
                self.give(id, RoleInput::Online(online.clone()));
            }
        }
    }

    /// Peers in groups that hang together by `linked`.
    pub(super) fn groups(&self, linked: impl Fn(&Self, Id, Id) -> bool) -> Vec<Vec<Id>> {
        let mut rest: BTreeSet<Id> = (0..self.peers.len()).collect();
        let mut groups = Vec::new();
        while let Some(first) = rest.pop_first() {
            let mut group = vec![first];
            let mut next = 0;
            while let Some(&id) = group.get(next) {
                next += 1;
                let found: Vec<Id> = rest.iter().copied().filter(|other| linked(self, id, *other)).collect();
                for other in found {
                    rest.remove(&other);
                    group.push(other);
                }
            }
            groups.push(group);
        }
        groups
    }

    pub(super) fn running(&self) -> impl Iterator<Item = Id> {
        (0..self.peers.len()).filter(|id| self.peers[*id].life == Life::Running)
    }

    /// Who believes to hold the role.
    pub(super) fn holders(&self) -> Vec<Id> {
        self.running().filter(|id| self.peers[*id].role.role() == RoleView::Holder).collect()
    }

    /// Whom a peer takes for the holder.
    pub(super) fn believed(&self, id: Id) -> Option<(Id, Term)> {
        self.peers[id].role.holder().and_then(|(peer, term)| self.index.get(&peer).map(|id| (*id, term)))
    }

    /// The holder all of these agree on, if they do.
    pub(super) fn agreed(&self, among: &[Id]) -> Option<Id> {
        let mut believed = among.iter().map(|id| self.believed(*id));
        let first = believed.next()??;
        (believed.all(|other| other == Some(first)) && among.contains(&first.0)).then_some(first.0)
    }

    /// The holder all running peers agree on.
    pub(super) fn holder(&self) -> Option<Id> {
        self.agreed(&self.running().collect::<Vec<_>>())
    }

    pub(super) fn frame_to(&mut self, from: Id, to: Id, frame: &Bytes, conn: Conn, at: Us) {
        let event = Event::Frame { from, to, conn: conn.number, frame: frame.clone() };
        self.schedule(at, event);
    }

    /// All changes of the role that any peer saw, by time.
    pub(super) fn changes(&self) -> usize {
        self.peers.iter().map(|peer| peer.changes.len()).sum()
    }
}

pub(super) fn addr(id: Id) -> SocketAddr {
    let [high, low] = u16::try_from(id).unwrap_or(0).to_be_bytes();
    SocketAddr::from(([10, high, low, 1], 24283))
}
