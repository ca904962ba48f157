//! Which seeds a test runs, and what it prints.
//!
//! `SEED=n` runs one seed, `CHAT_SEEDS=n` runs the seeds from 0 to n - 1, `CHAT_SEEDS=m..n` those from m to n - 1. Both of the
//! latter switch on the sizes of rooms that an everyday run has no time for. A failure prints its seed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number in an environment variable.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Whether a budget of seeds is given, so that the test may take its time.
pub(crate) fn budget() -> bool {
    range("CHAT_SEEDS").is_some()
}

/// The range in an environment variable: `m..n`, or `n` for `0..n`.
fn range(name: &str) -> Option<Range<u64>> {
    let text = std::env::var(name).ok()?;
    let (from, to) = text.split_once("..").unwrap_or(("0", &text));
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// The seeds a test runs: those that the environment asks for, or a few.
fn seeds(few: u64) -> Range<u64> {
    match (number("SEED"), range("CHAT_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(range)) => range,
        (None, None) => 0..few,
    }
}

/// Runs `test` for every seed on all processors and returns the results in the order of the seeds. Prints the seed of a
/// failure.
pub(crate) fn for_seeds<T: Send>(few: u64, test: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let seeds = seeds(few);
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new(BTreeMap::new());
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| test(seed))) {
                Ok(result) => results.lock().expect("no holder of the lock panics").insert(seed, result),
                Err(panic) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    say(&format!("SEED={seed} fails"));
                    resume_unwind(panic);
                }
            };
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(worker);
        }
    });
    results.into_inner().expect("no holder of the lock panics").into_values().collect()
}

/// One digest over the traces of all seeds, in hexadecimal digits.
pub(crate) fn digest(traces: &[[u8; 32]]) -> String {
    blake3::hash(traces.as_flattened()).to_hex().to_string()
}

/// Prints a line of figures, which the test harness shows with `--nocapture` or on failure.
#[expect(clippy::print_stdout, reason = "figures for the person who runs the test")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// The value at a share of a sorted list.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0)
}
