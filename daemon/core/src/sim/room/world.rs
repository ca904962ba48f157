//! The world: all machines, the network between them, and the one queue of everything that will happen.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use chat_proto::id::PeerId;
use ed25519_dalek::SigningKey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::admission::codec::{AdmissionAnswer, AdmissionRequest};
use crate::input::{AdmissionId, Command, CommandId, Input, LoadId};
use crate::log::entry::{LogId, Seq};
use crate::output::{CommandError, Output, Reply};
use crate::sim::room::Plan;
use crate::sim::room::checker::Checker;
use crate::sim::room::disk::Op;
use crate::sim::room::machine::{Host, Machine, State};
use crate::sim::room::network::{ConnId, Network};
use crate::types::{RoleEvent, RoleRequest};

/// Most events in one run for each machine: one that goes on for ever is a fault.
const EVENTS_MAX: u64 = 2_000_000;

/// Most ticks in a row after each of which a node wants another at once: one that does so for ever takes a whole processor.
const RESTLESS_MAX: u32 = 20;

/// Something that will happen, perhaps to one life of one machine.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) to: Option<(Host, u32)>,
    pub(super) what: What,
}

/// What will happen.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The node's timer.
    Wake,
    /// The disk finished its oldest write.
    Written,
    /// Entries were read.
    Loaded { id: LoadId, log: LogId, from: Seq, to: Seq, bytes_max: usize },
    /// A connection stands.
    Up(ConnId),
    /// A connection ended.
    Down(ConnId),
    /// The next frame of a connection arrives.
    Arrive(ConnId),
    /// A datagram arrives.
    Datagram(ConnId, Bytes),
    /// A dial reached the other machine, or not; how often its gate was asked.
    Dialled(Host, u8),
    /// A dial failed.
    DialFailed(PeerId),
    /// Nothing came through for so long that both ends give up.
    Idle(ConnId),
    /// A stranger is at the door.
    Request(AdmissionId, Host, Box<AdmissionRequest>),
    /// The door answers a stranger.
    Answer(AdmissionId, Host, Box<AdmissionAnswer>),
    /// A stranger loses patience.
    GiveUp(AdmissionId, Host),
    /// Something about a watch or a probe of the rendezvous.
    Role(RoleEvent),
    /// Somebody does something, or something breaks.
    Act,
    /// Somebody outside tries to get in.
    Ask(Host),
    /// A machine is switched on.
    Start(Host),
    /// A suspended machine goes on.
    Resume(Host),
    /// What was cut off is reached again.
    Heal(Vec<(Host, Host)>),
    /// The disk works again.
    Repair(Host),
    /// A stopping process is gone.
    Exit,
}

/// Everything.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: ChaCha8Rng,
    pub(super) now: Duration,
    pub(super) machines: Vec<Machine>,
    index: BTreeMap<PeerId, Host>,
    pub(super) net: Network,
    pub(super) checker: Checker,
    pub(super) hash: blake3::Hasher,
    /// Whether things still go wrong.
    pub(super) troubled: bool,
    pub(super) sent: BTreeMap<&'static str, u64>,
    /// What happened last, where the plan wants to know.
    pub(super) trail: VecDeque<String>,
    queue: BTreeMap<(Duration, u64), Event>,
    next: u64,
    events: u64,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let machine = |n| Machine::new(n, SigningKey::from_bytes(&rng.random()));
        let machines: Vec<Machine> = (0..plan.machines).map(machine).collect();
        let index = machines.iter().enumerate().map(|(n, machine)| (machine.id, Host(n))).collect();
        Self {
            plan,
            rng,
            now: Duration::ZERO,
            machines,
            index,
            net: Network::default(),
            checker: Checker::default(),
            hash: blake3::Hasher::new(),
            troubled: true,
            sent: BTreeMap::new(),
            trail: VecDeque::new(),
            queue: BTreeMap::new(),
            next: 0,
            events: 0,
        }
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = Host> + use<> {
        (0..self.machines.len()).map(Host)
    }

    pub(super) fn machine(&mut self, host: Host) -> &mut Machine {
        self.machines.get_mut(host.0).expect("hosts are made from the list of machines")
    }

    pub(super) fn at(&self, host: Host) -> &Machine {
        self.machines.get(host.0).expect("hosts are made from the list of machines")
    }

    pub(super) fn host_of(&self, peer: &PeerId) -> Option<Host> {
        self.index.get(peer).copied()
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { from.get(self.rng.random_range(0..from.len())).copied() }
    }

    pub(super) fn between_ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(from * 1000..=to * 1000))
    }

    pub(super) fn schedule(&mut self, after: Duration, what: What) {
        self.push(self.now + after, Event { to: None, what });
    }

    /// Schedules something for a machine as it lives now: nothing comes of it after a crash.
    pub(super) fn schedule_for(&mut self, host: Host, after: Duration, what: What) {
        let life = self.at(host).life;
        self.push(self.now + after, Event { to: Some((host, life)), what });
    }

    pub(super) fn push(&mut self, at: Duration, event: Event) {
        self.next += 1;
        self.queue.insert((at.max(self.now), self.next), event);
    }

    /// Remembers what happens for the message of a failure.
    pub(super) fn trace(&mut self, host: Host, what: impl FnOnce() -> String) {
        if self.plan.trail == 0 {
            return;
        }
        if self.trail.len() >= self.plan.trail {
            self.trail.pop_front();
        }
        self.trail.push_back(format!("{:?} m{} {}", self.now, host.0, what()));
    }

    pub(super) fn note(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.hash.update(part);
        }
    }

    /// Lets everything happen up to a moment.
    pub(super) fn run_until(&mut self, until: Duration) {
        while let Some(entry) = self.queue.first_entry() {
            let at = entry.key().0;
            if at > until {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.events += 1;
            assert!(self.events < EVENTS_MAX * self.machines.len() as u64, "the run does not come to an end");
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        let Some((host, life)) = event.to else { return self.carry_out(event.what) };
        let machine = self.machine(host);
        if machine.life != life {
            return;
        }
        if machine.state == State::Suspended {
            machine.deferred.push(event);
            return;
        }
        self.hash.update(&self.now.as_micros().to_le_bytes());
        self.hash.update(&host.0.to_le_bytes());
        self.carry_out_for(host, event.what);
    }

    fn carry_out(&mut self, what: What) {
        match what {
            What::Act => self.act(),
            What::Idle(conn) => self.idle(conn),
            What::Answer(id, asker, answer) => self.answered(id, asker, *answer),
            What::GiveUp(id, asker) => self.give_up(id, asker),
            What::Ask(host) => self.ask(host),
            What::Start(host) => self.start(host),
            What::Resume(host) => self.resume(host),
            What::Heal(links) => self.heal(&links),
            What::Repair(host) => self.repair(host),
            What::Wake
            | What::Written
            | What::Loaded { .. }
            | What::Up(_)
            | What::Down(_)
            | What::Arrive(_)
            | What::Datagram(..)
            | What::Dialled(..)
            | What::DialFailed(_)
            | What::Request(..)
            | What::Role(_)
            | What::Exit => unreachable!("belongs to a machine"),
        }
    }

    fn carry_out_for(&mut self, host: Host, what: What) {
        match what {
            What::Wake => self.wake(host),
            What::Written => self.written(host),
            What::Loaded { id, log, from, to, bytes_max } => {
                let held = self.at(host).disk.held.as_ref();
                let entries = held.map(|held| held.load(&log, from, to, bytes_max)).unwrap_or_default();
                self.input(host, Input::Loaded(id, entries));
            }
            What::Up(conn) => self.up(conn, host),
            What::Down(conn) => self.down(conn, host),
            What::Arrive(conn) => self.arrive(conn, host),
            What::Datagram(conn, frame) => self.datagram_arrives(conn, host, frame),
            What::Dialled(to, tries) => self.dialled(host, to, tries),
            What::DialFailed(peer) => self.input(host, Input::DialFailed(peer)),
            What::Request(id, asker, request) => self.request(host, id, asker, *request),
            What::Role(event) => self.input(host, Input::Role(event)),
            What::Exit => self.exit(host),
            What::Act
            | What::Idle(_)
            | What::Answer(..)
            | What::GiveUp(..)
            | What::Ask(_)
            | What::Start(_)
            | What::Resume(_)
            | What::Heal(_)
            | What::Repair(_) => unreachable!("belongs to no machine"),
        }
    }

    /// Gives a command to a node.
    pub(super) fn command(&mut self, host: Host, command: Command) {
        let machine = self.at(host);
        if !machine.is_up() {
            return;
        }
        let view = machine.disk.held.as_ref().map(super::disk::Held::view).unwrap_or_default();
        let life = machine.life;
        let id = self.checker.ask(host, life, self.now, &command, view);
        self.note(&[b"command", &id.0.to_le_bytes()]);
        self.input(host, Input::Command(id, command));
    }

    /// Tells a node that something happened, and does what it wants.
    pub(super) fn input(&mut self, host: Host, input: Input) {
        let now = self.now;
        self.trace(host, || super::trace::input(&input));
        let machine = self.machine(host);
        let time = machine.now(now);
        let Some(node) = machine.node.as_mut() else { return };
        node.handle(input, time);
        let mut outputs = Vec::new();
        while let Some(output) = node.poll_output() {
            outputs.push(output);
        }
        for output in outputs {
            self.trace(host, || super::trace::output(&output));
            self.output(host, output);
        }
        self.set_wake(host);
    }

    fn set_wake(&mut self, host: Host) {
        let late = Duration::from_micros(self.rng.random_range(0..3000));
        let now = self.now;
        let machine = self.machine(host);
        let Some(at) = machine.node.as_ref().and_then(|node| node.poll_timeout()) else { return };
        let at = machine.when(at).max(now) + late;
        if machine.woken.is_none_or(|woken| at + Duration::from_millis(4) < woken) {
            machine.woken = Some(at);
            let life = machine.life;
            self.push(at, Event { to: Some((host, life)), what: What::Wake });
        }
    }

    fn wake(&mut self, host: Host) {
        let now = self.now;
        let machine = self.machine(host);
        machine.woken = None;
        let time = machine.now(now);
        let is_due = |machine: &Machine| {
            machine.node.as_ref().and_then(|node| node.poll_timeout()).is_some_and(|at| at <= time.mono)
        };
        if is_due(machine) {
            self.input(host, Input::Tick);
            let machine = self.machine(host);
            machine.restless = if is_due(machine) { machine.restless + 1 } else { 0 };
            assert!(machine.restless < RESTLESS_MAX, "{host:?} wants to be woken without end");
        } else {
            self.set_wake(host);
        }
    }

    fn output(&mut self, host: Host, output: Output) {
        match output {
            Output::Persist(batch) => self.queue_write(host, Op::Batch(batch)),
            Output::Hide(log, seq) => self.queue_write(host, Op::Hide(log, seq)),
            Output::StoreAddrs(records) => self.queue_write(host, Op::Addrs(records)),
            Output::StoreFork(one, other) => self.queue_write(host, Op::Fork(one, other)),
            Output::StoreSeen(seen) => self.queue_write(host, Op::Seen(seen)),
            Output::StoreIncarnation(incarnation) => self.queue_write(host, Op::Incarnation(incarnation)),
            Output::Load { id, log, from, to, bytes_max } => {
                let delay = self.between_ms(0, 5);
                self.schedule_for(host, delay, What::Loaded { id, log, from, to, bytes_max });
            }
            Output::Send(peer, frame) => self.send(host, &peer, frame),
            Output::Datagram(peer, frame) => self.send_datagram(host, &peer, frame),
            Output::Dial(peer, addrs) => self.dial(host, peer, &addrs),
            Output::Disconnect(peer, _) => self.disconnect(host, &peer),
            Output::Reply(command, reply) => self.replied(host, command, reply),
            Output::Admission(id, answer) => self.answer(host, id, answer),
            Output::Roster(roster) => self.machine(host).roster = roster,
            Output::Role(RoleRequest::OpenWatch(peer), _) => self.watch(host, peer),
            Output::Role(RoleRequest::Probe(peer), addrs) => self.probe(host, peer, addrs),
            Output::Role(RoleRequest::CloseWatch(peer), _) => self.unwatch(host, &peer),
            Output::Role(RoleRequest::SwitchRelay(_), _)
            | Output::Publish(_)
            | Output::Observed(_)
            | Output::Relays(_) => {}
        }
    }

    fn replied(&mut self, host: Host, command: CommandId, reply: Result<Reply, CommandError>) {
        self.note(&[b"reply", &command.0.to_le_bytes(), &[u8::from(reply.is_ok())]]);
        let ids: Vec<PeerId> = self.machines.iter().map(|machine| machine.id).collect();
        let disks: Vec<_> = self.machines.iter().map(|machine| machine.disk.held.as_ref()).collect();
        self.checker.reply(host, command, &reply, &disks, &ids);
        self.follow_up(host, reply);
    }
}
