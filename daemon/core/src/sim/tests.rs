//! Runs of whole rooms. `SEED=n` runs one seed of a test, `CHAT_SEEDS=n` so many of them, `TRAIL=n` tells the last things
//! that happened before a failure. `CHAT_MEMBERS=n` tries rooms of that size alone where a test tries several.

use super::*;
use crate::rendezvous::sim::for_seeds;

mod idle;
mod large;

/// How much of what happened a failure tells.
fn trail() -> usize {
    std::env::var("TRAIL").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Sizes and numbers beyond what an everyday run has time for are tried when a budget of seeds is given.
fn budget() -> bool {
    std::env::var_os("CHAT_SEEDS").is_some()
}

/// The sizes of rooms that are tried: one that was asked for, or as many as there is time for.
fn sizes(everyday: &[usize], deep: &[usize]) -> Vec<usize> {
    let asked = std::env::var("CHAT_MEMBERS").ok().and_then(|text| text.parse().ok());
    match asked {
        Some(members) => vec![members],
        None if budget() => deep.to_vec(),
        None => everyday.to_vec(),
    }
}

#[test]
fn rooms_keep_their_promises_whatever_goes_wrong() {
    for_seeds(16, |seed| {
        run(seed, &Plan { trail: trail(), ..Plan::of(seed) });
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..3 {
        assert_eq!(run(seed, &Plan::of(seed)), run(seed, &Plan::of(seed)), "SEED={seed}");
    }
}
