//! Waits for what must come, with a deadline and without guessing how long it takes.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How long anything in a small room may take on a busy machine. Nothing waits so long unless it fails.
pub const SOON: Duration = Duration::from_secs(30);

/// Pause between two looks: short against what a person notices, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` finds what it looks for, and gives it.
///
/// # Panics
/// After `deadline`, saying what was waited for and what `look` said last.
#[track_caller]
pub fn eventually<T, E: Display>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) if begun.elapsed() > deadline => {
                panic!("after {deadline:?} still not: {what}; instead: {instead}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Looks until `look` is true.
///
/// # Panics
/// After `deadline`.
#[track_caller]
pub fn eventually_true(deadline: Duration, what: &str, mut look: impl FnMut() -> bool) {
    eventually(deadline, what, || if look() { Ok(()) } else { Err("no") });
}
