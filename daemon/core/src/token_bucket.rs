//! Rate limits: what one neighbour can make this peer do.

use std::time::Duration;

/// A bucket of tokens that refills steadily.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    /// In units of which [`TOKEN`] make a token: a millisecond of a rate per minute.
    level: u64,
    per_minute: u32,
    burst: u32,
    at: Duration,
}

const TOKEN: u64 = 60_000;

impl TokenBucket {
    pub(crate) fn full(burst: u32, per_minute: u32, now: Duration) -> Self {
        Self { level: u64::from(burst) * TOKEN, per_minute, burst, at: now }
    }

    /// Takes a token; `false` when there is none.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let elapsed_ms = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let refill = elapsed_ms.saturating_mul(u64::from(self.per_minute));
        if refill > 0 {
            self.at = now;
            self.level = self.level.saturating_add(refill).min(u64::from(self.burst) * TOKEN);
        }
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
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
