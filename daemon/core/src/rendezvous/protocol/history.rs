//! The history of the role: the last claims that were in force, with the change as seen here or as it was signed.
//!
//! Two halves of a split room each have their own; when they meet, both are kept. Neighbours compare a short hash with
//! every ping and fetch what differs, so in the end every member has the same claims.

use std::collections::BTreeMap;
use std::time::Duration;

use chat_proto::id::{PeerId, Term};

use crate::rendezvous::protocol::claim::Claim;
use crate::rendezvous::protocol::signed::{Signed, SignedBytes};
use crate::rendezvous::settings::HISTORY_MAX;
use crate::types::Change;

/// A claim is named by its term and claimant; when a term is used up, the higher ones stay.
type Key = (Term, PeerId);

#[derive(Debug)]
struct Record {
    signed: SignedBytes,
    change: Change,
}

/// The claims that were in force, at most [`HISTORY_MAX`].
#[derive(Debug, Default)]
pub(crate) struct History {
    records: BTreeMap<Key, Record>,
    digest: u32,
}

impl History {
    /// A claim came into force here. Returns whether it was new.
    pub(crate) fn seen(&mut self, claim: &Signed<Claim>, change: Change) -> bool {
        self.insert(claim, change)
    }

    /// A claim that was in force elsewhere.
    pub(crate) fn learned(&mut self, claim: &Signed<Claim>) -> bool {
        let value = claim.value();
        let change = Change {
            term: value.term,
            from: value.from,
            to: value.claimant,
            at: value.at,
            reason: value.reason,
            gap: Duration::from_millis(u64::from(value.gap_ms)),
        };
        self.insert(claim, change)
    }

    fn insert(&mut self, claim: &Signed<Claim>, change: Change) -> bool {
        let key = (claim.value().term, claim.value().claimant);
        if self.records.contains_key(&key) {
            return false;
        }
        self.records.insert(key, Record { signed: claim.raw().clone(), change });
        while self.records.len() > HISTORY_MAX {
            self.records.pop_first();
        }
        self.digest = self.hash();
        self.records.contains_key(&key)
    }

    /// Whether this claim is known.
    pub(crate) fn contains(&self, term: Term, claimant: &PeerId) -> bool {
        self.records.contains_key(&(term, *claimant))
    }

    /// A short hash of what is here; equal for equal claims.
    pub(crate) const fn digest(&self) -> u32 {
        self.digest
    }

    fn hash(&self) -> u32 {
        let mut hasher = blake3::Hasher::new();
        for (term, peer) in self.records.keys() {
            hasher.update(&term.0.to_be_bytes());
            hasher.update(peer.as_bytes());
        }
        let hash = hasher.finalize();
        u32::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2], hash.as_bytes()[3]])
    }

    /// Everything, as it travels.
    pub(crate) fn signed(&self) -> Vec<SignedBytes> {
        self.records.values().map(|record| record.signed.clone()).collect()
    }

    /// The changes, newest term first.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.records.values().rev().map(|record| &record.change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rendezvous::protocol::claim::claim_by;

    fn claim(term: u64, by: u8) -> Signed<Claim> {
        claim_by(by, |claim| claim.term = Term(term))
    }

    #[test]
    fn history_keeps_both_halves_in_any_order() {
        let (mut left, mut right) = (History::default(), History::default());
        let (a, b) = (claim(2, 1), claim(2, 2));
        assert!(left.learned(&a) && left.learned(&b) && right.learned(&b));
        assert_ne!(left.digest(), right.digest());
        assert!(right.learned(&a) && !right.learned(&a));
        assert_eq!(left.digest(), right.digest());
        assert_eq!(left.changes().count(), 2);
    }

    #[test]
    fn history_keeps_the_last_hundred_and_what_was_seen_here() {
        let mut history = History::default();
        for term in 1..=150 {
            history.learned(&claim(term, 1));
        }
        let terms: Vec<u64> = history.changes().map(|change| change.term.0).collect();
        assert_eq!((terms.len(), terms[0], terms[99]), (HISTORY_MAX, 150, 51));
        assert!(!history.learned(&claim(3, 1)), "older than all that are kept");
        let late = claim(151, 1);
        let mut own = history.changes().next().expect("not empty").clone();
        own.term = Term(151);
        own.gap = Duration::from_millis(5);
        assert!(history.seen(&late, own));
        assert!(!history.learned(&late));
        assert_eq!(history.changes().next().map(|change| change.gap), Some(Duration::from_millis(5)));
    }
}
