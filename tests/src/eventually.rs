//! Waits for an expected state, with a deadline instead of a guess how long it takes.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Timeout for anything in a small room on a busy machine. Only a failing test waits this long.
pub const SOON: Duration = Duration::from_secs(30);

/// Pause between two looks: short against what a person notices, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(20);

/// Calls `look` until it finds what it looks for, and returns that.
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

/// Calls `look` until it returns true.
///
/// # Panics
/// After `deadline`.
#[track_caller]
pub fn eventually_true(deadline: Duration, what: &str, mut look: impl FnMut() -> bool) {
    eventually(deadline, what, || if look() { Ok(()) } else { Err("no") });
}
