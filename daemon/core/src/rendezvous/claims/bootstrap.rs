//! Seeking: a peer that knows of no holder looks for one, and claims the role when there is none.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;

use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::RoleOutput;
use crate::rendezvous::protocol::signed::SignedBytes;
use crate::rendezvous::state::context::Context;
use crate::rendezvous::state::{Bid, Decision, RoleState};

/// Maximum number of neighbours with smaller keys that a starting peer waits for; beyond, two may claim at once, which
/// the tie rule settles.
const SEEKERS_MAX: usize = 20;

/// How long a starting peer waits for silent neighbours, in multiples of `settle`: silent connections are given up long
/// before.
const SETTLES_MAX: u32 = 5;

/// The state of a peer that looks for a holder.
#[derive(Debug)]
pub(crate) struct Seeking {
    /// When it claims the role if it finds none.
    pub(crate) claim_at: Duration,
}

impl Seeking {
    /// When this peer stops looking: at once when it is the only member. Peers that start together would all claim at
    /// once, so each waits a little for every neighbour with a smaller key.
    pub(crate) fn due(&self, cx: &Context) -> Duration {
        if cx.members.len() == 1 {
            return cx.members.started;
        }
        let before = cx.neighbours.peers().filter(|peer| **peer < cx.me).count().min(SEEKERS_MAX);
        self.claim_at + cx.settings.stagger * u32::try_from(before).unwrap_or(0)
    }

    /// Claims the role when no holder was found.
    pub(crate) fn run_timers(&mut self, cx: &mut Context) -> Option<Decision> {
        let now = cx.now.mono;
        if !cx.may_claim() || now < self.due(cx) {
            return None;
        }
        let settle = cx.settings.settle;
        let only = cx.members.len() == 1;
        let answered = cx.neighbours.iter().filter(|(_, link)| link.speaks && link.heard + settle > now).count();
        if !only && answered == 0 && cx.neighbours.len() > 0 && now < cx.members.started + settle * SETTLES_MAX {
            // No neighbour answers, though none is gone: all paths died at once, and others may replace them.
            self.claim_at = now + settle / 2;
            cx.ask_neighbours(None);
            return None;
        }
        // A peer that does not know what became of the others does not count itself, so that its claim gives way to any
        // that was made in touch with the room.
        let component = if only { 1 } else { u32::try_from(answered).unwrap_or(u32::MAX) };
        Some(Decision::Claim(Bid { reason: ChangeReason::Founded, from: None, gap: Duration::ZERO, component }))
    }

    /// This peer was stalled: it looks for some time longer.
    pub(crate) fn forgive_silence(&mut self, cx: &Context) {
        self.claim_at = self.claim_at.max(cx.now.mono + cx.settings.settle / 2);
    }
}

/// A claim that arrived before its claimant was known to be a member. A newcomer learns of the holder as soon as it is
/// connected, and of the members a moment later.
#[derive(Debug)]
pub(crate) struct EarlyClaim {
    source: PeerId,
    claim: SignedBytes,
    succession: Option<SignedBytes>,
}

impl Rendezvous {
    /// Keeps the newest claim of an unknown peer while no valid one is known.
    pub(crate) fn keep_early_claim(&mut self, source: PeerId, claim: SignedBytes, succession: Option<SignedBytes>) {
        if matches!(self.state, RoleState::Seeking(_)) {
            self.early = Some(EarlyClaim { source, claim, succession });
        }
    }

    /// The members changed: the claim that arrived early may be of one of them.
    pub(crate) fn reconsider_early_claim(&mut self) {
        let Some(EarlyClaim { source, claim, succession }) = self.early.take() else { return };
        if let Err(fault) = self.receive_claim(source, claim, succession) {
            self.cx.out.push_back(RoleOutput::Fault(source, fault));
        }
    }
}

#[cfg(test)]
mod tests;
