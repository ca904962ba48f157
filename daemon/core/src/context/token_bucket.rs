//! The token bucket: limits how often a remote peer can make this one act.

use std::time::Duration;

/// A bucket of tokens that refills steadily up to a burst.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// In units of which [`TOKEN`] make a token: a millisecond of a rate per minute.
    level: u64,
    per_minute: u32,
    burst: u32,
    at: Duration,
}

const TOKEN: u64 = 60_000;

impl TokenBucket {
    /// Creates a full bucket of `burst` tokens. Times are monotonic, from any fixed start.
    pub fn full(burst: u32, per_minute: u32, now: Duration) -> Self {
        Self { level: u64::from(burst) * TOKEN, per_minute, burst, at: now }
    }

    /// Takes a token; `false` when there is none.
    pub fn take(&mut self, now: Duration) -> bool {
        self.refill(now);
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }

    /// Returns a token that was taken.
    pub fn give_back(&mut self) {
        self.add(TOKEN);
    }

    /// Whether no token is missing.
    pub fn is_full(&mut self, now: Duration) -> bool {
        self.refill(now);
        self.level == self.capacity()
    }

    fn refill(&mut self, now: Duration) {
        let elapsed_ms = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let refill = elapsed_ms.saturating_mul(u64::from(self.per_minute));
        if refill > 0 {
            self.at = now;
            self.add(refill);
        }
    }

    fn add(&mut self, level: u64) {
        self.level = self.level.saturating_add(level).min(self.capacity());
    }

    fn capacity(&self) -> u64 {
        u64::from(self.burst) * TOKEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let mut bucket = TokenBucket::full(5, 600, Duration::ZERO);
        let taken =
            |bucket: &mut TokenBucket, ms: u64| (0..100).filter(|_| bucket.take(Duration::from_millis(ms))).count();
        assert_eq!(taken(&mut bucket, 0), 5);
        assert_eq!(taken(&mut bucket, 100), 1);
        assert_eq!(taken(&mut bucket, 1_100), 5, "never more than the burst");
        let mut fine = TokenBucket::full(1, 600, Duration::ZERO);
        let steady = (0..10_000u64).filter(|ms| fine.take(Duration::from_millis(*ms))).count();
        assert!((99..=101).contains(&steady), "{steady} in ten seconds");
    }
}
