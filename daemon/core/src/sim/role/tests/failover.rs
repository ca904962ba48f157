//! Time until all peers agree on a new holder: distributions over many seeds, in simulated time.
//!
//! Promise P4: how soon the role is held again when the holder dies, falls silent or leaves.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;

use crate::sim::clock::SECOND;
use crate::sim::role::network::{Id, LinkModel};
use crate::sim::role::world::RoleWorld;
use crate::sim::seeds::{for_seeds, percentile, say};

/// What happens to the holder.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Killed,
    KilledWithFirst,
    KilledWithList,
    Suspended,
    CutOff,
    Deaf,
    PoweredOff,
    Stopped,
}

impl Loss {
    fn happen(self, world: &mut RoleWorld, holder: Id) {
        match self {
            Self::Killed => world.kill(holder),
            Self::KilledWithFirst => {
                let first = first_in_line(world, holder);
                world.kill(holder);
                world.kill(first);
            }
            Self::KilledWithList => {
                let list = world.peers[holder].role.query().succession_list();
                let listed: Vec<Id> = list.iter().map(|peer| world.index[peer]).collect();
                listed.into_iter().chain([holder]).for_each(|id| world.kill(id));
            }
            Self::Suspended => world.suspend(holder),
            Self::CutOff => {
                for other in 0..world.peers.len() {
                    world.net.cut(holder, other);
                }
            }
            Self::Deaf => {
                for other in 0..world.peers.len() {
                    world.net.cut_one_way(other, holder);
                }
            }
            Self::PoweredOff => world.power_off(holder),
            Self::Stopped => world.stop(holder),
        }
    }

    const fn reason(self) -> ChangeReason {
        match self {
            Self::Killed | Self::KilledWithFirst | Self::KilledWithList => ChangeReason::Died,
            Self::Suspended | Self::CutOff | Self::Deaf | Self::PoweredOff => ChangeReason::Silent,
            Self::Stopped => ChangeReason::HandedOver,
        }
    }
}

pub(super) fn first_in_line(world: &RoleWorld, holder: Id) -> Id {
    world.index[&world.peers[holder].role.query().succession_list()[0]]
}

/// Milliseconds until all other peers agree on a new holder of a room at rest, sorted, one figure for each seed.
fn times(many: usize, link: LinkModel, loss: Loss, few: u64) -> Vec<u64> {
    times_after(10 * SECOND, many, link, loss, few)
}

/// The same, where `rest` has passed since the room first agreed on its holder.
fn times_after(rest: Duration, many: usize, link: LinkModel, loss: Loss, few: u64) -> Vec<u64> {
    let mut times = for_seeds(few, |seed| {
        let mut world = RoleWorld::new(many, link, seed);
        let moment = world.random_span(Duration::ZERO..SECOND);
        world.run_until(10 * SECOND, |world| world.holder().is_some());
        world.run_for(rest + moment);
        let holder = world.holder().expect("a room at rest has a holder");
        let before = world.peers[holder].role.query().term();
        loss.happen(&mut world, holder);
        let start = world.now();
        let agreed = |world: &RoleWorld| {
            let left: Vec<Id> = world.running().filter(|id| *id != holder).collect();
            world.agreed(&left).filter(|new| *new != holder)
        };
        let done = world.run_until(start + 10 * SECOND, |world| agreed(world).is_some());
        assert!(done, "no peer takes over after {loss:?}: {}", world.beliefs());
        let took = world.now() - start;
        world.run_for(2 * SECOND);
        let new = agreed(&world).expect("the new holder stays");
        let (_, change) = world.peers[new].changes.last().expect("the new holder saw a change");
        assert_eq!((change.reason, change.term), (loss.reason(), before.next()), "one claim: {}", world.last_changes());
        world.must_be_sound();
        u64::try_from(took.as_millis()).expect("ten seconds at most")
    });
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
fn dead_holder_is_replaced_within_a_blink() {
    for many in [2, 3, 5, 12] {
        check(&format!("killed, {many} peers"), &times(many, LinkModel::LAN, Loss::Killed, 24), 80, 120);
    }
    check("holder and first killed, 5 peers", &times(5, LinkModel::LAN, Loss::KilledWithFirst, 24), 150, 250);
}

/// The holder has measured nothing and published no list yet.
#[test]
fn holder_that_dies_in_the_first_second_is_replaced_soon() {
    for many in [2, 5, 12] {
        let times = times_after(Duration::ZERO, many, LinkModel::LAN, Loss::Killed, 24);
        check(&format!("killed in the first second, {many} peers"), &times, 300, 700);
    }
}

#[test]
fn holder_that_dies_with_all_its_list_is_replaced_soon() {
    for many in [7, 8, 12] {
        let times = times(many, LinkModel::LAN, Loss::KilledWithList, 24);
        check(&format!("killed with its list, {many} peers"), &times, 800, 1_500);
    }
}

#[test]
fn silent_holder_is_replaced_within_a_second() {
    for loss in [Loss::Suspended, Loss::CutOff, Loss::PoweredOff] {
        for many in [2, 5] {
            check(&format!("{loss:?}, {many} peers"), &times(many, LinkModel::LAN, loss, 24), 800, 1_000);
        }
    }
}

/// It sends heartbeats and receives nothing.
#[test]
fn deaf_holder_is_replaced_soon() {
    for many in [2, 5] {
        check(&format!("deaf, {many} peers"), &times(many, LinkModel::LAN, Loss::Deaf, 24), 1_100, 1_250);
    }
}

#[test]
fn stopping_holder_hands_over_at_once() {
    for many in [2, 5, 12] {
        check(&format!("stopped, {many} peers"), &times(many, LinkModel::LAN, Loss::Stopped, 24), 50, 100);
    }
}

#[test]
fn holder_far_away_is_replaced_after_some_round_trips() {
    let far = LinkModel::new(40_000, 10_000, 0.01);
    check("killed, 5 peers, 90 ms apart", &times(5, far, Loss::Killed, 24), 450, 900);
    check("suspended, 5 peers, 90 ms apart", &times(5, far, Loss::Suspended, 24), 1_200, 1_800);
    check("stopped, 5 peers, 90 ms apart", &times(5, far, Loss::Stopped, 24), 300, 600);
}
