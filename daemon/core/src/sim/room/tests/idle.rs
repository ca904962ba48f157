//! The cost of a quiet room to its members, all frames of a node included.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sim::room::tests::sizes;
use crate::sim::room::world::RoomWorld;
use crate::sim::room::{Plan, run_with};
use crate::sim::seeds::say;

const MINUTES: u64 = 3;

/// Frames and bytes that a member sends in a minute: mean, maximum, and the mean number of frames of each kind.
struct Cost {
    mean: (u64, u64),
    most: (u64, u64),
    kinds: String,
}

/// Number of frames of each kind that were sent.
fn frames(world: &RoomWorld) -> BTreeMap<&'static str, u64> {
    let mut frames = BTreeMap::new();
    for ((kind, _, _), count) in &world.sent {
        *frames.entry(*kind).or_default() += count;
    }
    frames
}

fn cost(members: usize) -> Cost {
    run_with(RoomWorld::with_members(1, Plan::calm(members)), 1, |world| {
        world.say_all(Duration::from_millis(20));
        world.run_until(world.now() + Duration::from_secs(90));
        let (sent, kinds): (Vec<_>, _) = (world.machines.iter().map(|m| m.sent).collect(), frames(world));
        world.run_until(world.now() + Duration::from_secs(60 * MINUTES));
        let costs: Vec<(u64, u64)> = (world.machines.iter().zip(&sent))
            .map(|(machine, before)| ((machine.sent.0 - before.0) / MINUTES, (machine.sent.1 - before.1) / MINUTES))
            .collect();
        let many = costs.len() as u64;
        let mean = (costs.iter().map(|cost| cost.0).sum::<u64>() / many, costs.iter().map(|c| c.1).sum::<u64>() / many);
        let most = (costs.iter().map(|cost| cost.0).max(), costs.iter().map(|cost| cost.1).max());
        let kinds = frames(world).into_iter().filter_map(|(kind, count)| {
            let sent = (count - kinds.get(&kind).copied().unwrap_or_default()) / MINUTES / many;
            (sent > 0).then(|| format!("{kind} {sent}"))
        });
        Cost { mean, most: (most.0.unwrap_or(0), most.1.unwrap_or(0)), kinds: kinds.collect::<Vec<_>>().join(", ") }
    })
}

/// Prints the table with `--nocapture`; with `CHAT_SEEDS` set, rooms of 300 and of 1,000 as well.
#[test]
fn quiet_room_of_any_size_costs_each_member_little() {
    let sizes = sizes(&[3, 30, 40], &[3, 10, 30, 100, 300, 1_000]);
    say("members | frames a minute: mean, most | bytes a minute: mean, most | of which (mean)");
    for members in sizes {
        let Cost { mean, most, kinds } = cost(members);
        say(&format!("{members:7} | {:6} {:6} | {:8} {:8} | {kinds}", mean.0, most.0, mean.1, most.1));
        assert!(!kinds.contains("vector"), "vectors grow with the room, a quiet one needs none: {kinds}");
        // In a mesh of 32 each connection is pinged now and then; beyond, there are fewer connections.
        assert!(mean.0 <= 2_500 && mean.1 <= 250_000, "room of {members}: {mean:?}");
        assert!(most.0 <= 6_000 && most.1 <= 600_000, "room of {members}: {most:?}");
    }
}
