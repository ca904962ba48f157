//! The limit on connection attempts per network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_core::token_bucket::TokenBucket;

/// Maximum number of attempts at once: a class room behind one address translator joins together.
const BURST: u32 = 40;

/// Number of attempts that come back per minute: one in 250 ms.
const ATTEMPTS_PER_MINUTE: u32 = 240;

/// Maximum number of networks in the table. When it is full, networks that have all their attempts again are dropped, and
/// if there are none, any one: a sender that has many networks must not keep out the others.
const NETWORKS_MAX: usize = 4096;

/// One token bucket for each network.
#[derive(Debug, Default)]
pub(crate) struct NetworkLimits(Mutex<HashMap<IpAddr, TokenBucket>>);

impl NetworkLimits {
    /// Takes an attempt; `false` when there is none left. `now` is monotonic.
    pub(crate) fn take(&self, network: IpAddr, now: Duration) -> bool {
        let mut buckets = self.lock();
        if !buckets.contains_key(&network) && buckets.len() >= NETWORKS_MAX {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= NETWORKS_MAX
                && let Some(any) = buckets.keys().next().copied()
            {
                buckets.remove(&any);
            }
        }
        buckets.entry(network).or_insert(TokenBucket::full(BURST, ATTEMPTS_PER_MINUTE, now)).take(now)
    }

    /// Gives an attempt back: it was a member's and does not count.
    pub(crate) fn give_back(&self, network: IpAddr) {
        if let Some(bucket) = self.lock().get_mut(&network) {
            bucket.give_back();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, TokenBucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Time in which one attempt comes back.
    const GRANT: Duration = Duration::from_millis(60_000 / ATTEMPTS_PER_MINUTE as u64);
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn network_over_its_limit_does_not_affect_others() {
        let (limits, now) = (NetworkLimits::default(), Duration::ZERO);
        assert_eq!((0..2 * BURST).filter(|_| limits.take(HERE, now)).count(), BURST as usize);
        assert!(limits.take(THERE, now));
    }

    #[test]
    fn attempts_refill_up_to_the_burst() {
        let (limits, now) = (NetworkLimits::default(), Duration::ZERO);
        while limits.take(HERE, now) {}
        let later = now + GRANT * 3 + GRANT / 2;
        assert_eq!((0..9).filter(|_| limits.take(HERE, later)).count(), 3);
        assert!(limits.take(HERE, now + GRANT * 4), "parts of a grant are not lost");
        let much_later = now + GRANT * 10_000;
        assert_eq!((0..2 * BURST).filter(|_| limits.take(HERE, much_later)).count(), BURST as usize);
    }

    #[test]
    fn attempts_of_members_do_not_count() {
        let (limits, now) = (NetworkLimits::default(), Duration::ZERO);
        for _ in 0..10 * BURST {
            assert!(limits.take(HERE, now));
            limits.give_back(HERE);
        }
    }

    #[test]
    fn table_of_networks_is_bounded() {
        let (limits, now) = (NetworkLimits::default(), Duration::ZERO);
        let networks = |from: u32| (from..).map(|n| IpAddr::V4(Ipv4Addr::from(n)));
        assert!(networks(0).take(NETWORKS_MAX + 9).all(|ip| limits.take(ip, now)), "each has its attempts");
        assert_eq!(limits.lock().len(), NETWORKS_MAX);
        assert!(limits.take(THERE, now + GRANT));
        assert_eq!(limits.lock().len(), 1, "networks with all their attempts are dropped");
    }
}
