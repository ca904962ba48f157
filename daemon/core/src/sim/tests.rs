//! Runs of whole rooms.

use super::*;

/// How many seeds are tried; `CHAT_SEEDS=n` tries more, `SEED=n` one alone.
fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("CHAT_SEEDS").unwrap_or(8)).collect(),
    }
}

/// How much of what happened a failure tells: `TRAIL=n`.
fn trail() -> usize {
    std::env::var("TRAIL").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[test]
fn rooms_keep_their_promises_whatever_goes_wrong() {
    for seed in seeds() {
        run(seed, &Plan { trail: trail(), ..Plan::of(seed) });
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in seeds().into_iter().take(3) {
        assert_eq!(run(seed, &Plan::of(seed)), run(seed, &Plan::of(seed)), "SEED={seed}");
    }
}
