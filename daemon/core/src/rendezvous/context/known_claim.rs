//! What this peer knows of the role: the claim in force and the newest succession.

use chat_proto::id::{PeerId, Term};
use chat_proto::time::Timestamp;

use crate::connectivity::rank::RankRow;
use crate::rendezvous::protocol::claim::Claim;
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::signed::Signed;
use crate::rendezvous::protocol::succession::{Succession, SuccessionLine};
use crate::rendezvous::protocol::term::TermBound;

/// The claim in force, and the succession behind it.
#[derive(Debug, Default)]
pub(crate) struct KnownClaim {
    claim: Option<Signed<Claim>>,
    claim_id: u32,
    /// Newest succession of that claim's term or, until its holder has published, of an earlier one.
    succession: Option<Signed<Succession>>,
    since: Option<Timestamp>,
    version: u64,
    /// Terms that this peer believes.
    pub(crate) terms: TermBound,
}

impl KnownClaim {
    /// Grows with every change.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn claim(&self) -> Option<&Signed<Claim>> {
        self.claim.as_ref()
    }

    /// Short hash of the claim, to compare with neighbours; 0 for none.
    pub(crate) const fn claim_id(&self) -> u32 {
        self.claim_id
    }

    pub(crate) fn term(&self) -> Term {
        self.claim.as_ref().map_or(Term(0), |claim| claim.value().term)
    }

    pub(crate) fn holder(&self) -> Option<PeerId> {
        self.claim.as_ref().map(|claim| claim.value().claimant)
    }

    pub(crate) const fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// This claim is in force from now on.
    pub(crate) fn follow(&mut self, claim: Signed<Claim>, wall: Timestamp) {
        let hash = blake3::hash(&postcard::to_stdvec(claim.raw()).unwrap_or_default());
        let bytes = hash.as_bytes();
        self.claim_id = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.claim = Some(claim);
        self.since = Some(wall);
        self.version += 1;
    }

    /// The newest succession, of this term or an earlier one.
    pub(crate) fn succession(&self) -> Option<&Succession> {
        self.succession.as_ref().map(Signed::value)
    }

    /// The newest succession of the current term.
    pub(crate) fn current(&self) -> Option<&Signed<Succession>> {
        let claim = self.claim.as_ref()?.value();
        self.succession.as_ref().filter(|signed| {
            let succession = signed.value();
            succession.term == claim.term && succession.holder == claim.claimant
        })
    }

    /// Serial of the newest succession of the current term; 0 for none.
    pub(crate) fn serial(&self) -> u64 {
        self.current().map_or(0, |signed| signed.value().serial)
    }

    /// Replaces the succession; it was checked to be of the current term and newer.
    pub(crate) fn publish(&mut self, succession: Signed<Succession>) {
        self.succession = Some(succession);
        self.version += 1;
    }

    /// The last published ranking.
    pub(crate) fn rows(&self) -> &[RankRow] {
        self.succession().map_or(&[], |succession| &succession.rows)
    }

    /// The peers that follow the holder, in order.
    pub(crate) fn line(&self) -> SuccessionLine {
        SuccessionLine::behind(self.succession(), self.holder().as_ref())
    }

    /// A peer's rank, from 1.
    pub(crate) fn rank(&self, peer: &PeerId) -> Option<u16> {
        self.succession().and_then(|succession| succession.rank(peer))
    }

    /// The frame that carries all of it to a neighbour.
    pub(crate) fn state_frame(&self) -> RoleFrame {
        RoleFrame::State {
            claim: self.claim.as_ref().map(|claim| claim.raw().clone()),
            succession: self.current().map(|succession| succession.raw().clone()),
        }
    }
}
