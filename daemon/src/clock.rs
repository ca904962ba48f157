//! The clocks of the daemon.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chat_core::input::Now;
use chat_proto::time::Timestamp;

/// The wall clock. A clock before 1970 reads as 1970.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Both clocks of the core: time since a fixed start, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time for the core.
    pub fn now(&self) -> Now {
        Now { mono: self.start.elapsed(), wall: wall_clock() }
    }

    /// Converts the core's monotonic time.
    pub fn instant(&self, mono: Duration) -> Instant {
        self.start + mono
    }
}
