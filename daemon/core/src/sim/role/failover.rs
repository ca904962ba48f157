//! How long it takes until everybody knows the new holder: distributions over many seeds, in simulated time.

use std::sync::Mutex;

use chat_proto::api::rendezvous::ChangeReason;
use rand::RngExt;

use crate::sim::role::net::{Id, Way};
use crate::sim::role::world::World;
use crate::sim::seeds::{for_seeds, percentile, say};

/// What befalls the holder.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Killed,
    KilledWithFirst,
    Suspended,
    CutOff,
    PoweredOff,
    Stopped,
}

impl Fate {
    fn befall(self, world: &mut World, holder: Id) {
        match self {
            Self::Killed => world.kill(holder),
            Self::KilledWithFirst => {
                let first = first_in_line(world, holder);
                world.kill(holder);
                world.kill(first);
            }
            Self::Suspended => world.suspend(holder),
            Self::CutOff => {
                for other in 0..world.peers.len() {
                    world.net.cut(holder, other);
                }
            }
            Self::PoweredOff => world.power_off(holder),
            Self::Stopped => world.stop(holder),
        }
    }

    const fn reason(self) -> ChangeReason {
        match self {
            Self::Killed | Self::KilledWithFirst => ChangeReason::Died,
            Self::Suspended | Self::CutOff | Self::PoweredOff => ChangeReason::Silent,
            Self::Stopped => ChangeReason::HandedOver,
        }
    }
}

pub(super) fn first_in_line(world: &World, holder: Id) -> Id {
    world.index[&world.peers[holder].role.succession_list()[0]]
}

/// Milliseconds until all others know a new holder, for every seed.
fn times(many: usize, way: Way, fate: Fate, few: u64) -> Vec<u64> {
    let times = Mutex::new(Vec::new());
    for_seeds(few, |seed| {
        let mut world = World::new(many, way, seed);
        let moment = world.rng.random_range(0..1_000_000);
        world.run_for(10_000_000 + moment);
        let holder = world.holder().expect("a room at rest has a holder");
        let before = world.peers[holder].role.term();
        fate.befall(&mut world, holder);
        let (start, end) = (world.now, world.now + 10_000_000);
        let done = world.run_until(end, |world: &World| {
            let left: Vec<Id> = world.running().filter(|id| *id != holder).collect();
            world.agreed(&left).is_some_and(|new| new != holder)
        });
        assert!(done, "nobody follows after {fate:?}: {}", world.beliefs());
        let took = world.now - start;
        world.run_for(2_000_000);
        let left: Vec<Id> = world.running().filter(|id| *id != holder).collect();
        let new = world.agreed(&left).expect("and it stays so");
        let (_, change) = world.peers[new].changes.last().expect("the new holder saw a change");
        assert_eq!((change.reason, change.term), (fate.reason(), before.next()), "one claim: {}", world.last_changes());
        world.must_be_sound();
        times.lock().expect("no seed failed").push(took / 1_000);
    });
    let mut times = times.into_inner().expect("no seed failed");
    times.sort_unstable();
    times
}

fn check(name: &str, times: &[u64], p50_max: u64, p95_max: u64) {
    let (p50, p95) = (percentile(times, 0.5), percentile(times, 0.95));
    let max = times.last().copied().unwrap_or(0);
    say(&format!("{name}: p50 {p50} ms, p95 {p95} ms, max {max} ms over {} seeds", times.len()));
    assert!(p50 <= p50_max && p95 <= p95_max, "{name}: p50 {p50}/{p50_max} ms, p95 {p95}/{p95_max} ms");
}

#[test]
fn a_dead_process_is_followed_within_a_blink() {
    for many in [2, 3, 5, 12] {
        check(&format!("killed, {many} peers"), &times(many, Way::LAN, Fate::Killed, 24), 80, 120);
    }
    check("holder and first killed, 5 peers", &times(5, Way::LAN, Fate::KilledWithFirst, 24), 150, 250);
}

#[test]
fn a_silent_holder_is_followed_within_a_second() {
    for fate in [Fate::Suspended, Fate::CutOff, Fate::PoweredOff] {
        for many in [2, 5] {
            check(&format!("{fate:?}, {many} peers"), &times(many, Way::LAN, fate, 24), 800, 1_000);
        }
    }
}

#[test]
fn a_holder_that_stops_hands_over_at_once() {
    for many in [2, 5, 12] {
        check(&format!("stopped, {many} peers"), &times(many, Way::LAN, Fate::Stopped, 24), 50, 100);
    }
}

#[test]
fn far_apart_it_takes_round_trips_more() {
    let far = Way { delay: 40_000, jitter: 10_000, loss: 0.01 };
    check("killed, 5 peers, 90 ms apart", &times(5, far, Fate::Killed, 24), 450, 900);
    check("suspended, 5 peers, 90 ms apart", &times(5, far, Fate::Suspended, 24), 1_200, 1_800);
    check("stopped, 5 peers, 90 ms apart", &times(5, far, Fate::Stopped, 24), 300, 600);
}
