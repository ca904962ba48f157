//! A vacant role: who claims it, and when.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;
use rand::RngExt;

use super::Rendezvous;
use super::io::RoleOutput;
use super::part::{Part, Vacancy};
use super::succession::Place;
use crate::input::Now;

/// Longest step between two in line, however slow the network: a claim that has not spread by then meets another, and
/// the tie rule settles it.
const STAGGER_MAX: Duration = Duration::from_secs(1);

/// Peers outside the ranking spread their claims over so many steps.
const STEPS_ANY: u32 = 20;

impl Rendezvous {
    /// The holder is gone for good: it said so, was removed, or nobody hears it.
    pub(super) fn vacate(&mut self, reason: ChangeReason, lost_at: Duration, now: Now) {
        let delay = self.turn();
        let Part::Following(following) = &mut self.part else { return };
        let holder = following.watch.holder;
        let suspicion = following.suspicion.take();
        following.absent = suspicion.iter().flat_map(|suspicion| suspicion.unanswered().copied()).collect();
        match reason {
            ChangeReason::Died | ChangeReason::Silent => following.absent.insert(holder),
            ChangeReason::Founded
            | ChangeReason::HandedOver
            | ChangeReason::BetterConnected
            | ChangeReason::Merged
            | ChangeReason::Removed => false,
        };
        let others = self.online.keys().chain(self.links.peers()).filter(|peer| **peer != holder);
        let others = others.collect::<std::collections::BTreeSet<_>>().len();
        let in_touch = match reason {
            ChangeReason::Died | ChangeReason::Silent => suspicion.map_or(0, |suspicion| suspicion.in_touch(others)),
            ChangeReason::Founded
            | ChangeReason::HandedOver
            | ChangeReason::BetterConnected
            | ChangeReason::Merged
            | ChangeReason::Removed => others,
        };
        let component = u32::try_from(in_touch).unwrap_or(u32::MAX).saturating_add(1);
        following.vacancy = Some(Vacancy { reason, lost_at, claim_at: now.mono + delay, component });
        self.out.push_back(RoleOutput::Vacant { holder, term: self.ledger.term() });
        self.claim_in_turn(now);
    }

    /// Claims the role when this peer's turn has come.
    pub(super) fn claim_in_turn(&mut self, now: Now) {
        let Part::Following(following) = &self.part else { return };
        let holder = following.watch.holder;
        let Some(vacancy) = following.vacancy.filter(|vacancy| vacancy.claim_at <= now.mono) else { return };
        if !self.may_claim() {
            return;
        }
        let gap = now.mono.saturating_sub(vacancy.lost_at);
        self.claim(vacancy.reason, Some(holder), gap, vacancy.component, now);
    }

    /// How long this peer lets others go first.
    fn turn(&mut self) -> Duration {
        let line = self.ledger.line();
        let before: Vec<PeerId> = match line.place(&self.me) {
            Place::Listed(place) => line.list.iter().take(place).copied().collect(),
            Place::Ranked(place) => line.list.iter().chain(line.rest.iter().take(place)).copied().collect(),
            Place::Any => line.list.iter().chain(&line.rest).copied().collect(),
        };
        let head_start: Duration = before.iter().map(|peer| self.head_start(peer)).sum();
        match line.place(&self.me) {
            Place::Listed(_) => head_start,
            Place::Ranked(_) => head_start + self.settings.stagger,
            Place::Any => {
                let steps = u32::try_from(self.links.len()).unwrap_or(STEPS_ANY).clamp(1, STEPS_ANY);
                let spread = self.settings.stagger * steps;
                head_start + self.settings.stagger + spread.mul_f64(self.rng.random_range(0.0..1.0))
            }
        }
    }

    /// How long one in line before this peer is waited for: whoever does not even answer is likely gone as well.
    fn head_start(&self, peer: &PeerId) -> Duration {
        let Part::Following(following) = &self.part else { return Duration::ZERO };
        let answered = following.suspicion.as_ref().and_then(|suspicion| suspicion.answered(peer));
        let reachable = self.links.contains(peer) || self.online.contains_key(peer);
        let full = self.settings.stagger.max(self.patience(peer) * 3 / 2).min(STAGGER_MAX);
        match answered {
            Some(true) => full,
            Some(false) => full / 3,
            None if reachable => full,
            None => Duration::ZERO,
        }
    }

    /// The holder left or was removed: nothing needs to be confirmed.
    pub(super) fn holder_left(&mut self, peer: &PeerId, reason: ChangeReason, now: Now) {
        let Part::Following(following) = &self.part else { return };
        if following.watch.holder == *peer && following.vacancy.is_none() {
            self.vacate(reason, now.mono, now);
        }
    }
}
