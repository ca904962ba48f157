//! Claims: accepting one of another peer, making one, and deciding between two.
//!
//! [`ClaimHandler`] borrows what a claim may change: the shared context, the state that it replaces, and the desk with the
//! claims that wait. Every transition from one state to another is here.

use chat_proto::id::PeerId;

use crate::context::token_bucket::TokenBucket;
use crate::rendezvous::context::Context;
use crate::rendezvous::context::decision::Decision;
use crate::rendezvous::events::RoleOutput;
use crate::rendezvous::protocol::signed::SignedBytes;
use crate::rendezvous::state::RoleState;
use crate::rendezvous::upkeep::observer::Observer;

pub(crate) mod accept;
pub(crate) mod conflict;
pub(crate) mod make;

/// Maximum rate of claims that are adopted: a room moves its role now and then, not many times a second.
const CLAIMS_BURST: u32 = 32;
const CLAIMS_PER_MINUTE: u32 = 120;

/// A claim that arrived before its claimant was known to be a member. A newcomer learns of the holder as soon as it is
/// connected, and of the members a moment later.
#[derive(Debug)]
struct EarlyClaim {
    source: PeerId,
    claim: SignedBytes,
    succession: Option<SignedBytes>,
}

/// What is kept about claims that are not in force.
#[derive(Debug)]
pub(crate) struct ClaimDesk {
    /// While this peer seeks: a claim of a peer that is not a member as far as it knows.
    early: Option<EarlyClaim>,
    adoptable: TokenBucket,
}

impl ClaimDesk {
    pub(crate) fn new(cx: &Context) -> Self {
        Self { early: None, adoptable: TokenBucket::full(CLAIMS_BURST, CLAIMS_PER_MINUTE, cx.now.mono) }
    }
}

/// Works on claims.
pub(crate) struct ClaimHandler<'a> {
    pub(super) cx: &'a mut Context,
    pub(super) state: &'a mut RoleState,
    pub(super) desk: &'a mut ClaimDesk,
    pub(super) observer: &'a mut Observer,
}

impl ClaimHandler<'_> {
    /// Changes the state as it wants.
    pub(crate) fn carry_out(&mut self, decision: Option<Decision>) {
        match decision {
            None => {}
            Some(Decision::Claim(bid)) => self.claim(bid),
            Some(Decision::Adopt(held)) => self.adopt(held.claim, held.succession, Some(held.source)),
            Some(Decision::Leave) => {
                if let RoleState::Following(following) = self.state {
                    following.close_tcp_watch(self.cx);
                }
                *self.state = RoleState::Gone;
                self.cx.out.push_back(RoleOutput::Released);
            }
        }
    }

    /// Keeps the newest claim of an unknown peer while no valid one is known.
    fn keep_early_claim(&mut self, source: PeerId, claim: SignedBytes, succession: Option<SignedBytes>) {
        if matches!(self.state, RoleState::Seeking(_)) {
            self.desk.early = Some(EarlyClaim { source, claim, succession });
        }
    }

    /// The members changed: the claim that arrived early may be of one of them.
    pub(crate) fn reconsider_early_claim(&mut self) {
        let Some(EarlyClaim { source, claim, succession }) = self.desk.early.take() else { return };
        if let Err(fault) = self.receive_claim(source, claim, succession) {
            self.cx.out.push_back(RoleOutput::Fault(source, fault));
        }
    }
}
