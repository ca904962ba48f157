//! The world of the role simulation: peers, the network between them, and the one queue of everything that will happen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::api::peers::RoleView;
use chat_proto::id::{PeerId, Term};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::input::Now;
use crate::rendezvous::events::{FrameChannel, RoleFault, RoleInput, RoleOutput};
use crate::rendezvous::settings::RoleSettings;
use crate::sim::clock::random_span;
use crate::sim::queue::SimQueue;
use crate::sim::role::connections::RoleConn;
use crate::sim::role::network::{DIAL_TIMEOUT, Id, LinkModel, RoleNetwork};
use crate::sim::role::peer::{ProcessState, SimPeer};
use crate::types::{ProbeOutcome, RoleEvent, RoleRequest};

/// All peers and everything between them.
pub(super) struct RoleWorld {
    pub(super) queue: SimQueue<Self>,
    pub(super) rng: ChaCha8Rng,
    pub(super) settings: RoleSettings,
    pub(super) peers: Vec<SimPeer>,
    pub(super) index: BTreeMap<PeerId, Id>,
    pub(super) net: RoleNetwork,
    pub(super) conns: BTreeMap<(Id, Id), RoleConn>,
    pub(super) conns_opened: u64,
    /// Pairs that connect by themselves; all, where there is no list.
    pub(super) mesh: Option<BTreeSet<(Id, Id)>>,
    /// Open TCP watches, the watching peer first.
    pub(super) watches: BTreeSet<(Id, Id)>,
    /// Peers that accept no TCP watch.
    pub(super) no_watch: BTreeSet<Id>,
    pub(super) members: BTreeSet<PeerId>,
    /// Faults that peers found in what others sent.
    pub(super) faults: Vec<(Id, PeerId, RoleFault)>,
    pub(super) presence_due: bool,
    /// Digest of every frame sent: time, sender, recipient, bytes.
    pub(super) trace: blake3::Hasher,
}

impl RoleWorld {
    /// `many` peers, all members, all starting at once, connected by a full mesh.
    pub(super) fn new(many: usize, link: LinkModel, seed: u64) -> Self {
        Self::with_mesh(many, link, seed, None)
    }

    /// Peers of which only the pairs of `mesh` connect by themselves.
    pub(super) fn with_mesh(many: usize, link: LinkModel, seed: u64, mesh: Option<BTreeSet<(Id, Id)>>) -> Self {
        let mut world = Self {
            queue: SimQueue::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            settings: RoleSettings::default(),
            peers: Vec::new(),
            index: BTreeMap::new(),
            net: RoleNetwork::new(link),
            conns: BTreeMap::new(),
            conns_opened: 0,
            mesh,
            watches: BTreeSet::new(),
            no_watch: BTreeSet::new(),
            members: BTreeSet::new(),
            faults: Vec::new(),
            presence_due: false,
            trace: blake3::Hasher::new(),
        };
        for id in 0..many {
            let peer = SimPeer::start(id, &world.settings, world.rng.random());
            world.index.insert(peer.id, id);
            world.members.insert(peer.id);
            world.peers.push(peer);
        }
        for id in 0..many {
            world.introduce(id);
        }
        world.schedule(Duration::ZERO, Self::sweep);
        world
    }

    /// Tells a peer the members and its own address.
    pub(super) fn introduce(&mut self, id: Id) {
        let members = RoleInput::Members { active: self.members.clone(), former: BTreeSet::new() };
        self.give(id, members);
        self.give(id, RoleInput::Addrs(vec![addr(id)]));
    }

    pub(super) fn now(&self) -> Duration {
        self.queue.now()
    }

    /// What the clocks of a peer show now.
    pub(super) fn time_of(&self, id: Id) -> Now {
        self.peers[id].clock.at(self.now())
    }

    /// Lets something happen after a span.
    pub(super) fn schedule(&mut self, after: Duration, event: impl FnOnce(&mut Self) + 'static) {
        self.queue.push(self.queue.now() + after, event);
    }

    /// Lets something happen to a peer after a span, unless its process has been replaced by then.
    pub(super) fn schedule_for(&mut self, id: Id, after: Duration, event: impl FnOnce(&mut Self) + 'static) {
        let run = self.peers[id].run;
        self.schedule(after, move |world| {
            if world.peers[id].run == run {
                event(world);
            }
        });
    }

    /// Lets a span pass.
    pub(super) fn run_for(&mut self, span: Duration) {
        self.run_until(self.now() + span, |_| false);
    }

    /// Runs until `done` holds or the time has come; returns whether it holds.
    pub(super) fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            match self.queue.next(end) {
                Some(event) => event(self),
                None => return done(self),
            }
        }
    }

    /// A random span, in microseconds.
    pub(super) fn random_span(&mut self, span: std::ops::Range<Duration>) -> Duration {
        random_span(&mut self.rng, span)
    }

    /// Gives an input to a peer now, unless it sleeps or is starved, and carries out its outputs.
    pub(super) fn give(&mut self, id: Id, input: RoleInput) {
        let (now, time) = (self.now(), self.time_of(id));
        let peer = &mut self.peers[id];
        match peer.life {
            ProcessState::Dead => return,
            ProcessState::Suspended => return peer.put_aside(input),
            ProcessState::Running if now < peer.busy_until || peer.has_inbox() => {
                peer.put_aside(input);
                let after = peer.busy_until.saturating_sub(now);
                return self.schedule_for(id, after, move |world| world.read_inbox(id));
            }
            ProcessState::Running => {}
        }
        peer.role.handle(input, time);
        self.drain(id);
    }

    /// A peer that was starved reads what arrived meanwhile, in order.
    fn read_inbox(&mut self, id: Id) {
        if self.is_free(id, Self::read_inbox) {
            for input in self.peers[id].take_inbox() {
                self.give(id, input);
            }
        }
    }

    /// Whether a peer runs and is not starved; where it is starved, `then` is called again once it is not.
    fn is_free(&mut self, id: Id, then: fn(&mut Self, Id)) -> bool {
        let (now, peer) = (self.now(), &self.peers[id]);
        if peer.life != ProcessState::Running {
            return false;
        }
        let starved = now < peer.busy_until;
        if starved {
            self.schedule_for(id, peer.busy_until - now, move |world| then(world, id));
        }
        !starved
    }

    fn drain(&mut self, id: Id) {
        while let Some(output) = self.peers[id].role.poll_output() {
            self.execute(id, output);
        }
        let now = self.now();
        let peer = &mut self.peers[id];
        let Some(at) = peer.wake_wanted().filter(|_| peer.life == ProcessState::Running) else { return };
        if peer.wake_at.is_none_or(|known| at < known || known < now) {
            peer.wake_at = Some(at);
            self.schedule_for(id, at.saturating_sub(now), move |world| world.wake(id));
        }
    }

    fn wake(&mut self, id: Id) {
        if !self.is_free(id, Self::wake) {
            return;
        }
        let now = self.now();
        let peer = &mut self.peers[id];
        if peer.wake_at.is_none_or(|at| at > now) {
            return;
        }
        peer.wake_at = None;
        if peer.role.poll_timeout().is_some_and(|at| at.as_micros() <= now.as_micros()) {
            self.give(id, RoleInput::Tick);
        } else {
            self.drain(id);
        }
    }

    fn execute(&mut self, id: Id, output: RoleOutput) {
        match output {
            RoleOutput::Send { to, frame, delivery } => {
                for peer in to {
                    self.send(id, self.index[&peer], &frame, delivery);
                }
            }
            RoleOutput::Net(RoleRequest::OpenWatch(peer)) => self.open_watch(id, self.index[&peer]),
            RoleOutput::Net(RoleRequest::CloseWatch(peer)) => {
                self.watches.remove(&(id, self.index[&peer]));
            }
            RoleOutput::Net(RoleRequest::Probe(peer)) => self.probe(id, self.index[&peer]),
            RoleOutput::Net(RoleRequest::SwitchRelay(to)) => self.peers[id].relay = to,
            RoleOutput::Keep(peers) => self.peers[id].keep = peers,
            RoleOutput::Changed(change) => {
                let now = self.now();
                self.peers[id].changes.push((now, change));
            }
            RoleOutput::Released => self.schedule_for(id, Duration::ZERO, move |world| world.gone(id)),
            RoleOutput::Fault(peer, fault) => self.faults.push((id, peer, fault)),
            RoleOutput::Vacant { .. } | RoleOutput::Back { .. } => {}
        }
    }

    fn send(&mut self, from: Id, to: Id, frame: &Bytes, delivery: FrameChannel) {
        self.peers[from].frames_sent += 1;
        self.peers[from].bytes_sent += frame.len() as u64;
        let now = self.now();
        for part in [u64::try_from(now.as_micros()).expect("runs are short"), from as u64, to as u64] {
            self.trace.update(&part.to_le_bytes());
        }
        self.trace.update(frame);
        let Some(conn) = self.connected(from, to) else { return };
        let after = match delivery {
            FrameChannel::Datagram => self.net.datagram(from, to, &mut self.rng),
            FrameChannel::Stream => Some(self.net.stream(from, to, now, &mut self.rng) - now),
        };
        if let Some(after) = after {
            let frame = frame.clone();
            self.schedule(after, move |world| world.arrive(from, to, conn, frame));
        }
    }

    fn probe(&mut self, id: Id, of: Id) {
        let reached = self.peers[of].life == ProcessState::Running && self.net.tcp(id, of) && self.net.direct(id, of);
        let rtt = self.net.rtt(id, of);
        let (outcome, takes) = if reached {
            (ProbeOutcome::Answered { addr: addr(of), rtt }, rtt)
        } else {
            (ProbeOutcome::Unanswered(vec![addr(of)]), DIAL_TIMEOUT)
        };
        let peer = self.peers[of].id;
        self.schedule_for(id, takes, move |world| world.give(id, RoleInput::Net(RoleEvent::Probed(peer, outcome))));
    }

    pub(super) fn running(&self) -> impl Iterator<Item = Id> {
        (0..self.peers.len()).filter(|id| self.peers[*id].life == ProcessState::Running)
    }

    /// Peers that take themselves for the holder.
    pub(super) fn holders(&self) -> Vec<Id> {
        self.running().filter(|id| self.peers[*id].role.query().role() == RoleView::Holder).collect()
    }

    /// The peer that another one takes for the holder, and its term.
    pub(super) fn believed(&self, id: Id) -> Option<(Id, Term)> {
        self.peers[id].role.query().holder().and_then(|(peer, term)| self.index.get(&peer).map(|id| (*id, term)))
    }

    /// The holder that all of these agree on, if it is one of them.
    pub(super) fn agreed(&self, among: &[Id]) -> Option<Id> {
        let mut believed = among.iter().map(|id| self.believed(*id));
        let first = believed.next()??;
        (believed.all(|other| other == Some(first)) && among.contains(&first.0)).then_some(first.0)
    }

    /// The holder that all running peers agree on.
    pub(super) fn holder(&self) -> Option<Id> {
        self.agreed(&self.running().collect::<Vec<_>>())
    }

    /// Number of changes of the role that peers saw, all peers together.
    pub(super) fn changes(&self) -> usize {
        self.peers.iter().map(|peer| peer.changes.len()).sum()
    }
}

pub(super) fn addr(id: Id) -> SocketAddr {
    let [high, low] = u16::try_from(id).unwrap_or(0).to_be_bytes();
    SocketAddr::from(([10, high, low, 1], 24283))
}
