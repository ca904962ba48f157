//! The bound on terms: how far a term may jump, so that no member can use them up.
//!
//! Any member can claim the next term; the role gives no authority, so that does little harm, and ends when the member is
//! removed. A claim of the last possible term would stay for ever. So there are three bounds:
//!
//! * Terms beyond [`TERM_MAX`] are refused outright. Half of all numbers stay unused.
//! * A term may lie at most [`JUMP_MAX`] above what this peer has reached. An honest room moves the role less than once a
//!   second, so that is more than a century; a peer that comes back after any time still follows.
//! * A signed claim beyond that is refused, but raises what the peer has reached by [`JUMP_MAX`], at most once a second:
//!   a newcomer in a room whose terms an attacker drove up gets there in the end, while to drive them from 1 to
//!   [`TERM_MAX`] takes 68 years of claims.

use std::time::Duration;

use chat_proto::id::Term;

/// Highest term that is believed at all.
pub(crate) const TERM_MAX: u64 = 1 << 63;

/// Furthest a term may lie above what was reached.
pub(crate) const JUMP_MAX: u64 = 1 << 32;

/// Shortest time between two raises.
const RAISE_EVERY: Duration = Duration::from_secs(1);

/// The terms that this peer believes.
#[derive(Debug, Default)]
pub(crate) struct TermBound {
    reached: u64,
    raised: Option<Duration>,
}

impl TermBound {
    /// Whether a term may be believed.
    pub(crate) const fn allows(&self, term: Term) -> bool {
        term.0 <= TERM_MAX && term.0 <= self.reached.saturating_add(JUMP_MAX)
    }

    /// A claim was accepted.
    pub(crate) fn reach(&mut self, term: Term) {
        self.reached = self.reached.max(term.0);
    }

    /// A member's claim, its signature verified, was refused as too far ahead.
    pub(crate) fn refused(&mut self, term: Term, now: Duration) {
        let due = self.raised.is_none_or(|raised| raised + RAISE_EVERY <= now);
        if term.0 <= TERM_MAX && due {
            self.raised = Some(now);
            self.reached = self.reached.saturating_add(JUMP_MAX).min(term.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn term_beyond_the_maximum_is_refused_and_changes_nothing() {
        let mut bound = TermBound::default();
        for second in 0..1_000 {
            for term in [u64::MAX, TERM_MAX + 1] {
                assert!(!bound.allows(Term(term)));
                bound.refused(Term(term), Duration::from_secs(second));
            }
        }
        assert_eq!(bound.reached, 0);
    }

    #[test]
    fn newcomer_reaches_the_term_to_which_an_attacker_drove_the_room() {
        let room = Term(10 * JUMP_MAX);
        let mut bound = TermBound::default();
        let mut seconds = 0;
        while !bound.allows(room) {
            bound.refused(room, Duration::from_secs(seconds));
            bound.refused(room, Duration::from_millis(seconds * 1_000 + 500));
            seconds += 1;
            assert!(seconds < 20, "one raise a second, ten raises");
        }
        assert!(seconds >= 9, "not faster than a raise a second");
    }

    proptest! {
        #[test]
        fn reached_term_always_has_a_successor(claims in proptest::collection::vec(any::<u64>(), 0..200)) {
            let mut bound = TermBound::default();
            for (second, term) in (0u64..).zip(claims) {
                let before = bound.reached;
                if bound.allows(Term(term)) {
                    bound.reach(Term(term));
                } else {
                    bound.refused(Term(term), Duration::from_secs(second));
                }
                prop_assert!(bound.reached <= before.saturating_add(JUMP_MAX).max(before));
                prop_assert!(bound.reached <= TERM_MAX);
            }
        }
    }
}
