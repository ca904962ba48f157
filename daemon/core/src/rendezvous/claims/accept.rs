//! Accepting a claim of another peer: is it valid, does it beat the known one, and what changes with it?
//!
//! The checks go from cheap to expensive: membership, identity with the known claim, term, signature, term bound,
//! comparison, rate. A peer that sends a claim that loses is sent the winner. A claim that wins is handed to
//! `conflict::receive`, which decides whether it is adopted, countered, or held back for this peer's own
//! holder.
//!
//! Invariants: the known claim only ever changes to one that [`compare`] puts above it; every adopted claim is forwarded
//! once, recorded in the history and reported with [`RoleOutput::Changed`]; a holder that adopts the claim of another peer
//! stops being a holder in the same step. The caller is the dispatch of frames in
//! [`Rendezvous`](crate::rendezvous::Rendezvous); a claim that arrived early is received once more when the members change.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;

use crate::rendezvous::claims::ClaimHandler;
use crate::rendezvous::claims::conflict::{
    ClaimOrigin, Freshness, HOLD_BACK, Reception, Standpoint, Wakefulness, receive,
};
use crate::rendezvous::context::Context;
use crate::rendezvous::context::decision::HeldClaim;
use crate::rendezvous::events::{RoleFault, RoleOutput};
use crate::rendezvous::follower::Following;
use crate::rendezvous::holder::Holding;
use crate::rendezvous::protocol::claim::{Claim, compare};
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::signed::{Opened, Signed, SignedBytes};
use crate::rendezvous::protocol::succession::Succession;
use crate::rendezvous::state::RoleState;
use crate::types::Change;

impl ClaimHandler<'_> {
    /// A neighbour sent a claim, perhaps with its succession.
    pub(crate) fn receive_claim(
        &mut self,
        source: PeerId,
        raw: SignedBytes,
        succession: Option<SignedBytes>,
    ) -> Result<(), RoleFault> {
        let now = self.cx.now.mono;
        let opened: Opened<Claim> = raw.open(&self.cx.room)?;
        if !self.cx.members.contains(&opened.value().claimant) {
            self.keep_early_claim(source, opened.raw().clone(), succession);
            return Ok(());
        }
        if self.cx.known.claim().is_some_and(|known| known.raw() == opened.raw()) {
            self.follow_again(opened.value().claimant);
            return succession.map_or(Ok(()), |raw| self.receive_succession(source, raw));
        }
        let cx = &mut *self.cx;
        if opened.value().term < cx.known.term() {
            cx.send_state(source);
            return Ok(());
        }
        let claim = opened.verify()?;
        if !cx.known.terms.allows(claim.value().term) {
            cx.known.terms.refused(claim.value().term, now);
            return Ok(());
        }
        if cx.known.claim().is_some_and(|known| compare(&claim, known) == Ordering::Less) {
            cx.history.learned(&claim);
            cx.send_state(source);
            return Ok(());
        }
        // Only claims that win use up what a room may change: a flood of losing ones delays no peer.
        if !self.desk.adoptable.take(now) {
            return Ok(());
        }
        let succession = succession.and_then(|raw| succession_of(&claim, raw, cx));
        self.weigh_claim(claim, succession, source);
        Ok(())
    }

    /// A peer that began anew hears the claim that it knew before.
    fn follow_again(&mut self, claimant: PeerId) {
        let cx = &mut *self.cx;
        if matches!(self.state, RoleState::Seeking(_)) && claimant != cx.me {
            *self.state = RoleState::Following(Box::new(Following::new(claimant, cx.known.term(), cx.now.mono)));
            self.observer.report_soon(cx);
        }
    }

    /// A claim beats the one this peer knows.
    fn weigh_claim(&mut self, claim: Signed<Claim>, succession: Option<Signed<Succession>>, source: PeerId) {
        let now = self.cx.now.mono;
        let theirs = succession.as_ref().map_or(claim.value().component, |signed| signed.value().component);
        let ours = self.state.component(self.cx, now);
        let origin = origin_of(claim.value(), &source, self.cx);
        match receive(standpoint(self.state, self.cx), origin, theirs, ours) {
            Reception::Adopt => self.adopt(claim, succession, Some(source)),
            Reception::Counter => self.counter(&claim),
            Reception::Hold => {
                if let RoleState::Following(following) = self.state {
                    hold_back(following, self.cx, claim, succession, source);
                }
            }
        }
    }

    /// Follows a claim from now on: forwards it, records it, changes the state.
    pub(crate) fn adopt(
        &mut self,
        claim: Signed<Claim>,
        succession: Option<Signed<Succession>>,
        source: Option<PeerId>,
    ) {
        let cx = &mut *self.cx;
        let change = describe(claim.value(), self.state, cx);
        let claimant = claim.value().claimant;
        let frame = match &succession {
            None => RoleFrame::Claim(claim.raw().clone()),
            Some(_) => state_frame(&claim, succession.as_ref()),
        };
        cx.flood(&frame, source);
        cx.record_claim(&claim, change.clone());
        cx.known.follow(claim, cx.now.wall);
        if let Some(signed) = succession {
            cx.known.publish(signed);
        }
        let leaving = match self.state {
            RoleState::Following(following) => {
                following.close_tcp_watch(cx);
                false
            }
            RoleState::Holding(holding) => holding.is_leaving(),
            RoleState::Seeking(_) | RoleState::Gone => false,
        };
        *self.state = if leaving {
            RoleState::Gone
        } else if claimant == cx.me {
            // A peer that came back before the others noticed: it goes on in its own term.
            RoleState::Holding(Box::new(Holding::new(cx, &BTreeSet::new())))
        } else {
            RoleState::Following(Box::new(Following::new(claimant, cx.known.term(), cx.now.mono)))
        };
        self.observer.report_soon(self.cx);
        self.cx.out.push_back(RoleOutput::Changed(change));
        if leaving {
            self.cx.out.push_back(RoleOutput::Released);
        }
    }

    /// A neighbour sent a succession.
    pub(crate) fn receive_succession(&mut self, source: PeerId, raw: SignedBytes) -> Result<(), RoleFault> {
        let opened: Opened<Succession> = raw.open(&self.cx.room)?;
        let (term, holder, serial) = (opened.value().term, opened.value().holder, opened.value().serial);
        let cx = &mut *self.cx;
        if term > cx.known.term() {
            cx.ping(source, self.state.newest_sign(cx.now.mono));
            return Ok(());
        }
        if term < cx.known.term() {
            cx.send_state(source);
            return Ok(());
        }
        if Some(holder) != cx.known.holder() || serial <= cx.known.serial() {
            return Ok(());
        }
        let first = cx.known.serial() == 0;
        let signed = opened.verify()?;
        if first {
            cx.flood(&RoleFrame::Succession(signed.raw().clone()), Some(source));
        }
        cx.known.publish(signed);
        if let RoleState::Holding(holding) = self.state {
            // This holder restarted within its term; it goes on above what it had published.
            holding.ranking.publish_now(cx.now.mono);
        }
        Ok(())
    }

    /// A neighbour sent its history. Only claims of present and former members are valid, and none above the known
    /// term: such a claim arrives as what it is, or not at all.
    pub(crate) fn receive_history(&mut self, peer: PeerId, claims: Vec<SignedBytes>) -> Result<(), RoleFault> {
        for raw in claims {
            let opened: Opened<Claim> = raw.open(&self.cx.room)?;
            let (term, claimant) = (opened.value().term, opened.value().claimant);
            let members = &self.cx.members;
            let known = members.contains(&claimant) || members.former.contains(&claimant);
            if !known || term > self.cx.known.term() || self.cx.history.contains(term, &claimant) {
                continue;
            }
            let claim = opened.verify()?;
            let beats = self.cx.known.claim().is_some_and(|own| compare(&claim, own) == Ordering::Greater);
            if beats {
                self.receive_claim(peer, claim.raw().clone(), None)?;
            } else {
                self.cx.history.learned(&claim);
            }
        }
        Ok(())
    }
}

/// Keeps a claim of a minority until this peer's own holder has answered it, and forwards it to the holder.
fn hold_back(
    following: &mut Following,
    cx: &mut Context,
    claim: Signed<Claim>,
    succession: Option<Signed<Succession>>,
    source: PeerId,
) {
    let held = following.held.as_ref();
    let known = held.is_some_and(|held| held.claim == claim);
    let better = held.is_none_or(|held| compare(&claim, &held.claim).is_gt());
    if better {
        let until = held.map_or(cx.now.mono + HOLD_BACK, |held| held.until);
        let frame = state_frame(&claim, succession.as_ref());
        following.held = Some(HeldClaim { claim, succession, source, until });
        cx.flood(&frame, Some(source));
    } else if !known {
        cx.history.learned(&claim);
    }
}

fn state_frame(claim: &Signed<Claim>, succession: Option<&Signed<Succession>>) -> RoleFrame {
    RoleFrame::State { claim: Some(claim.raw().clone()), succession: succession.map(|signed| signed.raw().clone()) }
}

/// The succession that came with a claim, if it is that claim's.
fn succession_of(claim: &Signed<Claim>, raw: SignedBytes, cx: &Context) -> Option<Signed<Succession>> {
    let opened: Opened<Succession> = raw.open(&cx.room).ok()?;
    let (succession, claim) = (opened.value(), claim.value());
    let belongs = succession.term == claim.term && succession.holder == claim.claimant;
    belongs.then(|| opened.verify().ok()).flatten()
}

fn origin_of(claim: &Claim, source: &PeerId, cx: &Context) -> ClaimOrigin {
    let holder = cx.known.holder();
    let planned = claim.reason.is_planned() && holder.is_some() && claim.from == holder;
    let own = claim.claimant == cx.me || Some(*source) == holder || Some(claim.claimant) == holder;
    if planned || own { ClaimOrigin::Endorsed } else { ClaimOrigin::Elsewhere }
}

fn standpoint(state: &RoleState, cx: &Context) -> Standpoint {
    let now = cx.now.mono;
    match state {
        RoleState::Seeking(_) | RoleState::Gone => Standpoint::NoHolder,
        RoleState::Following(following) if following.vacancy.is_some() => Standpoint::NoHolder,
        RoleState::Following(following) => {
            let detector = &following.detector;
            let known = detector.heard.is_some() || detector.fresh.is_some();
            let fresh = known
                && following.suspicion.is_none()
                && now < detector.alarm_at(following.closeness(cx), &cx.settings, cx.stretch());
            Standpoint::Follower(if fresh { Freshness::Fresh } else { Freshness::Stale })
        }
        RoleState::Holding(holding) => {
            let doubts = holding.doubt.is_some() || holding.handover.is_some() || cx.stretch() > 1;
            Standpoint::Holder(if doubts { Wakefulness::Slept } else { Wakefulness::Awake })
        }
    }
}

/// What a claim changes, as this peer sees it.
fn describe(claim: &Claim, state: &RoleState, cx: &Context) -> Change {
    let before = cx.known.holder();
    let lost_at = match state {
        RoleState::Following(following) => {
            let suspected = following.suspicion.as_ref().map(|suspicion| suspicion.lost_at);
            following.vacancy.map(|vacancy| vacancy.lost_at).or(suspected)
        }
        RoleState::Seeking(_) | RoleState::Holding(_) | RoleState::Gone => None,
    };
    let expected = before.is_none() || claim.from == before || lost_at.is_some();
    let reason = if expected || claim.reason == ChangeReason::Merged { claim.reason } else { ChangeReason::Merged };
    let gap = if reason.is_loss() && before.is_some() {
        let reported = Duration::from_millis(u64::from(claim.gap_ms));
        lost_at.map_or(reported, |lost| cx.now.mono.saturating_sub(lost))
    } else {
        Duration::ZERO
    };
    let from = before.filter(|holder| *holder != claim.claimant).or(claim.from);
    Change { term: claim.term, from, to: claim.claimant, at: cx.now.wall, reason, gap }
}
