//! The role and the conversation in rooms of any size: the holder dies, falls silent or leaves; the room is split and
//! merges again.
//!
//! Promise P3: losing the holder loses no message.
//! Promise P4: the role is held again in time, in rooms of any size.
//! Promise P5: both halves of a split room go on and merge.

use std::time::Duration;

use crate::sim::room::machine::Host;
use crate::sim::room::tests::{sizes, trail};
use crate::sim::room::world::RoomWorld;
use crate::sim::room::{Fault, Plan, run_with};
use crate::sim::seeds::{budget, for_seeds, percentile, say};

/// Maximum time until a room agrees on a holder.
const AGREE_MAX: Duration = Duration::from_secs(120);

/// How long a holder is suspended; after a shorter pause than the others need to be sure, it would keep the role.
const SUSPENDED: Duration = Duration::from_secs(10);

fn size(seed: u64, sizes: &[usize]) -> usize {
    sizes[usize::try_from(seed).expect("few seeds") % sizes.len()]
}

impl RoomWorld {
    /// Lets time pass until something holds; returns how long it took.
    fn wait_for(&mut self, most: Duration, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now();
        while !holds(self) {
            assert!(self.now() - start < most, "{what}, not within {most:?}: {}", self.beliefs());
            self.run_until(self.now() + Duration::from_millis(5));
        }
        self.now() - start
    }

    /// Lets time pass until all agree on a holder, which is returned.
    fn with_holder(&mut self) -> Host {
        let agreed = |world: &Self| world.agreed_holder(&world.running()).is_some();
        let start = self.now();
        while !agreed(self) {
            assert!(self.now() - start < AGREE_MAX, "not all agree on a holder: {}", self.beliefs());
            self.run_until(self.now() + Duration::from_millis(100));
        }
        self.agreed_holder(&self.running()).expect("just seen")
    }

    /// How many machines take which machine for the holder in which term.
    fn beliefs(&self) -> String {
        let mut count = std::collections::BTreeMap::<_, usize>::new();
        for host in self.running() {
            let term = self.at(host).node.as_ref().map(|node| node.inspect().term());
            *count.entry((term, self.holder_at(host))).or_default() += 1;
        }
        format!("{count:?}")
    }

    /// Whether a machine other than `before` takes itself for the holder.
    fn is_held_again(&self, before: Host) -> bool {
        self.running().into_iter().any(|host| host != before && self.holder_at(host) == Some(host))
    }
}

/// What happens to the holder.
#[derive(Clone, Copy, Debug)]
enum HolderFate {
    Crash,
    Suspend,
    Stop,
}

/// How long the role is vacant in a room where people talk; checks that no message is lost.
fn vacancy(seed: u64, members: usize, end: HolderFate) -> Duration {
    let plan = Plan { trail: trail(), ..Plan::calm(members) };
    run_with(RoomWorld::with_members(seed, plan), seed, |world| {
        let before = world.with_holder();
        for round in 0..40u64 {
            let host = Host(usize::try_from(round).expect("few") * 7 % members);
            world.say(host, &format!("message {round}"));
            if round == 20 {
                match end {
                    HolderFate::Crash => world.crash(before),
                    HolderFate::Suspend => world.suspend_for(before, SUSPENDED),
                    HolderFate::Stop => world.stop(before),
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

fn vacancies(end: HolderFate, few: u64, sizes: &[usize], p95: Duration) {
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
fn dead_holder_is_replaced_at_once_and_no_message_is_lost() {
    vacancies(HolderFate::Crash, 3, &sizes(&[3, 5, 36], &[2, 3, 10, 33, 100, 300]), Duration::from_millis(300));
}

#[test]
fn silent_holder_is_replaced_soon_and_no_message_is_lost() {
    vacancies(HolderFate::Suspend, 3, &sizes(&[3, 5, 36], &[2, 3, 10, 33, 100, 300]), Duration::from_millis(1_200));
}

#[test]
fn leaving_holder_hands_over_and_no_message_is_lost() {
    vacancies(HolderFate::Stop, 3, &sizes(&[3, 5, 36], &[2, 3, 10, 33, 100, 300]), Duration::from_millis(100));
}

/// Both halves of a split room go on, each with its own holder; then one holder remains, and all hold everything.
fn split(seed: u64, members: usize) {
    let plan = Plan { trail: trail(), ..Plan::calm(members) };
    run_with(RoomWorld::with_members(seed, plan), seed, |world| {
        world.with_holder();
        let halves: [Vec<Host>; 2] = [0, 1].map(|half| world.hosts().filter(|host| host.0 % 2 == half).collect());
        let pairs = halves[0].iter().flat_map(|a| halves[1].iter().flat_map(|b| [(*a, *b), (*b, *a)]));
        // A tree may fall into more than two parts, which look for each other every half minute.
        let (split, most) = if members > world.plan.mesh_members_max { (150, 120) } else { (60, 40) };
        world.cut_for(pairs.collect(), Duration::from_secs(split));
        let took = world.wait_for(Duration::from_secs(most), "each half agrees on a holder", |world| {
            halves.iter().all(|half| world.agreed_holder(half).is_some())
        });
        world.say_all(Duration::from_millis(20));
        world.run_until(world.now() + Duration::from_secs(split));
        let report = world.end();
        say(&format!(
            "room of {members}: each half agrees on a holder after {took:?}, merged {:?} after the split",
            report.settled_in
        ));
        assert_eq!(report.acknowledged, members, "every member posted while the room was split");
    });
}

#[test]
fn split_room_goes_on_in_halves_and_merges() {
    let sizes = sizes(&[4, 7, 36], &[2, 5, 20, 33, 100, 300]);
    for_seeds(3, |seed| split(seed, size(seed, &sizes)));
}

/// With this seed, half of the tree falls into six parts.
#[test]
fn tree_split_into_many_parts_merges() {
    split(11, 36);
}

/// Faults of processes, networks and clocks in rooms of 3 to 1,000 members.
#[test]
fn large_room_with_faults_keeps_its_promises() {
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
        run_with(RoomWorld::with_members(seed, plan), seed, |world| {
            world.schedule(Duration::ZERO, RoomWorld::act);
            world.run_until(world.now() + world.plan.busy);
            let report = world.end();
            say(&format!(
                "room of {members}, SEED={seed}: {} messages acknowledged, settled in {:?}",
                report.acknowledged, report.settled_in
            ));
        });
    });
}
