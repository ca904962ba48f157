//! No false failover: the role stays through an hour of a bad network, starved peers and jumping clocks.
//!
//! Promise P9: clocks that jump do not move the role.

use std::time::Duration;

use rand::RngExt;

use crate::sim::clock::{MINUTE, MS, SECOND};
use crate::sim::role::network::LinkModel;
use crate::sim::role::world::RoleWorld;
use crate::sim::seeds::for_seeds;

fn founded(many: usize, link: LinkModel, seed: u64) -> RoleWorld {
    let mut world = RoleWorld::new(many, link, seed);
    world.run_for(30 * SECOND);
    world.must_settle(30 * SECOND);
    world
}

#[test]
fn role_stays_through_an_hour_of_loss_and_jitter() {
    for_seeds(6, |seed| {
        let many = [2, 3, 4, 5][(seed % 4) as usize];
        let mut world = founded(many, LinkModel::ROUGH, seed);
        let before = world.changes();
        // A seed in three has no TCP watch to lean on, another one loses it now and then.
        match seed % 3 {
            0 => world.no_watch.extend(0..many),
            1 => {
                for _ in 0..100 {
                    world.run_for(10 * SECOND);
                    let watched: Vec<(usize, usize)> = world.watches.iter().copied().collect();
                    for (by, of) in watched {
                        if world.rng.random_bool(0.5) {
                            continue;
                        }
                        world.schedule(Duration::ZERO, move |world| world.watch_closed(by, of, 0));
                    }
                }
            }
            _ => {}
        }
        world.run_for(60 * MINUTE);
        assert_eq!(world.changes(), before, "the role moves though nothing happens: {}", world.last_changes());
        world.must_be_sound();
    });
}

#[test]
fn role_stays_while_peers_are_starved() {
    for_seeds(4, |seed| {
        let mut world = founded(5, LinkModel::LAN, seed);
        let before = world.changes();
        let end = world.now() + 5 * MINUTE;
        while world.now() < end {
            // Any peer, the holder included, gets no processor time for up to 450 ms; sometimes several do at once.
            let starved = world.rng.random_range(0..5);
            let span = world.random_span(20 * MS..450 * MS);
            // A peer that is starved already is spared: a longer pause would make it as good as dead.
            if world.peers[starved].busy_until <= world.now() {
                world.peers[starved].busy_until = world.now() + span;
            }
            let pause = world.random_span(Duration::ZERO..600 * MS);
            world.run_for(pause);
        }
        assert_eq!(world.changes(), before, "a starved peer is not a dead one: {}", world.last_changes());
        world.must_be_sound();
    });
}

#[test]
fn role_stays_while_clocks_jump() {
    for_seeds(4, |seed| {
        let mut world = founded(5, LinkModel::LAN, seed);
        let before = world.changes();
        for _ in 0..100 {
            let id = world.rng.random_range(0..5);
            world.peers[id].clock.skew_ms = world.rng.random_range(0..100_000_000);
            let pause = world.random_span(SECOND / 10..5 * SECOND);
            world.run_for(pause);
        }
        assert_eq!(world.changes(), before, "a clock that was set is no reason: {}", world.last_changes());
        world.must_be_sound();
    });
}

#[test]
fn role_stays_when_holder_and_one_peer_do_not_reach_each_other() {
    for_seeds(4, |seed| {
        let mut world = founded(5, LinkModel::LAN, seed);
        let holder = world.holder().expect("settled");
        let other = (holder + 1 + (seed as usize % 4)) % 5;
        match seed % 3 {
            0 => world.net.cut(holder, other),
            1 => world.net.cut_one_way(holder, other),
            _ => world.net.cut_one_way(other, holder),
        }
        world.must_stay(120 * SECOND);
        world.net.heal();
        world.must_stay(120 * SECOND);
        world.must_be_sound();
    });
}
