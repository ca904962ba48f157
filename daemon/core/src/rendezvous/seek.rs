//! Seeking: a peer that knows of no holder looks for one, and claims the role when there is none.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;

use super::Rendezvous;
use super::io::RoleOutput;
use super::part::Part;
use super::signed::SignedBytes;
use crate::input::Now;

/// Neighbours with smaller keys that a starting peer waits for; beyond, two may claim at once, which the tie rule settles.
const SEEKERS_MAX: usize = 20;

/// For how many times the time to settle a starting peer waits for neighbours of whom none answers: silent connections are
/// given up long before.
const SETTLES_MAX: u32 = 5;

/// A claim that came before its claimant was known to be a member. A newcomer is told who holds the role as soon as it is
/// connected, and reads who the members are a moment later.
#[derive(Debug)]
pub(super) struct EarlyClaim {
    source: PeerId,
    claim: SignedBytes,
    succession: Option<SignedBytes>,
}

impl Rendezvous {
    /// Keeps the newest claim of somebody unknown, while none is known that counts.
    pub(super) fn keep_early_claim(&mut self, source: PeerId, claim: SignedBytes, succession: Option<SignedBytes>) {
        if matches!(self.part, Part::Seeking { .. }) {
            self.early = Some(EarlyClaim { source, claim, succession });
        }
    }

    /// Other members are known now: perhaps the claim that came early is of one of them.
    pub(super) fn reconsider_early_claim(&mut self, now: Now) {
        let Some(EarlyClaim { source, claim, succession }) = self.early.take() else { return };
        if let Err(fault) = self.receive_claim(source, claim, succession, now) {
            self.out.push_back(RoleOutput::Fault(source, fault));
        }
    }

    /// Claims the role when no holder was to be found.
    pub(super) fn seek(&mut self, now: Now) {
        let Part::Seeking { claim_at } = self.part else { return };
        if !self.may_claim() || now.mono < self.seek_due(claim_at) {
            return;
        }
        let settle = self.settings.settle;
        let only = self.members.len() == 1;
        let answered = self.links.iter().filter(|(_, link)| link.speaks && link.heard + settle > now.mono).count();
        if !only && answered == 0 && self.links.len() > 0 && now.mono < self.started + settle * SETTLES_MAX {
            // Nobody answers, though nobody is gone: the ways to all of them died at once, and others may come in their place.
            self.part = Part::Seeking { claim_at: now.mono + settle / 2 };
            return self.ask_neighbours(now.mono);
        }
        // Who does not know what became of the others counts itself for nobody, so that its claim gives way to any
        // that was made in touch with the room.
        let component = if only { 1 } else { answered };
        let component = u32::try_from(component).unwrap_or(u32::MAX);
        self.claim(ChangeReason::Founded, None, Duration::ZERO, component, now);
    }

    /// When this peer stops looking: at once when it is the only member. Peers that start together would all claim at
    /// once, so each waits a little for every neighbour with a smaller key.
    pub(super) fn seek_due(&self, claim_at: Duration) -> Duration {
        if self.members.len() == 1 {
            return self.started;
        }
        let before = self.links.peers().filter(|peer| **peer < self.me).count().min(SEEKERS_MAX);
        claim_at + self.settings.stagger * u32::try_from(before).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
