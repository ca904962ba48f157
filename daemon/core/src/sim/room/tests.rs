//! Runs of whole rooms. `SEED=n` runs one seed of a test, `CHAT_SEEDS=n` so many of them, `TRAIL=n` tells the last things
//! that happened before a failure. `CHAT_MEMBERS=n` tries rooms of that size alone where a test tries several.

use super::*;
use crate::sim::seeds::{for_seeds, say, seeds};

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

/// Prints one digest over the traces of all seeds; a change that keeps the behaviour keeps the digest. A seed that fails
/// counts with the text of its failure left out.
#[test]
fn traces_of_the_same_seeds_are_the_same() {
    let traces = std::sync::Mutex::new(std::collections::BTreeMap::new());
    for_seeds(4, |seed| {
        let hash = std::panic::catch_unwind(|| run(seed, &Plan::of(seed)).hash).unwrap_or([0; 32]);
        traces.lock().expect("no seed panicked").insert(seed, hash);
    });
    let mut hasher = blake3::Hasher::new();
    for trace in traces.into_inner().expect("no seed panicked").values() {
        hasher.update(trace);
    }
    say(&format!("room simulation: digest of {} traces: {}", seeds(4).count(), hasher.finalize().to_hex()));
    assert_eq!(run(1, &Plan::of(1)).hash, run(1, &Plan::of(1)).hash);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..3 {
        assert_eq!(run(seed, &Plan::of(seed)), run(seed, &Plan::of(seed)), "SEED={seed}");
    }
}
