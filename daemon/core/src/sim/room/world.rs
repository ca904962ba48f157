//! The world of the room simulation: machines, the network between them, and the one queue of what will happen.
//!
//! A node is driven as the daemon drives it: an input, then its outputs carried out one by one, then its timer. Events for a
//! machine are dropped when its process has ended in between and wait while it is suspended. Everything that happens to a
//! machine and every frame sent goes into `hash`, the trace of the run.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use chat_proto::id::PeerId;
use ed25519_dalek::SigningKey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::input::{BatchId, Command, CommandId, Input, LoadId};
use crate::log::entry::{LogId, Seq};
use crate::output::{CommandError, LoadScope, Output, Reply};
use crate::sim::clock::random_span;
use crate::sim::queue::SimQueue;
use crate::sim::room::checks::checker::Checker;
use crate::sim::room::hostile::Hostiles;
use crate::sim::room::machine::disk::Op;
use crate::sim::room::machine::{Host, Machine, MachineState};
use crate::sim::room::network::RoomNetwork;
use crate::sim::room::{Plan, RunStats};
use crate::types::RoleRequest;

mod admission;
mod chaos;
mod clients;
mod convergence;
mod crash_points;
mod disk_faults;
mod large_room;
mod lifecycle;
mod transport;

/// Maximum number of events in a run for each machine; a run that exceeds it does not end.
const EVENTS_MAX: u64 = 2_000_000;

/// Maximum number of ticks in a row after which a node is due again at once; a node that exceeds it would take a processor.
const RESTLESS_MAX: u32 = 20;

/// The machines of a room and everything around them.
pub(super) struct RoomWorld {
    pub(super) plan: Plan,
    pub(super) rng: ChaCha8Rng,
    pub(super) machines: Vec<Machine>,
    index: BTreeMap<PeerId, Host>,
    pub(super) net: RoomNetwork,
    pub(super) checker: Checker,
    pub(super) hash: blake3::Hasher,
    /// Whether faults still happen.
    pub(super) troubled: bool,
    /// Number of frames of each kind that one machine sent to another.
    pub(super) sent: BTreeMap<(&'static str, Host, Host), u64>,
    /// What went wrong.
    pub(super) stats: RunStats,
    /// Hostile machines.
    pub(super) hostile: Hostiles,
    /// The last steps, as many as the plan asks for.
    pub(super) trail: VecDeque<String>,
    queue: SimQueue<Self>,
}

impl RoomWorld {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let machine = |n| Machine::new(n, SigningKey::from_bytes(&rng.random()));
        let machines: Vec<Machine> = (0..plan.machines).map(machine).collect();
        let hostile = Hostiles::new(seed, machines.len(), plan.hostile);
        let checker = Checker::new(hostile.hosts.clone(), hostile.sybil_ids(), &machines);
        let index = machines.iter().enumerate().map(|(n, machine)| (machine.id, Host(n))).collect();
        Self {
            plan,
            rng,
            machines,
            index,
            net: RoomNetwork::default(),
            checker,
            hash: blake3::Hasher::new(),
            troubled: true,
            sent: BTreeMap::new(),
            stats: RunStats::default(),
            hostile,
            trail: VecDeque::new(),
            queue: SimQueue::new(),
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
        random_span(&mut self.rng, Duration::from_millis(from)..=Duration::from_millis(to))
    }

    pub(super) fn now(&self) -> Duration {
        self.queue.now()
    }

    /// Lets something happen after a span.
    pub(super) fn schedule(&mut self, after: Duration, event: impl FnOnce(&mut Self) + 'static) {
        self.queue.push(self.queue.now() + after, event);
    }

    /// Lets something happen to a machine after a span, unless its process has ended by then; a suspended process waits.
    pub(super) fn schedule_for(&mut self, host: Host, after: Duration, event: impl FnOnce(&mut Self) + 'static) {
        let life = self.at(host).life;
        self.schedule(after, move |world| world.happen_to(host, life, event));
    }

    fn happen_to(&mut self, host: Host, life: u32, event: impl FnOnce(&mut Self) + 'static) {
        let machine = self.machine(host);
        if machine.life != life {
            return;
        }
        if machine.state == MachineState::Suspended {
            machine.deferred.push(Box::new(event));
            return;
        }
        let now = self.now();
        self.hash.update(&now.as_micros().to_le_bytes());
        self.hash.update(&host.0.to_le_bytes());
        event(self);
    }

    /// Gives a node an input after a span.
    pub(super) fn input_after(&mut self, host: Host, after: Duration, input: Input) {
        self.schedule_for(host, after, move |world| world.input(host, input));
    }

    /// Records a step for the message of a failure.
    pub(super) fn trace(&mut self, host: Host, what: impl FnOnce() -> String) {
        if self.plan.trail == 0 {
            return;
        }
        if self.trail.len() >= self.plan.trail {
            self.trail.pop_front();
        }
        self.trail.push_back(format!("{:?} m{} {}", self.now(), host.0, what()));
    }

    pub(super) fn note(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.hash.update(part);
        }
    }

    /// Lets everything happen up to a moment.
    pub(super) fn run_until(&mut self, until: Duration) {
        while let Some(event) = self.queue.next(until) {
            let most = EVENTS_MAX * self.machines.len() as u64;
            assert!(self.queue.happened() < most, "the run does not come to an end");
            event(self);
        }
    }

    /// Gives a command to a node.
    pub(super) fn command(&mut self, host: Host, command: Command) {
        if let Some(id) = self.name_command(host, &command) {
            self.give(host, id, command);
        }
    }

    /// Names a command for a process that exists.
    fn name_command(&mut self, host: Host, command: &Command) -> Option<CommandId> {
        let machine = self.at(host);
        if !machine.is_up() {
            return None;
        }
        let view = machine.disk.held.as_ref().map(crate::sim::room::machine::disk::HeldData::view).unwrap_or_default();
        let life = machine.life;
        Some(self.checker.ask(host, life, self.now(), command, view))
    }

    fn give(&mut self, host: Host, id: CommandId, command: Command) {
        self.note(&[b"command", &id.0.to_le_bytes()]);
        self.input(host, Input::Command(id, command));
    }

    /// Gives a node an input now and carries out its outputs.
    pub(super) fn input(&mut self, host: Host, input: Input) {
        let now = self.now();
        self.trace(host, || crate::sim::room::checks::trace::input(&input));
        if let Input::Frame(_, frame) = &input {
            self.overhear(host, frame);
        }
        let machine = self.machine(host);
        let time = machine.clock.at(now);
        let Some(node) = machine.node.as_mut() else { return };
        node.handle(input, time);
        let mut outputs = Vec::new();
        while let Some(output) = node.poll_output() {
            outputs.push(output);
        }
        self.carry_out(host, outputs);
        self.set_wake(host);
    }

    fn set_wake(&mut self, host: Host) {
        let late = Duration::from_micros(self.rng.random_range(0..3000));
        let now = self.now();
        let machine = self.machine(host);
        let Some(at) = machine.node.as_ref().and_then(|node| node.poll_timeout()) else { return };
        let at = machine.clock.when(at).max(now) + late;
        if machine.woken.is_none_or(|woken| at + Duration::from_millis(4) < woken) {
            machine.woken = Some(at);
            self.schedule_for(host, at - now, move |world| world.wake(host));
        }
    }

    fn wake(&mut self, host: Host) {
        let now = self.now();
        let machine = self.machine(host);
        machine.woken = None;
        let time = machine.clock.at(now);
        let is_due = |machine: &Machine| {
            machine.node.as_ref().and_then(|node| node.poll_timeout()).is_some_and(|at| at <= time.mono)
        };
        if is_due(machine) {
            self.input(host, Input::Tick);
            let machine = self.machine(host);
            machine.restless = if is_due(machine) { machine.restless + 1 } else { 0 };
            assert!(machine.restless < RESTLESS_MAX, "{host:?} asks to be woken without end");
        } else {
            self.set_wake(host);
        }
    }

    fn output(&mut self, host: Host, output: Output) {
        match output {
            Output::Persist(batch) => self.queue_batch(host, batch),
            Output::StoreAddrs(records) => self.queue_write(host, Op::Addrs(records)),
            Output::StoreSeen(seen) => self.queue_write(host, Op::Seen(seen)),
            Output::Load { id, log, from, to, bytes_max, scope } => {
                let delay = self.between_ms(0, 5);
                self.schedule_for(host, delay, move |world| world.load(host, id, &log, from..=to, bytes_max, scope));
            }
            Output::Reload(batch) => {
                let delay = self.between_ms(0, 5);
                self.schedule_for(host, delay, move |world| world.reload(host, batch));
            }
            Output::Send(peer, frame) => {
                if let Some(frame) = self.tampered(host, &peer, frame) {
                    self.send(host, &peer, frame);
                }
            }
            Output::Datagram(peer, frame) => self.send_datagram(host, &peer, frame),
            Output::Dial(peer, addrs) => self.dial(host, peer, &addrs),
            Output::Disconnect(peer, reason) => {
                self.checker.breaks(host, self.host_of(&peer), reason);
                self.disconnect(host, &peer);
            }
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
            Output::Repair(entry) => {
                if let Some(held) = &mut self.machine(host).disk.held {
                    held.repair(&entry);
                }
            }
        }
    }

    fn load(
        &mut self,
        host: Host,
        id: LoadId,
        log: &LogId,
        range: RangeInclusive<Seq>,
        bytes_max: usize,
        scope: LoadScope,
    ) {
        let held = self.at(host).disk.held.as_ref();
        let entries = held.map(|held| held.load(log, range, bytes_max, scope)).unwrap_or_default();
        self.input(host, Input::Loaded(id, entries));
    }

    fn reload(&mut self, host: Host, batch: BatchId) {
        if let Some(held) = &self.at(host).disk.held {
            let restored = Box::new(held.restored());
            self.input(host, Input::Refiled(batch, restored));
            self.scrub_later(host);
        }
    }

    fn replied(&mut self, host: Host, command: CommandId, reply: Result<Reply, CommandError>) {
        self.note(&[b"reply", &command.0.to_le_bytes(), &[u8::from(reply.is_ok())]]);
        let ids: Vec<PeerId> = self.machines.iter().map(|machine| machine.id).collect();
        let disks: Vec<_> = self.machines.iter().map(|machine| machine.disk.held.as_ref()).collect();
        self.checker.reply(host, command, &reply, &disks, &ids);
        self.answered_send(host, command, &reply);
        self.follow_up(host, reply);
    }
}
