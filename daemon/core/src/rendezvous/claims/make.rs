//! Making a claim: this peer takes the role, or keeps it against a minority.
//!
//! A claim is the next term, signed by the claimant and sent to every neighbour; nothing has to confirm it. Its callers
//! are the four reasons to take the role: no holder was found ([`bootstrap`](super::bootstrap)), the holder is gone and it
//! is this peer's turn ([`election`](crate::rendezvous::follower::election)), the holder offered the role
//! ([`handover`](crate::rendezvous::holder::handover)), or a small minority claimed a higher term while this peer holds
//! the role of the larger part ([`counter`](Rendezvous::counter)).
//!
//! Invariants: a peer claims only while it is a member; its claims have strictly rising terms; the claim is sent before
//! [`RoleOutput::Changed`] is given out.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::Term;

use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::RoleOutput;
use crate::rendezvous::holder::Holding;
use crate::rendezvous::protocol::claim::{Claim, UNRANKED};
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::signed::Signed;
use crate::rendezvous::state::context::Context;
use crate::rendezvous::state::{Bid, RoleState};
use crate::types::Change;

impl Rendezvous {
    /// Claims the role.
    pub(crate) fn claim(&mut self, bid: Bid) {
        let claim = sign_claim(&self.cx, self.cx.known.term(), bid);
        let mut absent = BTreeSet::new();
        if let RoleState::Following(following) = &mut self.state {
            following.close_tcp_watch(&mut self.cx);
            absent = std::mem::take(&mut following.absent);
        }
        self.state = RoleState::Holding(Box::new(Holding::new(&self.cx, &absent)));
        self.cx.hold_from(claim, bid);
    }

    /// Claims the term after a minority's claim, without a break in what this holder does.
    pub(super) fn counter(&mut self, theirs: &Signed<Claim>) {
        let cx = &mut self.cx;
        let now = cx.now.mono;
        let RoleState::Holding(holding) = &mut self.state else { return };
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
        cx.hold_from(claim, bid);
    }
}

impl Context {
    fn hold_from(&mut self, claim: Signed<Claim>, bid: Bid) {
        let Bid { reason, from, gap, .. } = bid;
        let change = Change { term: claim.value().term, from, to: self.me, at: self.now.wall, reason, gap };
        self.flood(&RoleFrame::Claim(claim.raw().clone()), None);
        self.record_claim(&claim, change.clone());
        self.known.follow(claim, self.now.wall);
        self.out.push_back(RoleOutput::Changed(change));
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
