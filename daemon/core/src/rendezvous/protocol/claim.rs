//! Claims: "I hold the role from this term on", and which of two claims wins.
//!
//! A claim is a signed statement of its claimant. It carries what other peers need to order it without asking: the term,
//! the number of members the claimant is in touch with, its rank. The rest (former holder, reason, gap, date) is for the
//! history; no rule trusts it, except that a planned change is recognised by its former holder.
//!
//! [`compare`] is a total order, so that any two peers with the same claims choose the same holder, in whatever order the
//! claims arrive: the higher term, then the larger component, then the better rank, then the greater key, then the
//! remaining content. Whether a term may be believed at all is decided in [`term`](super::term); whether the winner is
//! followed at once, in [`conflict`](crate::rendezvous::claims::conflict).

use std::cmp::{Ordering, Reverse};

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, RoomId, Term};
use chat_proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rendezvous::protocol::signed::{Signed, Statement};

/// A claim. Its author is the claimant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) room: RoomId,
    pub(crate) term: Term,
    pub(crate) claimant: PeerId,
    /// The former holder, as the claimant knew it.
    pub(crate) from: Option<PeerId>,
    pub(crate) reason: ChangeReason,
    /// Number of members the claimant was in touch with, itself included; one less where it had just started and could not
    /// know what became of the room.
    pub(crate) component: u32,
    /// Its rank, from 1; [`UNRANKED`] where it had none.
    pub(crate) rank: u16,
    /// Time without a holder, as the claimant saw it, in milliseconds.
    pub(crate) gap_ms: u32,
    /// The claimant's clock.
    pub(crate) at: Timestamp,
}

/// The rank of a claimant outside the ranking: behind all ranked ones.
pub(crate) const UNRANKED: u16 = u16::MAX;

impl Statement for Claim {
    const CONTEXT: &'static [u8] = b"chatd role claim v1\0";

    fn room(&self) -> &RoomId {
        &self.room
    }

    fn author(&self) -> &PeerId {
        &self.claimant
    }

    fn fits(&self) -> bool {
        true
    }
}

/// Orders two claims; the greater one wins: the higher term, of equal terms the larger component, then the better rank,
/// then the greater key. The remaining content comes last, so that a peer that signs two claims for one term still leaves
/// every peer with the same one.
pub(crate) fn compare(a: &Signed<Claim>, b: &Signed<Claim>) -> Ordering {
    let place = |claim: &Claim| (claim.term, claim.component, Reverse(claim.rank), claim.claimant);
    place(a.value()).cmp(&place(b.value())).then_with(|| tail(a.value()).cmp(&tail(b.value())))
}

fn tail(claim: &Claim) -> (Option<PeerId>, u8, u32, Timestamp) {
    (claim.from, claim.reason as u8, claim.gap_ms, claim.at)
}

/// A claim of the peer whose key is made of `key`, for tests.
#[cfg(test)]
pub(crate) fn claim_by(key: u8, change: impl FnOnce(&mut Claim)) -> Signed<Claim> {
    let key = ed25519_dalek::SigningKey::from_bytes(&[key; 32]);
    let mut claim = Claim {
        room: RoomId::from_bytes([9; 32]),
        term: Term(1),
        claimant: PeerId::from_bytes(key.verifying_key().to_bytes()),
        from: None,
        reason: ChangeReason::Died,
        component: 1,
        rank: 1,
        gap_ms: 0,
        at: Timestamp::from_ms(1),
    };
    change(&mut claim);
    Signed::sign(claim, &key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arb_claim() -> impl Strategy<Value = Signed<Claim>> {
        (0u64..3, 1u8..4, 1u32..4, 1u16..4, 0u32..2).prop_map(|(term, key, component, rank, gap_ms)| {
            claim_by(key, |claim| {
                (claim.term, claim.component, claim.rank, claim.gap_ms) = (Term(term), component, rank, gap_ms);
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn same_claim_wins_in_whatever_order_they_arrive(claims in proptest::collection::vec(arb_claim(), 1..8)) {
            let winner = |list: &[Signed<Claim>]| list.iter().cloned().max_by(compare).expect("not empty");
            let mut reversed = claims.clone();
            reversed.reverse();
            prop_assert_eq!(winner(&claims), winner(&reversed));
            for (a, b) in claims.iter().zip(&reversed) {
                prop_assert_eq!(compare(a, b), compare(b, a).reverse());
                prop_assert_eq!(compare(a, b) == Ordering::Equal, a == b);
            }
            let best = winner(&claims);
            let term = claims.iter().map(|claim| claim.value().term).max();
            prop_assert_eq!(Some(best.value().term), term);
        }
    }

    #[test]
    fn equal_terms_are_ordered_by_component_then_rank_then_key() {
        let signed = |key: u8, component: u32, rank: u16| {
            claim_by(key, |claim| (claim.component, claim.rank) = (component, rank))
        };
        assert_eq!(compare(&signed(1, 3, 9), &signed(2, 2, 1)), Ordering::Greater);
        assert_eq!(compare(&signed(1, 3, 2), &signed(2, 3, 1)), Ordering::Less);
        assert_eq!(compare(&signed(1, 3, 2), &signed(2, 3, UNRANKED)), Ordering::Greater);
        let (a, b) = (signed(1, 3, 2), signed(2, 3, 2));
        assert_eq!(compare(&a, &b), a.value().claimant.cmp(&b.value().claimant));
    }
}
