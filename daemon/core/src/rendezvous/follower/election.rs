//! A vacant role: which peer claims it, and when.
//!
//! There is no vote. The holder is gone because it announced so, was removed, or a [`suspicion`](super::suspicion) was
//! confirmed. Each follower then waits until the peers before it in the succession have had their chance, and claims the
//! role unless one of them has: at once for the first on the list, one *stagger* (150 ms, more on slow networks) later
//! for each that follows. A peer that did not even answer the suspicion is waited for only a third of that, one that is
//! not reachable not at all. After the list comes the rest of the ranking, then everyone else at random.
//!
//! Claims that cross are settled by [`compare`](crate::rendezvous::protocol::claim::compare).

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;
use rand::RngExt;

use crate::rendezvous::context::Context;
use crate::rendezvous::context::decision::{Bid, Decision, with_me};
use crate::rendezvous::events::RoleOutput;
use crate::rendezvous::follower::{Following, Vacancy};
use crate::rendezvous::protocol::succession::LinePlace;

/// Maximum step between two peers in line, however slow the network: a claim that has not spread by then meets another,
/// and the tie rule settles it.
const STAGGER_MAX: Duration = Duration::from_secs(1);

/// Maximum number of steps over which peers outside the ranking spread their claims.
const STEPS_ANY: u32 = 20;

impl Following {
    /// The holder is gone for good: it announced so, was removed, or no peer hears it.
    pub(crate) fn declare_vacant(
        &mut self,
        cx: &mut Context,
        reason: ChangeReason,
        lost_at: Duration,
    ) -> Option<Decision> {
        let delay = self.claim_delay(cx);
        let holder = self.detector.holder;
        let suspicion = self.suspicion.take();
        self.absent = suspicion.iter().flat_map(|suspicion| suspicion.unanswered().copied()).collect();
        if reason.is_failure() {
            self.absent.insert(holder);
        }
        let others = cx.peers.present().filter(|(peer, _)| **peer != holder).count();
        let in_touch =
            if reason.is_failure() { suspicion.map_or(0, |suspicion| suspicion.in_touch(others)) } else { others };
        let claim_at = cx.now.mono + delay;
        self.vacancy = Some(Vacancy { reason, lost_at, claim_at, component: with_me(in_touch) });
        cx.out.push_back(RoleOutput::Vacant { holder, term: cx.known.term() });
        self.claim_when_due(cx)
    }

    /// Claims the role when this peer's turn has come.
    pub(crate) fn claim_when_due(&self, cx: &Context) -> Option<Decision> {
        let vacancy = self.vacancy.filter(|vacancy| vacancy.claim_at <= cx.now.mono && cx.may_claim())?;
        let gap = cx.now.mono.saturating_sub(vacancy.lost_at);
        let from = Some(self.detector.holder);
        Some(Decision::Claim(Bid { reason: vacancy.reason, from, gap, component: vacancy.component }))
    }

    /// How long this peer lets others claim first.
    fn claim_delay(&self, cx: &mut Context) -> Duration {
        let line = cx.known.line();
        let place = line.place(&cx.me);
        let before: Vec<PeerId> = match place {
            LinePlace::Listed(place) => line.list.iter().take(place).copied().collect(),
            LinePlace::Ranked(place) => line.list.iter().chain(line.rest.iter().take(place)).copied().collect(),
            LinePlace::Any => line.list.iter().chain(&line.rest).copied().collect(),
        };
        let head_start: Duration = before.iter().map(|peer| self.head_start(cx, peer)).sum();
        match place {
            LinePlace::Listed(_) => head_start,
            LinePlace::Ranked(_) => head_start + cx.settings.stagger,
            LinePlace::Any => {
                let steps = u32::try_from(cx.peers.links_len()).unwrap_or(STEPS_ANY).clamp(1, STEPS_ANY);
                let spread = cx.settings.stagger * steps;
                head_start + cx.settings.stagger + spread.mul_f64(cx.rng.random_range(0.0..1.0))
            }
        }
    }

    /// How long this peer waits for one before it in line: a peer that does not even answer is likely gone as well.
    fn head_start(&self, cx: &Context, peer: &PeerId) -> Duration {
        let answered = self.suspicion.as_ref().and_then(|suspicion| suspicion.answered(peer));
        let reachable = cx.peers.is_linked(peer) || cx.peers.is_online(peer);
        let full = cx.settings.stagger.max(cx.patience(peer) * 3 / 2).min(STAGGER_MAX);
        match answered {
            Some(true) => full,
            Some(false) => full / 3,
            None if reachable => full,
            None => Duration::ZERO,
        }
    }

    /// A peer left or was removed: where it is the holder, nothing needs to be confirmed.
    pub(crate) fn peer_left(&mut self, cx: &mut Context, peer: &PeerId, reason: ChangeReason) -> Option<Decision> {
        if self.detector.holder != *peer || self.vacancy.is_some() {
            return None;
        }
        self.declare_vacant(cx, reason, cx.now.mono)
    }
}
