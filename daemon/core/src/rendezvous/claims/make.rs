//! Making a claim: this peer takes the role, or keeps it against a minority.
//!
//! A claim is the next term, signed by the claimant and sent to every neighbour; nothing has to confirm it. Its callers
//! are the four reasons to take the role: no holder was found ([`seeker`](crate::rendezvous::seeker)), the holder is gone and it
//! is this peer's turn ([`election`](crate::rendezvous::follower::election)), the holder offered the role
//! ([`handover`](crate::rendezvous::holder::handover)), or a small minority claimed a higher term while this peer holds
//! the role of the larger part ([`counter`](ClaimHandler::counter)).
//!
//! Invariants: a peer claims only while it is a member; its claims have strictly rising terms; the claim is sent before
//! [`RoleOutput::Changed`] is given out.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::Term;

use crate::rendezvous::claims::ClaimHandler;
use crate::rendezvous::context::Context;
use crate::rendezvous::context::decision::Bid;
use crate::rendezvous::events::RoleOutput;
use crate::rendezvous::holder::Holding;
use crate::rendezvous::protocol::claim::{Claim, UNRANKED};
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::signed::Signed;
use crate::rendezvous::state::RoleState;
use crate::types::Change;

impl ClaimHandler<'_> {
    /// Claims the role.
    pub(crate) fn claim(&mut self, bid: Bid) {
        let claim = sign_claim(self.cx, self.cx.known.term(), bid);
        let mut absent = BTreeSet::new();
        if let RoleState::Following(following) = self.state {
            following.close_tcp_watch(self.cx);
            absent = std::mem::take(&mut following.absent);
        }
        *self.state = RoleState::Holding(Box::new(Holding::new(self.cx, &absent)));
        self.hold_from(claim, bid);
    }

    /// Claims the term after a minority's claim, without a break in what this holder does.
    pub(super) fn counter(&mut self, theirs: &Signed<Claim>) {
        let cx = &mut *self.cx;
        let now = cx.now.mono;
        let RoleState::Holding(holding) = self.state else { return };
        if !holding.counters.take(now) {
            return self.adopt(theirs.clone(), None, None);
        }
        holding.ranking.begin_term(now);
        let from = Some(theirs.value().claimant);
        let component = holding.component(cx, now);
        cx.history.learned(theirs);
        cx.known.terms.reach(theirs.value().term);
        let bid = Bid { reason: ChangeReason::Merged, from, gap: Duration::ZERO, component };
        let claim = sign_claim(cx, theirs.value().term, bid);
        self.hold_from(claim, bid);
    }

    fn hold_from(&mut self, claim: Signed<Claim>, bid: Bid) {
        let cx = &mut *self.cx;
        let Bid { reason, from, gap, .. } = bid;
        let change = Change { term: claim.value().term, from, to: cx.me, at: cx.now.wall, reason, gap };
        cx.flood(&RoleFrame::Claim(claim.raw().clone()), None);
        cx.record_claim(&claim, change.clone());
        cx.known.follow(claim, cx.now.wall);
        cx.out.push_back(RoleOutput::Changed(change));
    }
}

fn sign_claim(cx: &Context, after: Term, bid: Bid) -> Signed<Claim> {
    cx.sign(Claim {
        room: cx.room,
        term: after.next(),
        claimant: cx.me,
        from: bid.from,
        reason: bid.reason,
        component: bid.component,
        rank: cx.known.rank(&cx.me).unwrap_or(UNRANKED),
        gap_ms: u32::try_from(bid.gap.as_millis()).unwrap_or(u32::MAX),
        at: cx.now.wall,
    })
}
