//! The cost of an idle room to each member, in frames and bytes, and failover in large rooms.
//!
//! Promise P4: the role is held again in time, also when the whole succession list dies with the holder.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;

use crate::sim::clock::{MS, SECOND};
use crate::sim::role::network::{Id, LinkModel};
use crate::sim::role::world::RoleWorld;
use crate::sim::seeds::{budget, for_seeds, say};

/// A room of bounded degree: a ring with chords, about eight neighbours each.
fn sparse(many: usize, seed: u64) -> RoleWorld {
    let mut world = RoleWorld::new(0, LinkModel::LAN, seed);
    let mut mesh: BTreeSet<(Id, Id)> = (0..many).map(|id| (id.min((id + 1) % many), id.max((id + 1) % many))).collect();
    while mesh.len() < many * 4 {
        let (a, b) = (world.rng.random_range(0..many), world.rng.random_range(0..many));
        if a != b {
            mesh.insert((a.min(b), a.max(b)));
        }
    }
    let seed = world.rng.random();
    RoleWorld::with_mesh(many, LinkModel::LAN, seed, Some(mesh))
}

fn room(many: usize, seed: u64) -> RoleWorld {
    let mut world = if many <= 32 { RoleWorld::new(many, LinkModel::LAN, seed) } else { sparse(many, seed) };
    world.run_for(30 * SECOND);
    world.must_settle(30 * SECOND);
    world
}

#[test]
fn idle_room_of_any_size_costs_each_member_little() {
    for (many, frames_max, bytes_max) in [(3, 300, 10_000), (30, 600, 40_000), (120, 800, 110_000)] {
        let mut world = room(many, 1);
        // The ranking changes until the reachability of every peer has been probed.
        world.run_for(if many <= 30 { 240 * SECOND } else { Duration::ZERO });
        let before: Vec<(u64, u64)> = world.peers.iter().map(|peer| (peer.frames_sent, peer.bytes_sent)).collect();
        let minutes = 2u32;
        world.must_stay(minutes * 60 * SECOND);
        let holder = world.holder().expect("settled");
        let sent = |id: Id| {
            let peer = &world.peers[id];
            let a_minute = |total: u64, before: u64| (total - before) / u64::from(minutes);
            (a_minute(peer.frames_sent, before[id].0), a_minute(peer.bytes_sent, before[id].1))
        };
        let others: Vec<(u64, u64)> = (0..many).filter(|id| *id != holder).map(sent).collect();
        let most = others.iter().copied().max().unwrap_or_default();
        let mean = others.iter().map(|(frames, _)| frames).sum::<u64>() / others.len() as u64;
        say(&format!(
            "room of {many}: a member sends {mean} frames a minute, at most {} with {} bytes; the holder {:?}",
            most.0,
            most.1,
            sent(holder)
        ));
        assert!(most.0 <= frames_max && most.1 <= bytes_max, "room of {many}: {most:?}");
        let (frames, _) = sent(holder);
        assert!(frames <= 5 * 300 + frames_max, "the holder beats five, however many there are: {frames}");
    }
}

#[test]
fn signs_of_life_cross_large_room_in_time() {
    let sizes: &[usize] = if budget() { &[150, 300, 1_000] } else { &[150] };
    for many in sizes {
        let mut world = room(*many, 3);
        let mut oldest = 0;
        for _ in 0..60 {
            world.run_for(SECOND);
            let now = world.time_of(0).mono;
            for id in 0..world.peers.len() {
                oldest = oldest.max(world.peers[id].role.query().holder_age_ms(now));
            }
        }
        say(&format!("room of {many}: the oldest sign of the holder is {oldest} ms old"));
        assert!(oldest < 7_000, "far below the ten seconds after which it is suspected: {oldest} ms");
    }
}

#[test]
fn large_room_replaces_holder_and_whole_list() {
    for_seeds(1, |seed| {
        let many = if budget() { [100, 300, 1_000][(seed % 3) as usize] } else { 100 };
        let mut world = room(many, seed);
        let holder = world.holder().expect("settled");
        let first = crate::sim::role::tests::failover::first_in_line(&world, holder);
        world.kill(holder);
        let start = world.now();
        assert!(world.run_until(start + 5 * SECOND, RoleWorld::settled), "{}", world.beliefs());
        say(&format!("room of {many}: the holder is replaced after {} ms", (world.now() - start).as_millis()));
        assert!(world.now() - start < 300 * MS && world.holder() == Some(first));
        world.run_for(30 * SECOND);

        let list: Vec<Id> =
            world.peers[first].role.query().succession_list().iter().map(|peer| world.index[peer]).collect();
        assert_eq!(list.len(), 5);
        for id in list.iter().chain([&first]) {
            world.kill(*id);
        }
        let start = world.now();
        let settled = world.run_until(start + 60 * SECOND, RoleWorld::settled);
        assert!(settled, "holder and list die together: {}", world.beliefs());
        say(&format!(
            "room of {many}: holder and whole list are replaced after {} ms",
            (world.now() - start).as_millis()
        ));
        assert!(world.now() - start < 30 * SECOND);
        world.run_for(20 * SECOND);
        world.must_stay(60 * SECOND);
        world.must_be_sound();
    });
}
