//! What a state of the role wants that ends it.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;

use crate::rendezvous::protocol::claim::Claim;
use crate::rendezvous::protocol::signed::Signed;
use crate::rendezvous::protocol::succession::Succession;

/// What a state wants that ends it.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Claim the role.
    Claim(Bid),
    /// Follow a claim that was held back.
    Adopt(Box<HeldClaim>),
    /// Stop taking part: the role is handed over, or cannot be.
    Leave,
}

/// A claim this peer makes, before it has a term and a signature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bid {
    pub(crate) reason: ChangeReason,
    /// The former holder, as this peer knows it.
    pub(crate) from: Option<PeerId>,
    /// Time without a holder.
    pub(crate) gap: Duration,
    /// Members in touch with this peer, itself included.
    pub(crate) component: u32,
}

/// A claim that waits for the answer of this peer's own holder.
#[derive(Debug)]
pub(crate) struct HeldClaim {
    pub(crate) claim: Signed<Claim>,
    pub(crate) succession: Option<Signed<Succession>>,
    pub(crate) source: PeerId,
    pub(crate) until: Duration,
}

/// The size of a component of `others` and this peer.
pub(crate) fn with_me(others: usize) -> u32 {
    u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
}
