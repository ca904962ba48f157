//! Runs of whole rooms; [`crate::sim`] explains how to reproduce one.
//!
//! `CHAT_MEMBERS=n` runs rooms of that size alone where a test runs several sizes.
//!
//! Promise P1: an acknowledged message survives crashes, and as many lost disks as it has further holders.
//! Promise P2: connected members end with the same messages in the same order, each shown once.
//! Promise P6: frames about the room go to members only, and a removed member is out.
//! Promise P8: a resumed reader misses nothing and repeats nothing; a send with a key is posted once.
//! Promise P9: wrong clocks neither hide nor delay messages (`Fault::Clock`).

use super::*;
use crate::sim::seeds::{budget, digest, for_seeds, number, say};

mod idle;
mod large;

/// Number of the last steps that a failure prints.
fn trail() -> usize {
    number("TRAIL").and_then(|steps| usize::try_from(steps).ok()).unwrap_or(0)
}

/// The sizes of rooms that a test runs: the one that the environment asks for, or as many as there is time for.
fn sizes(everyday: &[usize], deep: &[usize]) -> Vec<usize> {
    match number("CHAT_MEMBERS") {
        Some(members) => vec![usize::try_from(members).expect("a room has few members")],
        None if budget() => deep.to_vec(),
        None => everyday.to_vec(),
    }
}

#[test]
fn room_with_random_faults_keeps_its_promises() {
    for_seeds(16, |seed| {
        run(seed, &Plan { trail: trail(), ..Plan::of(seed) });
    });
}

/// Crashes at chosen steps, disks that lie, damaged entries. Prints what went wrong, with `--nocapture`.
#[test]
fn room_with_harsh_faults_keeps_its_promises() {
    let runs = for_seeds(16, |seed| run(seed, &Plan { trail: trail(), ..Plan::harsh(seed) }).stats);
    let mut stats = RunStats::default();
    runs.iter().for_each(|run| stats.add(run));
    let share = stats.unwritten * 100 / stats.crashes.max(1);
    say(&format!("{} runs: {} crashes, {share} % of them hit something unwritten", runs.len(), stats.crashes));
    say(&format!("{stats:?}"));
    assert!(runs.len() < 16 || share >= 50, "crashes that hit nothing show little: {share} %");
}

/// One or two members write and send what they please. Prints what they did, with `--nocapture`.
#[test]
fn room_with_hostile_members_keeps_its_promises() {
    let runs = for_seeds(16, |seed| run(seed, &Plan { trail: trail(), ..Plan::hostile(seed) }).stats);
    let mut stats = RunStats::default();
    runs.iter().for_each(|run| stats.add(run));
    let attacks: u64 = stats.attacks.values().sum();
    say(&format!("{} runs: {attacks} attacks, {} entries of hostile members", runs.len(), stats.hostile_entries));
    say(&format!("{:?}", stats.attacks));
    assert!(runs.len() < 16 || stats.hostile_entries > 0, "hostile members did nothing");
}

/// Prints one digest over the traces of all seeds; a change that keeps the behaviour keeps the digest. The trace of a
/// seed that fails is taken as zero.
#[test]
fn traces_of_the_same_seeds_are_the_same() {
    let trace = |seed| std::panic::catch_unwind(|| run(seed, &Plan::of(seed)).hash).unwrap_or([0; 32]);
    let traces = for_seeds(4, trace);
    say(&format!("room simulation: digest of {} traces: {}", traces.len(), digest(&traces)));
    assert_eq!(run(1, &Plan::of(1)).hash, run(1, &Plan::of(1)).hash);
}

#[test]
fn same_seed_gives_the_same_report() {
    for seed in 0..3 {
        assert_eq!(run(seed, &Plan::of(seed)), run(seed, &Plan::of(seed)), "SEED={seed}");
    }
}

/// A fork that hid what others held, and a settled room that sent the proof of a fork again and again.
#[test]
fn seeds_with_forks_come_to_rest() {
    for seed in [438, 788] {
        run(seed, &Plan { trail: trail(), ..Plan::of(seed) });
    }
    // A log that builds on a void branch once waited for another branch for ever.
    run(82, &Plan { trail: trail(), ..Plan::harsh(82) });
}

/// Newcomers whose admission is in a branch that members get after the newcomers' own entries: what the log follows from
/// was once decided by what was held when it began, and members differed for ever.
#[test]
fn seeds_with_admissions_in_late_branches_agree_on_members() {
    run(6589, &Plan { trail: trail(), ..Plan::of(6589) });
    run(640, &Plan { trail: trail(), ..Plan::harsh(640) });
}

/// Of several members that one entry removed, one still received a vector when the connection to another was closed.
#[test]
fn seeds_that_removed_several_members_at_once_tell_them_nothing() {
    for seed in [3_000_528, 3_001_020] {
        run(seed, &Plan { trail: trail(), ..Plan::of(seed) });
    }
}

/// A log that began with an admission which a removal made void; two removed members that found each other late.
#[test]
fn seeds_whose_admissions_were_void_come_to_rest() {
    for seed in [3_000_072, 3_000_321] {
        run(seed, &Plan { trail: trail(), ..Plan::of(seed) });
    }
    for seed in [3_000_072, 3_000_395] {
        run(seed, &Plan { trail: trail(), ..Plan::harsh(seed) });
    }
}

/// Damaged control entries: positions that were worked out without them, entries that were taken before they came back.
#[test]
fn seeds_with_damaged_control_entries_come_to_rest() {
    for seed in [166, 271, 397, 823, 887, 5_000_029] {
        run(seed, &Plan { trail: trail(), ..Plan::harsh(seed) });
    }
}

/// A peer that was stalled once followed a removed holder again, for ever.
#[test]
fn seed_with_a_removed_holder_and_a_stalled_peer_has_a_holder() {
    run(1087, &Plan { trail: trail(), ..Plan::harsh(1087) });
}

/// In the first a member that lost its disk leaves before it has its former log again; in the second a log of a removed
/// member names what lies in a branch that no member gives.
#[test]
fn seeds_with_logs_of_former_members_come_to_rest() {
    for seed in [2809, 6746] {
        run(seed, &Plan { trail: trail(), ..Plan::harsh(seed) });
    }
}

/// In the first the first entry of a log is forked, and one of the two is void; in the second a body comes from a member that
/// was asked before it had it; in the third a fork is proven beyond another one of which only one side is held; in the fourth
/// the body of one branch comes in place of another's. In the last a void branch is longer at some members than at others.
#[test]
fn seeds_with_half_known_forks_and_late_bodies_come_to_rest() {
    for seed in [5, 26, 396, 507] {
        run(seed, &Plan { trail: trail(), ..Plan::hostile(seed) });
    }
    run(4313, &Plan { trail: trail(), ..Plan::harsh(4313) });
}

/// A write that seemed to fail was on the disk and not marked; then an older copy agreed with the mark.
#[test]
fn seed_whose_ghost_was_not_marked_forks_nothing() {
    run(8219, &Plan { trail: trail(), ..Plan::harsh(8219) });
}

/// Cuts were once written apart from the entries that cause them: a crash in between hid messages for ever.
#[test]
fn seeds_that_crashed_between_an_entry_and_its_cut_lose_nothing() {
    for seed in [74, 1_000_499] {
        run(seed, &Plan { trail: trail(), ..Plan::of(seed) });
    }
}
