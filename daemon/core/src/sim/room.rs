//! The room simulation: whole nodes on machines whose processes, disks, clocks and network fail.
//!
//! People post, invite, knock, rename, remove and leave at random while the faults of a [`Plan`] happen. Each machine has a
//! disk that keeps only what was flushed, its own clocks, and connections that carry frames in order or break. Then all
//! faults end and the room has to converge (`world/convergence.rs`); a reference model checks every step (`checks/checker.rs`).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use crate::sim::room::hostile::Attack;
pub use crate::sim::room::plan::{CrashPoint, Fault, Plan};

use crate::sim::room::machine::Host;
use crate::sim::room::world::RoomWorld;

mod checks;
mod hostile;
mod machine;
mod network;
mod plan;
#[cfg(test)]
mod tests;
mod world;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// Digest of everything that happened.
    pub hash: [u8; 32],
    /// Number of acknowledged messages.
    pub acknowledged: usize,
    /// Time from the end of the last fault until the room had converged.
    pub settled_in: Duration,
    /// What went wrong.
    pub stats: RunStats,
}

/// What went wrong in one run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunStats {
    /// How often each fault began.
    pub faults: BTreeMap<Fault, u64>,
    /// How often a process died at each step.
    pub points: BTreeMap<CrashPoint, u64>,
    /// Number of crashes.
    pub crashes: u64,
    /// Number of crashes that hit something unwritten, or written and not reported.
    pub unwritten: u64,
    /// Number of writes that a disk had reported as flushed and lost.
    pub lost_reported: u64,
    /// Number of failed writes that were on the disk after all.
    pub ghosts: u64,
    /// How often hostile members made each attack.
    pub attacks: BTreeMap<Attack, u64>,
    /// Number of entries of hostile members that another one held at the end.
    pub hostile_entries: u64,
}

impl RunStats {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (point, count) in &other.points {
            *self.points.entry(*point).or_default() += count;
        }
        for (attack, count) in &other.attacks {
            *self.attacks.entry(*attack).or_default() += count;
        }
        self.hostile_entries += other.hostile_entries;
        self.crashes += other.crashes;
        self.unwritten += other.unwritten;
        self.lost_reported += other.lost_reported;
        self.ghosts += other.ghosts;
    }
}

/// Runs one room from a seed.
///
/// # Panics
/// When something that must hold does not; the message contains the seed and the plan.
pub fn run(seed: u64, plan: &Plan) -> RunReport {
    play(RoomWorld::new(seed, plan.clone()), seed)
}

/// The same, and hostile members do what `choices` say, and nothing more.
///
/// # Panics
/// When something that must hold does not.
pub fn run_chosen(seed: u64, plan: &Plan, choices: &[u8]) -> RunReport {
    let mut world = RoomWorld::new(seed, plan.clone());
    world.hostile.choose_by(choices);
    play(world, seed)
}

fn play(world: RoomWorld, seed: u64) -> RunReport {
    run_with(world, seed, |world| {
        world.found(Host(0));
        world.run_until(Duration::from_secs(1));
        world.gather();
        if world.plan.is_harsh() {
            world.begin_following();
        }
        world.begin_hostility();
        world.schedule(Duration::ZERO, RoomWorld::act);
        world.run_until(world.plan.busy);
        world.end()
    })
}

/// Runs `play`; a failure prints the last steps, the seed and the plan.
fn run_with<T>(mut world: RoomWorld, seed: u64, play: impl FnOnce(&mut RoomWorld) -> T) -> T {
    let plan = world.plan.clone();
    catch_unwind(AssertUnwindSafe(|| play(&mut world))).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("panicked");
        let trail: String = world.trail.iter().map(|line| format!("{line}\n")).collect();
        panic!("{trail}SEED={seed} {plan:?}: {text}");
    })
}

impl RoomWorld {
    /// Ends all faults, waits until the room has converged, and checks what must hold then.
    fn end(&mut self) -> RunReport {
        let settled_in = self.settle();
        RunReport {
            hash: *self.hash.finalize().as_bytes(),
            acknowledged: self.checker.acked.len(),
            settled_in,
            stats: self.stats.clone(),
        }
    }
}
