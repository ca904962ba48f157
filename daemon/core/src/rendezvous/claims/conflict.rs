//! What a peer does with a claim that beats the one it knows.
//!
//! The higher term wins, always and everywhere. But a peer that was cut off alone for a second claims the next term, and
//! would take the role from all others on its return. So where the other side is a small minority, at most half of this
//! one, the living holder of the larger side answers with a term that is higher still ([`Reception::Counter`]), and its
//! followers wait 0.4 s for that answer before they follow ([`Reception::Hold`]). A holder that was stalled never counters:
//! it steps down at sight.
//!
//! [`receive`] is a pure function, called by [`accept`](super::accept) for each valid claim. Two holders never both
//! counter, whatever sizes they believe in, since both would have to be at most half of the other.

use std::time::Duration;

/// Time that followers wait for their holder's answer.
pub(crate) const HOLD_BACK: Duration = Duration::from_millis(400);

/// The receiver of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standpoint {
    /// It knows of no holder, or has declared it gone.
    NoHolder,
    /// It holds the role.
    Holder(Wakefulness),
    /// It follows another peer.
    Follower(Freshness),
}

/// Whether a holder can be sure that it still is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakefulness {
    /// Its timers were on time.
    Awake,
    /// It was stalled a moment ago, doubts that it is the holder, or hands the role over.
    Slept,
}

/// Whether a follower has signs of life of its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// A recent one.
    Fresh,
    /// No recent one.
    Stale,
}

/// Where the claim comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimOrigin {
    /// This peer's holder forwarded or planned it, and so agrees.
    Endorsed,
    /// Any other peer.
    Elsewhere,
}

/// What to do with the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    /// Follow it; a holder steps down.
    Adopt,
    /// Claim the term after it.
    Counter,
    /// Wait [`HOLD_BACK`] for this peer's own holder.
    Hold,
}

/// Decides. `theirs` and `ours` are the numbers of members that each side is in touch with.
pub(crate) const fn receive(standing: Standpoint, origin: ClaimOrigin, theirs: u32, ours: u32) -> Reception {
    let minority = theirs.saturating_mul(2) <= ours;
    match (standing, origin) {
        (Standpoint::Holder(Wakefulness::Awake), ClaimOrigin::Elsewhere) if minority => Reception::Counter,
        (Standpoint::Follower(Freshness::Fresh), ClaimOrigin::Elsewhere) if minority => Reception::Hold,
        (
            Standpoint::NoHolder | Standpoint::Holder(_) | Standpoint::Follower(_),
            ClaimOrigin::Endorsed | ClaimOrigin::Elsewhere,
        ) => Reception::Adopt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ClaimOrigin::{Elsewhere, Endorsed};
    use Freshness::{Fresh, Stale};
    use Reception::{Adopt, Counter, Hold};
    use Standpoint::{Follower, Holder, NoHolder};
    use Wakefulness::{Awake, Slept};

    #[test]
    fn higher_claim_is_adopted_unless_a_small_minority_makes_it() {
        for (standing, origin, theirs, ours, expected) in [
            // A peer alone comes back to four: their holder counters, the others wait for that.
            (Holder(Awake), Elsewhere, 1, 4, Counter),
            (Follower(Fresh), Elsewhere, 1, 4, Hold),
            // Halves of like size: the higher term wins at once.
            (Holder(Awake), Elsewhere, 2, 3, Adopt),
            (Follower(Fresh), Elsewhere, 2, 3, Adopt),
            (Holder(Awake), Elsewhere, 1, 1, Adopt),
            // The claim of the larger half.
            (Holder(Awake), Elsewhere, 4, 1, Adopt),
            (Follower(Fresh), Elsewhere, 4, 1, Adopt),
            // A stalled holder and a follower that lost its own do not resist.
            (Holder(Slept), Elsewhere, 1, 4, Adopt),
            (Follower(Stale), Elsewhere, 1, 4, Adopt),
            (NoHolder, Elsewhere, 1, 4, Adopt),
            // A planned handover.
            (Holder(Awake), Endorsed, 1, 4, Adopt),
            (Follower(Fresh), Endorsed, 1, 4, Adopt),
            // Absurd figures.
            (Holder(Awake), Elsewhere, u32::MAX, u32::MAX, Counter),
            (Holder(Awake), Elsewhere, u32::MAX, 5, Adopt),
            (Holder(Awake), Elsewhere, 0, 0, Counter),
        ] {
            assert_eq!(receive(standing, origin, theirs, ours), expected, "{standing:?} {origin:?} {theirs} {ours}");
        }
    }

    #[test]
    fn two_holders_never_both_counter() {
        for theirs in 1..200 {
            for ours in 1..200 {
                let a = receive(Holder(Awake), Elsewhere, theirs, ours);
                let b = receive(Holder(Awake), Elsewhere, ours, theirs);
                assert!(!(a == Counter && b == Counter), "{theirs} {ours}");
            }
        }
    }
}
