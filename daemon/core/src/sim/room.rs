//! Rooms of several peers in one process, driven from one seed: machines, disks and a network that fail in every way,
//! people who do as they please, and a reference that checks each step.
//!
//! A run is a pure function of its seed and plan: what was found once is found again. Each machine has a disk of which
//! only what was flushed survives, a clock of its own, and a connection to each other machine that carries frames in
//! order or breaks. At the end everything works again, and the room has to settle: the same members, the same messages
//! in the same order everywhere, nothing lost that was acknowledged, nothing left to do.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::sim::room::machine::Host;
use crate::sim::room::world::World;

mod admission;
mod chaos;
mod checker;
mod convergence;
mod disk;
mod flood_tree;
mod large_room;
mod lifecycle;
mod machine;
mod network;
#[cfg(test)]
mod tests;
mod trace;
mod transport;
mod world;

/// Something that goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies, with what was not flushed.
    Crash,
    /// A process is stopped in an orderly way.
    Stop,
    /// A process gets no time for a while.
    Suspend,
    /// A disk is full or fails for a while.
    BrokenDisk,
    /// Some flushes take seconds.
    SlowDisk,
    /// A disk is replaced by an empty one.
    LostDisk,
    /// A disk is replaced by an older copy of itself, and the daemon sees it.
    OldDisk,
    /// The same, and nobody sees it.
    OldDiskUnnoticed,
    /// A connection breaks.
    LostConnection,
    /// Two groups do not reach each other for a while.
    Partition,
    /// Nothing gets into a machine, or out of it.
    OneWay,
    /// Queues are short: who reads slowly is disconnected.
    SlowReader,
    /// A machine cannot be called by others.
    Shielded,
    /// Packets get lost and overtake each other: datagrams with them, streams are late.
    Loss,
    /// A wall clock jumps.
    Clock,
    /// Members are removed.
    Removal,
    /// Members leave for good.
    Leaving,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Crash,
        Self::Stop,
        Self::Suspend,
        Self::BrokenDisk,
        Self::SlowDisk,
        Self::LostDisk,
        Self::OldDisk,
        Self::OldDiskUnnoticed,
        Self::LostConnection,
        Self::Partition,
        Self::OneWay,
        Self::SlowReader,
        Self::Shielded,
        Self::Loss,
        Self::Clock,
        Self::Removal,
        Self::Leaving,
    ];
}

/// How many bytes are on their way on one connection before it is dropped, unless a run says otherwise.
const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a run consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many machines there are, those that come later included.
    pub machines: usize,
    /// How long people are busy and things go wrong.
    pub busy: Duration,
    /// What can go wrong.
    pub faults: BTreeSet<Fault>,
    /// Whether every knock is admitted.
    pub open: bool,
    /// From how many members on a room is large: entries spread through a tree then.
    pub mesh_members_max: usize,
    /// Longest pause between two things that people do.
    pub pause_ms_max: u64,
    /// How many bytes may be on their way on one connection before it is dropped.
    pub queue_bytes_max: usize,
    /// Longest way between two machines, in milliseconds.
    pub latency_ms_max: u64,
    /// How many of the last things that happened a failure tells.
    pub trail: usize,
}

impl Plan {
    /// A plan of its own for each seed: other faults, another number of machines.
    pub fn of(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x706c_616e);
        let share = rng.random_range(0.0..0.7);
        let faults: BTreeSet<Fault> = Fault::ALL.into_iter().filter(|_| rng.random_bool(share)).collect();
        let short = faults.contains(&Fault::SlowReader);
        Self {
            machines: rng.random_range(2..10),
            busy: Duration::from_secs(rng.random_range(5..45)),
            open: rng.random(),
            mesh_members_max: if rng.random_bool(0.25) { 4 } else { 32 },
            pause_ms_max: [30, 100, 300, 800][rng.random_range(0..4)],
            queue_bytes_max: if short { 20_000 } else { QUEUE_BYTES_MAX },
            latency_ms_max: 40,
            faults,
            trail: 0,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// A hash of everything that happened.
    pub hash: [u8; 32],
    /// How many messages were acknowledged.
    pub acknowledged: usize,
    /// How long the room took to settle after the last fault.
    pub settled_in: Duration,
}

/// Runs one room from a seed.
///
/// # Panics
/// When something that must hold does not; the message begins with the seed.
pub fn run(seed: u64, plan: &Plan) -> Report {
    told(World::new(seed, plan.clone()), seed, play)
}

/// Plays something, and tells seed and plan if it fails.
fn told<T>(mut world: World, seed: u64, play: impl FnOnce(&mut World) -> T) -> T {
    let plan = world.plan.clone();
    let outcome = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    match outcome {
        Ok(outcome) => outcome,
        Err(cause) => {
            let text = cause.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("panicked");
            let trail: String = world.trail.iter().map(|line| format!("{line}\n")).collect();
            panic!("{trail}SEED={seed} {plan:?}: {text}");
        }
    }
}

fn play(world: &mut World) -> Report {
    world.found(Host(0));
    world.run_until(Duration::from_secs(1));
    world.gather();
    world.schedule(Duration::ZERO, World::act);
    world.run_until(world.plan.busy);
    world.end()
}

impl World {
    /// The room settles, and what must hold then is checked.
    fn end(&mut self) -> Report {
        let settled_in = self.settle();
        Report { hash: *self.hash.finalize().as_bytes(), acknowledged: self.checker.acked.len(), settled_in }
    }
}
