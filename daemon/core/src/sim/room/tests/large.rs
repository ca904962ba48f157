//! The role and the conversation in rooms of any size, whole nodes: the holder dies, falls silent, leaves; the room is
//! split and grows together again.

use std::time::Duration;

use crate::sim::room::machine::Host;
use crate::sim::room::tests::{sizes, trail};
use crate::sim::room::world::World;
use crate::sim::room::{Fault, Plan, told};
use crate::sim::seeds::{budget, for_seeds, percentile, say};

/// Longest time until a room agrees on a holder after something happened.
const AGREE_MAX: Duration = Duration::from_secs(120);

/// For how long a holder stands still: a shorter pause than the others need to be sure takes the role from nobody.
const SUSPENDED: Duration = Duration::from_secs(10);

fn size(seed: u64, sizes: &[usize]) -> usize {
    sizes[usize::try_from(seed).expect("few seeds") % sizes.len()]
}

impl World {
    /// Lets time pass until something holds; says how long it took.
    fn wait_for(&mut self, most: Duration, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now();
        while !holds(self) {
            assert!(self.now() - start < most, "{what}, not within {most:?}: {}", self.beliefs());
            self.run_until(self.now() + Duration::from_millis(5));
        }
        self.now() - start
    }

    /// A room in which all agree on a holder.
    fn with_holder(&mut self) -> Host {
        let agreed = |world: &Self| world.agreed_holder(&world.running()).is_some();
        let start = self.now();
        while !agreed(self) {
            assert!(self.now() - start < AGREE_MAX, "not all agree on a holder: {}", self.beliefs());
            self.run_until(self.now() + Duration::from_millis(100));
        }
        self.agreed_holder(&self.running()).expect("just seen")
    }

    /// Whom how many take for the holder.
    fn beliefs(&self) -> String {
        let mut count = std::collections::BTreeMap::<_, usize>::new();
        for host in self.running() {
            let term = self.at(host).node.as_ref().map(|node| node.inspect().term());
            *count.entry((term, self.holder_at(host))).or_default() += 1;
        }
        format!("{count:?}")
    }

    /// Whether somebody other than `before` takes itself for the holder.
    fn is_held_again(&self, before: Host) -> bool {
        self.running().into_iter().any(|host| host != before && self.holder_at(host) == Some(host))
    }
}

/// What becomes of the holder.
#[derive(Clone, Copy, Debug)]
enum End {
    Crash,
    Suspend,
    Stop,
}

/// How long the role is vacant in a room where people talk, and that nothing of what they say is lost over it.
fn vacancy(seed: u64, members: usize, end: End) -> Duration {
    let plan = Plan { trail: trail(), ..Plan::calm(members) };
    told(World::crowd(seed, plan), seed, |world| {
        let before = world.with_holder();
        for round in 0..40u64 {
            let host = Host(usize::try_from(round).expect("few") * 7 % members);
            world.say(host, &format!("message {round}"));
            if round == 20 {
                match end {
                    End::Crash => world.crash(before),
                    End::Suspend => world.suspend_for(before, SUSPENDED),
                    End::Stop => world.stop(before),
                }
                break;
            }
            world.run_until(world.now() + Duration::from_millis(20));
        }
        let vacant = world.wait_for(AGREE_MAX, "the role is held again", |world| world.is_held_again(before));
        for round in 20..40u64 {
            let up = world.running();
            if let Some(host) = world.pick(&up) {
                world.say(host, &format!("message {round}"));
            }
            world.run_until(world.now() + Duration::from_millis(20));
        }
        world.run_until(world.now() + Duration::from_secs(10));
        world.with_holder();
        world.end();
        vacant
    })
}

fn vacancies(end: End, few: u64, sizes: &[usize], p95: Duration) {
    let mut figures = for_seeds(few, |seed| {
        let vacant = vacancy(seed, size(seed, sizes), end);
        u64::try_from(vacant.as_millis()).expect("short")
    });
    figures.sort_unstable();
    let (half, most) = (percentile(&figures, 0.5), percentile(&figures, 0.95));
    say(&format!("{end:?} in rooms of {sizes:?}, {} runs: vacant for {half} ms, p95 {most} ms", figures.len()));
    assert!(Duration::from_millis(most) <= p95, "{end:?}: {figures:?}");
}

#[test]
fn a_holder_that_dies_is_followed_at_once_and_nothing_said_is_lost() {
    vacancies(End::Crash, 3, &sizes(&[3, 5, 36], &[2, 3, 10, 33, 100, 300]), Duration::from_millis(300));
}

#[test]
fn a_holder_that_falls_silent_is_followed_soon_and_nothing_said_is_lost() {
    vacancies(End::Suspend, 3, &sizes(&[3, 5, 36], &[2, 3, 10, 33, 100, 300]), Duration::from_millis(1_200));
}

#[test]
fn a_holder_that_leaves_hands_over_and_nothing_said_is_lost() {
    vacancies(End::Stop, 3, &sizes(&[3, 5, 36], &[2, 3, 10, 33, 100, 300]), Duration::from_millis(100));
}

/// Both halves of a split room go on, each with its own holder; afterwards one remains, and all hold everything.
fn split(seed: u64, members: usize) {
    let plan = Plan { trail: trail(), ..Plan::calm(members) };
    told(World::crowd(seed, plan), seed, |world| {
        world.with_holder();
        let halves: [Vec<Host>; 2] = [0, 1].map(|half| world.hosts().filter(|host| host.0 % 2 == half).collect());
        let pairs = halves[0].iter().flat_map(|a| halves[1].iter().flat_map(|b| [(*a, *b), (*b, *a)]));
        // A tree may have fallen into more parts than two; they look for each other every half minute.
        let (split, most) = if members > world.plan.mesh_members_max { (150, 120) } else { (60, 40) };
        world.cut_for(pairs.collect(), Duration::from_secs(split));
        let took = world.wait_for(Duration::from_secs(most), "each half agrees on a holder", |world| {
            halves.iter().all(|half| world.agreed_holder(half).is_some())
        });
        world.say_all(Duration::from_millis(20));
        world.run_until(world.now() + Duration::from_secs(split));
        let report = world.end();
        say(&format!(
            "room of {members}: each half agrees on a holder after {took:?}, grown together {:?} after the split",
            report.settled_in
        ));
        assert_eq!(report.acknowledged, members, "everybody spoke while the room was split");
    });
}

#[test]
fn halves_of_a_split_room_go_on_and_grow_together_again() {
    let sizes = sizes(&[4, 7, 36], &[2, 5, 20, 33, 100, 300]);
    for_seeds(3, |seed| split(seed, size(seed, &sizes)));
}

/// With this seed the half of a tree has six parts.
#[test]
fn a_tree_in_many_parts_becomes_one_again() {
    split(11, 36);
}

/// Whatever goes wrong with processes, networks and clocks, in rooms of 3 to 1,000.
#[test]
fn large_rooms_keep_their_promises_whatever_goes_wrong() {
    let sizes = sizes(&[12, 36], &[3, 10, 33, 100, 300, 1_000]);
    for_seeds(2, |seed| {
        let faults = [
            Fault::Crash,
            Fault::Stop,
            Fault::Suspend,
            Fault::LostConnection,
            Fault::Partition,
            Fault::OneWay,
            Fault::Loss,
            Fault::Clock,
        ];
        let plan = Plan {
            faults: faults.into(),
            busy: Duration::from_secs(if budget() { 60 } else { 10 }),
            latency_ms_max: 40,
            trail: trail(),
            ..Plan::calm(size(seed, &sizes))
        };
        let members = plan.machines;
        told(World::crowd(seed, plan), seed, |world| {
            world.schedule(Duration::ZERO, World::act);
            world.run_until(world.now() + world.plan.busy);
            let report = world.end();
            say(&format!(
                "room of {members}, SEED={seed}: {} messages acknowledged, settled in {:?}",
                report.acknowledged, report.settled_in
            ));
        });
    });
}
