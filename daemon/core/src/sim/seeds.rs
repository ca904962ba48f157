//! Which seeds a test runs, and what it prints.

use std::ops::Range;

/// The seeds a test runs: one that was asked for, as many as were asked for, or a few, which is what fits into everyday
/// runs.
pub(crate) fn seeds(few: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("SEED"), number("CHAT_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(many)) => 0..many,
        (None, None) => 0..few,
    }
}

/// Runs `test` for every seed on all processors, and names the seed of a failure.
pub(crate) fn for_seeds(few: u64, test: impl Fn(u64) + Sync) {
    let seeds = seeds(few);
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
                    if let Err(panic) = outcome {
                        next.store(seeds.end, std::sync::atomic::Ordering::Relaxed);
                        say(&format!("SEED={seed} fails"));
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}

/// Prints a line of figures; the test harness shows it with `--nocapture` or on failure.
#[expect(clippy::print_stdout, reason = "figures for whoever runs the test")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// The value at a share of a sorted list.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
    let place = (last as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(0)
}
