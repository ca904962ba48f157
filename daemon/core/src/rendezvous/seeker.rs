//! Seeking: a peer that knows of no holder looks for one, and claims the role when there is none.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;

use crate::rendezvous::context::Context;
use crate::rendezvous::context::decision::{Bid, Decision};

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
        let before = cx.peers.linked().filter(|peer| **peer < cx.me).count().min(SEEKERS_MAX);
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
        let answered = cx.peers.links().filter(|(_, link)| link.speaks && link.heard + settle > now).count();
        if !only && answered == 0 && cx.peers.links_len() > 0 && now < cx.members.started + settle * SETTLES_MAX {
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

#[cfg(test)]
mod tests;
