//! How many strangers one network may send in a time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most attempts at once: a class room behind one address translator joins together.
const BURST: u32 = 40;

/// Time in which one more attempt is granted.
const GRANT_EVERY: Duration = Duration::from_millis(250);

/// Most networks that are counted at a time. Beyond, those whose attempts are all granted again are forgotten, and if
/// there are none, newcomers from further networks wait.
const NETWORKS_MAX: usize = 4096;

/// A token bucket for each network.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<IpAddr, Bucket>>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    used: u32,
    since: Instant,
}

impl Rates {
    /// Counts an attempt; `false` when it is one too many.
    pub(crate) fn take(&self, network: IpAddr, now: Instant) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(&network) && buckets.len() >= NETWORKS_MAX {
            buckets.retain(|_, bucket| {
                bucket.refill(now);
                bucket.used > 0
            });
            if buckets.len() >= NETWORKS_MAX {
                return false;
            }
        }
        let bucket = buckets.entry(network).or_insert(Bucket { used: 0, since: now });
        bucket.refill(now);
        let granted = bucket.used < BURST;
        if granted {
            bucket.used += 1;
        }
        granted
    }

    /// The attempt was a member's and does not count.
    pub(crate) fn give_back(&self, network: IpAddr) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(&network) {
            bucket.used = bucket.used.saturating_sub(1);
        }
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let grants = u32::try_from(passed.as_millis() / GRANT_EVERY.as_millis()).unwrap_or(u32::MAX);
        if grants >= self.used {
            *self = Self { used: 0, since: now };
        } else {
            self.used -= grants;
            self.since += GRANT_EVERY * grants;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn one_network_cannot_use_up_the_others_share() {
        let (rates, now) = (Rates::default(), Instant::now());
        assert_eq!((0..2 * BURST).filter(|_| rates.take(HERE, now)).count(), BURST as usize);
        assert!(rates.take(THERE, now));
    }

    #[test]
    fn time_grants_more_and_not_without_end() {
        let (rates, now) = (Rates::default(), Instant::now());
        while rates.take(HERE, now) {}
        let later = now + GRANT_EVERY * 3 + GRANT_EVERY / 2;
        assert_eq!((0..9).filter(|_| rates.take(HERE, later)).count(), 3);
        assert!(rates.take(HERE, now + GRANT_EVERY * 4), "parts of a grant are not lost");
        let much_later = now + GRANT_EVERY * 10_000;
        assert_eq!((0..2 * BURST).filter(|_| rates.take(HERE, much_later)).count(), BURST as usize);
    }

    #[test]
    fn members_are_free() {
        let (rates, now) = (Rates::default(), Instant::now());
        for _ in 0..10 * BURST {
            assert!(rates.take(HERE, now));
            rates.give_back(HERE);
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let (rates, now) = (Rates::default(), Instant::now());
        let networks = |from: u32| (from..).map(|n| IpAddr::V4(Ipv4Addr::from(n)));
        assert_eq!(networks(0).take(NETWORKS_MAX + 9).filter(|ip| rates.take(*ip, now)).count(), NETWORKS_MAX);
        let later = now + GRANT_EVERY;
        assert!(rates.take(THERE, later), "forgotten networks make room");
    }
}
