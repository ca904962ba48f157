//! One-time codes of the links that `chat web` prints.
//!
//! A code is exchanged for a session once, within [`LINK_LIFETIME`]. Only its hash is kept, in memory: a restart voids it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::http::access_tokens::Token;

/// How long a link can be opened.
pub(crate) const LINK_LIFETIME: Duration = Duration::from_secs(60);

/// Maximum number of codes that can be exchanged at a time; a further one voids the oldest.
const LINKS_MAX: usize = 16;

/// A code that was not exchanged yet.
#[derive(Debug)]
struct PendingLink {
    hash: blake3::Hash,
    expires: Instant,
}

/// The codes that were not exchanged yet, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct WebLinks(Mutex<VecDeque<PendingLink>>);

impl WebLinks {
    /// A new code of 256 random bits.
    pub(crate) fn create(&self, now: Instant) -> Token {
        let code = Token::generate();
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while links.len() >= LINKS_MAX {
            links.pop_front();
        }
        links.push_back(PendingLink { hash: code.hash(), expires: now + LINK_LIFETIME });
        code
    }

    /// Whether a code is valid; it is void from then on. Hashes are compared in constant time.
    pub(crate) fn redeem(&self, code: &str, now: Instant) -> bool {
        let shown = Token::new(code).hash();
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.expires > now);
        let found = links.iter().position(|link| link.hash == shown);
        found.and_then(|at| links.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_valid_once_and_for_a_minute() {
        let (links, now) = (WebLinks::default(), Instant::now());
        let (one, two) = (links.create(now), links.create(now));
        assert!(!links.redeem("", now) && !links.redeem(&one.as_str()[1..], now));
        assert!(links.redeem(one.as_str(), now + Duration::from_secs(59)));
        assert!(!links.redeem(one.as_str(), now), "a second time");
        assert!(!links.redeem(two.as_str(), now + LINK_LIFETIME), "after a minute");
    }

    #[test]
    fn oldest_code_is_void_when_there_are_too_many() {
        let (links, now) = (WebLinks::default(), Instant::now());
        let codes: Vec<Token> = (0..=LINKS_MAX).map(|_| links.create(now)).collect();
        assert!(!links.redeem(codes[0].as_str(), now));
        assert!(codes[1..].iter().all(|code| links.redeem(code.as_str(), now)));
    }
}
