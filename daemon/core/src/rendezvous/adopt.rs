//! Taking claims: which one counts, what changes with it, and claiming the role oneself.

use std::cmp::Ordering;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;

use super::Rendezvous;
use super::claim::{Claim, UNRANKED, compare};
use super::frames::RoleFrame;
use super::handover::Purpose;
use super::io::{RoleFault, RoleOutput};
use super::merge::{Freshness, HOLD_BACK, Origin, Reception, Standing, Wakefulness, receive};
use super::part::{Following, HeldClaim, Holding, Part};
use super::signed::{Opened, Signed, SignedBytes};
use super::succession::Succession;
use super::watch::{Closeness, Tcp};
use crate::input::Now;
use crate::types::{Change, RoleRequest};

impl Rendezvous {
    /// A neighbour sent a claim, perhaps with its succession.
    pub(super) fn receive_claim(
        &mut self,
        source: PeerId,
        raw: SignedBytes,
        succession: Option<SignedBytes>,
        now: Now,
    ) -> Result<(), RoleFault> {
        let opened: Opened<Claim> = raw.open(&self.room)?;
        if !self.members.contains(&opened.value().claimant) {
            self.keep_early_claim(source, opened.raw().clone(), succession);
            return Ok(());
        }
        if self.ledger.claim().is_some_and(|known| known.raw() == opened.raw()) {
            return succession.map_or(Ok(()), |raw| self.receive_succession(source, raw, now));
        }
        if opened.value().term < self.ledger.term() {
            self.tell(source, now.mono);
            return Ok(());
        }
        let claim = opened.verify()?;
        if !self.terms.allows(claim.value().term) {
            self.terms.refused(claim.value().term, now.mono);
            return Ok(());
        }
        if self.ledger.claim().is_some_and(|known| compare(&claim, known) == Ordering::Less) {
            self.history.learned(&claim);
            self.tell(source, now.mono);
            return Ok(());
        }
        // Only claims that count use up what a room may change: a flood of losing ones holds up nobody.
        if !self.claims.take(now.mono) {
            return Ok(());
        }
        let succession = succession.and_then(|raw| self.succession_of(&claim, raw));
        self.weigh(claim, succession, source, now);
        Ok(())
    }

    /// The succession that came with a claim, if it is that claim's.
    fn succession_of(&self, claim: &Signed<Claim>, raw: SignedBytes) -> Option<Signed<Succession>> {
        let opened: Opened<Succession> = raw.open(&self.room).ok()?;
        let (succession, claim) = (opened.value(), claim.value());
        let belongs = succession.term == claim.term && succession.holder == claim.claimant;
        belongs.then(|| opened.verify().ok()).flatten()
    }

    /// A claim beats the one this peer knows.
    fn weigh(&mut self, claim: Signed<Claim>, succession: Option<Signed<Succession>>, source: PeerId, now: Now) {
        let theirs = succession.as_ref().map_or(claim.value().component, |signed| signed.value().component);
        let origin = self.origin(claim.value(), &source);
        match receive(self.standing(now.mono), origin, theirs, self.component(now.mono)) {
            Reception::Adopt => self.adopt(claim, succession, Some(source), now),
            Reception::Counter => self.insist(&claim, now),
            Reception::Hold => {
                let Part::Following(following) = &mut self.part else { return };
                let known = following.held.as_ref().is_some_and(|held| held.claim == claim);
                let better = following.held.as_ref().is_none_or(|held| compare(&claim, &held.claim).is_gt());
                if better {
                    let until = following.held.as_ref().map_or(now.mono + HOLD_BACK, |held| held.until);
                    let frame = RoleFrame::State {
                        claim: Some(claim.raw().clone()),
                        succession: succession.as_ref().map(|signed| signed.raw().clone()),
                    };
                    following.held = Some(HeldClaim { claim, succession, source, until });
                    self.flood(&frame, Some(source));
                } else if !known {
                    self.history.learned(&claim);
                }
            }
        }
    }

    fn origin(&self, claim: &Claim, source: &PeerId) -> Origin {
        let holder = self.ledger.holder();
        let planned = match claim.reason {
            ChangeReason::HandedOver | ChangeReason::BetterConnected => holder.is_some() && claim.from == holder,
            ChangeReason::Founded
            | ChangeReason::Died
            | ChangeReason::Silent
            | ChangeReason::Merged
            | ChangeReason::Removed => false,
        };
        let own = claim.claimant == self.me || Some(*source) == holder || Some(claim.claimant) == holder;
        if planned || own { Origin::Endorsed } else { Origin::Elsewhere }
    }

    fn standing(&self, now: Duration) -> Standing {
        match &self.part {
            Part::Seeking { .. } | Part::Gone => Standing::Nobody,
            Part::Following(following) if following.vacancy.is_some() => Standing::Nobody,
            Part::Following(following) => {
                let closeness = self.closeness(following);
                let known = following.watch.heard.is_some() || following.watch.fresh.is_some();
                let fresh = known
                    && following.suspicion.is_none()
                    && now < following.watch.alarm_at(closeness, &self.settings, self.slip.stretch(now));
                Standing::Follower(if fresh { Freshness::Fresh } else { Freshness::Stale })
            }
            Part::Holding(holding) => {
                let doubts = holding.doubt.is_some() || holding.handover.is_some() || self.slip.stretch(now) > 1;
                Standing::Holder(if doubts { Wakefulness::Slept } else { Wakefulness::Awake })
            }
        }
    }

    /// From now on this claim counts: passed on, recorded, followed.
    pub(super) fn adopt(
        &mut self,
        claim: Signed<Claim>,
        succession: Option<Signed<Succession>>,
        source: Option<PeerId>,
        now: Now,
    ) {
        let change = self.describe(claim.value(), now);
        let claimant = claim.value().claimant;
        let frame = match &succession {
            None => RoleFrame::Claim(claim.raw().clone()),
            Some(signed) => {
                RoleFrame::State { claim: Some(claim.raw().clone()), succession: Some(signed.raw().clone()) }
            }
        };
        self.flood(&frame, source);
        self.record(&claim, change.clone());
        self.ledger.follow(claim, now.wall);
        if let Some(signed) = succession {
            self.ledger.publish(signed);
        }
        self.close_watch();
        let leaving = self.leaving();
        self.part = if leaving {
            Part::Gone
        } else if claimant == self.me {
            // A peer that came back before anybody noticed: it goes on in its own term.
            Part::Holding(Box::new(Holding::new(self.ledger.rows(), &self.settings, now)))
        } else {
            Part::Following(Box::new(Following::new(claimant, self.ledger.term(), now.mono)))
        };
        self.report_soon(now.mono);
        self.out.push_back(RoleOutput::Changed(change));
        if leaving {
            self.out.push_back(RoleOutput::Released);
        }
    }

    fn leaving(&self) -> bool {
        let Part::Holding(holding) = &self.part else { return false };
        holding.handover.as_ref().is_some_and(|handover| handover.purpose == Purpose::Leaving)
    }

    fn record(&mut self, claim: &Signed<Claim>, change: Change) {
        self.terms.reach(claim.value().term);
        if self.ledger.claim().is_some() || claim.value().claimant == self.me {
            self.history.seen(claim, change);
        } else {
            // A newcomer saw nothing of how it came to this.
            self.history.learned(claim);
        }
    }

    /// What this claim changes, as this peer sees it.
    fn describe(&self, claim: &Claim, now: Now) -> Change {
        let before = self.ledger.holder();
        let lost_at = match &self.part {
            Part::Following(following) => {
                let suspected = following.suspicion.as_ref().map(|suspicion| suspicion.lost_at);
                following.vacancy.map(|vacancy| vacancy.lost_at).or(suspected)
            }
            Part::Seeking { .. } | Part::Holding(_) | Part::Gone => None,
        };
        let expected = before.is_none() || claim.from == before || lost_at.is_some();
        let reason = if expected || claim.reason == ChangeReason::Merged { claim.reason } else { ChangeReason::Merged };
        let gap = match reason {
            ChangeReason::Died | ChangeReason::Silent | ChangeReason::Removed if before.is_some() => {
                let told = Duration::from_millis(u64::from(claim.gap_ms));
                lost_at.map_or(told, |lost| now.mono.saturating_sub(lost))
            }
            ChangeReason::Died
            | ChangeReason::Silent
            | ChangeReason::Removed
            | ChangeReason::Founded
            | ChangeReason::HandedOver
            | ChangeReason::BetterConnected
            | ChangeReason::Merged => Duration::ZERO,
        };
        let from = before.filter(|holder| *holder != claim.claimant).or(claim.from);
        Change { term: claim.term, from, to: claim.claimant, at: now.wall, reason, gap }
    }

    /// Claims the role.
    pub(super) fn claim(
        &mut self,
        reason: ChangeReason,
        from: Option<PeerId>,
        gap: Duration,
        component: u32,
        now: Now,
    ) {
        let claim = self.sign_claim(self.ledger.term(), reason, from, gap, component, now);
        let change = Change { term: claim.value().term, from, to: self.me, at: now.wall, reason, gap };
        self.close_watch();
        let mut holding = Holding::new(self.ledger.rows(), &self.settings, now);
        if let Part::Following(following) = &mut self.part {
            let absent = std::mem::take(&mut following.absent);
            holding.absent = absent.into_iter().map(|peer| (peer, now.mono)).collect();
        }
        self.part = Part::Holding(Box::new(holding));
        self.hold_from(claim, change, now);
    }

    /// Claims the term after a minority's claim, without a break in what this holder does.
    fn insist(&mut self, theirs: &Signed<Claim>, now: Now) {
        let Part::Holding(holding) = &mut self.part else { return };
        if !holding.counters.take(now.mono) {
            return self.adopt(theirs.clone(), None, None, now);
        }
        holding.published = None;
        holding.publish_at = now.mono;
        holding.rank_at = now.mono;
        let from = Some(theirs.value().claimant);
        let component = self.component(now.mono);
        self.history.learned(theirs);
        self.terms.reach(theirs.value().term);
        let claim = self.sign_claim(theirs.value().term, ChangeReason::Merged, from, Duration::ZERO, component, now);
        let change = Change {
            term: claim.value().term,
            from,
            to: self.me,
            at: now.wall,
            reason: ChangeReason::Merged,
            gap: Duration::ZERO,
        };
        self.hold_from(claim, change, now);
    }

    fn hold_from(&mut self, claim: Signed<Claim>, change: Change, now: Now) {
        self.flood(&RoleFrame::Claim(claim.raw().clone()), None);
        self.record(&claim, change.clone());
        self.ledger.follow(claim, now.wall);
        self.out.push_back(RoleOutput::Changed(change));
    }

    fn sign_claim(
        &self,
        after: chat_proto::id::Term,
        reason: ChangeReason,
        from: Option<PeerId>,
        gap: Duration,
        component: u32,
        now: Now,
    ) -> Signed<Claim> {
        let claim = Claim {
            room: self.room,
            term: after.next(),
            claimant: self.me,
            from,
            reason,
            component,
            rank: self.ledger.rank(&self.me).unwrap_or(UNRANKED),
            gap_ms: u32::try_from(gap.as_millis()).unwrap_or(u32::MAX),
            at: now.wall,
        };
        Signed::sign(claim, &self.key)
    }

    /// A neighbour sent a succession.
    pub(super) fn receive_succession(&mut self, source: PeerId, raw: SignedBytes, now: Now) -> Result<(), RoleFault> {
        let opened: Opened<Succession> = raw.open(&self.room)?;
        let (term, holder, serial) = (opened.value().term, opened.value().holder, opened.value().serial);
        if term > self.ledger.term() {
            self.ping(source, now.mono);
            return Ok(());
        }
        if term < self.ledger.term() {
            self.tell(source, now.mono);
            return Ok(());
        }
        if Some(holder) != self.ledger.holder() || serial <= self.ledger.serial() {
            return Ok(());
        }
        let first = self.ledger.serial() == 0;
        let signed = opened.verify()?;
        if first {
            self.flood(&RoleFrame::Succession(signed.raw().clone()), Some(source));
        }
        self.ledger.publish(signed);
        if let Part::Holding(holding) = &mut self.part {
            // This holder restarted within its term; it goes on above what it had published.
            holding.publish_at = now.mono;
            holding.rank_at = now.mono;
        }
        Ok(())
    }

    /// How many members follow or would follow with this peer, itself included.
    pub(super) fn component(&self, now: Duration) -> u32 {
        let others = self.others_online();
        let others = match &self.part {
            Part::Holding(holding) if self.links.len() > 0 => {
                let cycle = self.ping_every() * u32::try_from(self.links.len()).unwrap_or(u32::MAX) * 2;
                let following = self.links.iter().filter(|(peer, link)| {
                    let patience = if holding.list.contains(*peer) { LISTED_FRESH } else { cycle };
                    link.follows.is_some_and(|(term, at)| term == self.ledger.term() && at + patience > now)
                });
                (others * following.count()).div_ceil(self.links.len())
            }
            Part::Holding(_) => 0,
            Part::Seeking { .. } | Part::Following(_) | Part::Gone => others,
        };
        u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// How closely this peer watches its holder.
    pub(super) fn closeness(&self, following: &Following) -> Closeness {
        let linked = self.links.contains(&following.watch.holder);
        if following.listed && linked { Closeness::Close } else { Closeness::Loose }
    }

    /// Ends the TCP watch, if there is one.
    pub(super) fn close_watch(&mut self) {
        let Part::Following(following) = &mut self.part else { return };
        match following.watch.tcp {
            Tcp::Opening | Tcp::Open => {
                following.watch.tcp = Tcp::Off;
                self.out.push_back(RoleOutput::Net(RoleRequest::CloseWatch(following.watch.holder)));
            }
            Tcp::Off | Tcp::Failed { .. } => {}
        }
    }
}

/// A listed peer that did not answer for so long follows no more: it answers a beat every 0.8 s.
const LISTED_FRESH: Duration = Duration::from_secs(2);
