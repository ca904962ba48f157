//! Splits and merges: both halves go on; then one holder and both histories remain.
//!
//! Promise P5: both halves of a partition have a holder, and soon after healing there is one.

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::Term;
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::sim::clock::SECOND;
use crate::sim::role::network::{Id, LinkModel};
use crate::sim::role::world::RoleWorld;
use crate::sim::seeds::for_seeds;

fn founded(many: usize, seed: u64) -> RoleWorld {
    let mut world = RoleWorld::new(many, LinkModel::LAN, seed);
    world.run_for(20 * SECOND);
    world.must_settle(SECOND);
    world
}

fn split(world: &mut RoleWorld, left: &[Id], right: &[Id]) {
    for a in left {
        for b in right {
            world.net.cut(*a, *b);
        }
    }
}

/// Peers in two groups, the first of `size`, at random.
fn groups(world: &mut RoleWorld, size: usize) -> (Vec<Id>, Vec<Id>) {
    let mut all: Vec<Id> = (0..world.peers.len()).collect();
    all.shuffle(&mut world.rng);
    let right = all.split_off(size);
    (all, right)
}

fn terms_in_history(world: &RoleWorld, id: Id) -> Vec<(Term, chat_proto::id::PeerId)> {
    world.peers[id].role.query().known_changes().map(|change| (change.term, change.to)).collect()
}

#[test]
fn split_room_goes_on_in_halves_and_merges_within_seconds() {
    for_seeds(10, |seed| {
        let many = [4, 5, 7][(seed % 3) as usize];
        let mut world = founded(many, seed);
        let size = world.rng.random_range(1..many);
        let (left, right) = groups(&mut world, size);
        split(&mut world, &left, &right);
        // A peer that is not on the succession list waits longer; in a room of seven there is one.
        let patience = if many > 6 { 20 } else { 5 } * SECOND;
        let apart = world.run_until(world.now() + patience, |world: &RoleWorld| {
            world.agreed(&left).is_some() && world.agreed(&right).is_some()
        });
        assert!(apart, "each half has its own holder in time: {}", world.beliefs());
        world.must_stay(60 * SECOND - patience);
        // While apart, the role moves once more on one side.
        let more = world.rng.random_bool(0.5) && left.len() > 1;
        if more {
            let holder = world.agreed(&left).expect("held");
            world.stop(holder);
            world.run_for(5 * SECOND);
        }
        world.net.heal();
        world.must_settle(5 * SECOND);
        world.must_stay(120 * SECOND);
        let holder = world.holder().expect("one remains");
        let expected = terms_in_history(&world, holder);
        assert!(expected.len() >= if more { 3 } else { 2 }, "both histories: {expected:?}");
        for id in world.running().collect::<Vec<_>>() {
            assert_eq!(terms_in_history(&world, id), expected, "peer {id} kept another history");
        }
        world.must_be_sound();
    });
}

#[test]
fn peer_cut_off_alone_does_not_take_the_role_from_the_rest() {
    for_seeds(10, |seed| {
        let mut world = founded(5, seed);
        let holder = world.holder().expect("settled");
        let alone = (holder + 1 + (seed as usize % 4)) % 5;
        for other in (0..5).filter(|id| *id != alone) {
            world.net.cut(alone, other);
        }
        // Sometimes so short that the connections survive, sometimes until they are given up.
        let apart = world.random_span(2 * SECOND..60 * SECOND);
        world.run_for(apart);
        assert_eq!(world.believed(alone).map(|(id, _)| id), Some(alone), "alone, it holds the role itself");
        world.net.heal();
        world.must_settle(5 * SECOND);
        assert_eq!(world.holder(), Some(holder), "four do not follow one: {}", world.beliefs());
        let moved = |world: &RoleWorld, id: Id| {
            world.peers[id].changes.iter().any(|(_, change)| world.index[&change.to] == alone)
        };
        let misled: Vec<Id> = (0..5).filter(|id| *id != alone && moved(&world, *id)).collect();
        assert!(misled.is_empty(), "{misled:?} followed it for a moment: {}", world.last_changes());
        world.must_stay(60 * SECOND);
        world.must_be_sound();
    });
}

#[test]
fn holder_cut_off_alone_steps_down_when_it_comes_back() {
    for_seeds(10, |seed| {
        let mut world = founded(5, seed);
        let holder = world.holder().expect("settled");
        for other in (0..5).filter(|id| *id != holder) {
            world.net.cut(holder, other);
        }
        let apart = world.random_span(3 * SECOND..60 * SECOND);
        world.run_for(apart);
        let rest: Vec<Id> = (0..5).filter(|id| *id != holder).collect();
        let new = world.agreed(&rest).expect("the rest goes on");
        assert_eq!(world.believed(holder).map(|(id, _)| id), Some(holder), "alone it goes on as well");
        world.net.heal();
        world.must_settle(5 * SECOND);
        assert_eq!(world.holder(), Some(new), "{}", world.beliefs());
        let (_, change) = world.peers[holder].changes.last().expect("it saw the merge");
        assert_eq!(change.reason, ChangeReason::Silent, "to the others it had fallen silent");
        world.must_stay(60 * SECOND);
        world.must_be_sound();
    });
}

#[test]
fn two_peers_cut_apart_both_hold_and_one_remains() {
    for_seeds(10, |seed| {
        let mut world = founded(2, seed);
        world.net.cut(0, 1);
        let apart = world.random_span(2 * SECOND..60 * SECOND);
        world.run_for(apart);
        assert_eq!(world.holders().len(), 2);
        world.net.heal();
        world.must_settle(5 * SECOND);
        world.must_stay(60 * SECOND);
        world.must_be_sound();
    });
}

#[test]
fn rooms_that_began_apart_merge() {
    for_seeds(5, |seed| {
        let mut world = RoleWorld::new(6, LinkModel::LAN, seed);
        let (left, right) = groups(&mut world, 3);
        split(&mut world, &left, &right);
        world.run_for(30 * SECOND);
        assert!(world.settled(), "{}", world.beliefs());
        world.net.heal();
        world.must_settle(5 * SECOND);
        world.must_stay(60 * SECOND);
        world.must_be_sound();
    });
}
