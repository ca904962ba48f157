//! The clocks of a simulated machine, and random spans of time.

use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use chat_proto::time::Timestamp;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::input::Now;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Wall-clock time at which every run begins, in milliseconds since 1970.
const BEGINNING_MS: i64 = 1_790_000_000_000;

/// The two clocks of a machine. The monotonic clock counts from the start of the process and may stop while the machine
/// sleeps; the wall clock may be wrong.
#[derive(Debug, Default)]
pub(super) struct SimClock {
    /// Error of the wall clock, in milliseconds.
    pub(super) skew_ms: i64,
    started: Duration,
    slept: Duration,
}

impl SimClock {
    /// Restarts the monotonic clock for a process that starts now.
    pub(super) fn restart(&mut self, now: Duration) {
        (self.started, self.slept) = (now, Duration::ZERO);
    }

    /// Stops the monotonic clock for a span.
    pub(super) fn sleep(&mut self, span: Duration) {
        self.slept += span;
    }

    /// What the clocks show at a time of the run.
    pub(super) fn at(&self, time: Duration) -> Now {
        let ms = i64::try_from(time.as_millis()).expect("runs are short");
        let wall = u64::try_from(BEGINNING_MS + ms + self.skew_ms).expect("clocks are set after 1970");
        let mono = time.saturating_sub(self.started).saturating_sub(self.slept);
        Now { mono, wall: Timestamp::from_ms(wall) }
    }

    /// The time of the run at which the monotonic clock shows `mono`.
    pub(super) fn when(&self, mono: Duration) -> Duration {
        self.started + self.slept + mono
    }
}

/// A random span of whole microseconds.
pub(super) fn random_span(rng: &mut ChaCha8Rng, span: impl RangeBounds<Duration>) -> Duration {
    let least = match span.start_bound() {
        Bound::Included(start) => micros(*start),
        Bound::Excluded(start) => micros(*start) + 1,
        Bound::Unbounded => 0,
    };
    let most = match span.end_bound() {
        Bound::Included(end) => micros(*end),
        Bound::Excluded(end) => micros(*end) - 1,
        Bound::Unbounded => u64::MAX,
    };
    Duration::from_micros(rng.random_range(least..=most))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("runs are short")
}
