//! The states of a peer's part in the role, each with the data only that state needs.
//!
//! ```text
//!   Seeking ── hears a claim ──▶ Following ── holder is gone, its turn ──▶ Holding
//!      │                          ▲   ▲                                    │  │
//!      └── finds no holder ───────┼───┼────────────────────────▶ Holding  │  │
//!                                 │   └──── a claim beats its own ─────────┘  │
//!          Gone ◀── left, role handed over ──────────────────────────────────┘
//! ```
//!
//! A state changes its own fields and the shared [`Context`]. What replaces the state itself it returns as a
//! [`Decision`], which [`claims`](super::claims) carries out: so every transition is there, but for a peer that is not a member
//! any more and begins anew.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;

use crate::rendezvous::context::Context;
use crate::rendezvous::context::decision::{Decision, with_me};
use crate::rendezvous::events::RoleFault;
use crate::rendezvous::follower::Following;
use crate::rendezvous::holder::Holding;
use crate::rendezvous::protocol::offer::Offer;
use crate::rendezvous::protocol::signed::{Opened, SignedBytes};
use crate::rendezvous::seeker::Seeking;

/// This peer's part in the role.
#[derive(Debug)]
pub(crate) enum RoleState {
    /// It knows of no holder and looks for one.
    Seeking(Seeking),
    /// Another peer holds the role.
    Following(Box<Following>),
    /// It holds the role.
    Holding(Box<Holding>),
    /// It left; the role needs nothing from it any more.
    Gone,
}

impl RoleState {
    /// When the holder was last known to be alive, directly or through others; now, where this peer holds the role and
    /// does not doubt it.
    pub(crate) fn newest_sign(&self, now: Duration) -> Option<Duration> {
        match self {
            Self::Holding(holding) => holding.newest_sign(now),
            Self::Following(following) => following.detector.fresh,
            Self::Seeking(_) | Self::Gone => None,
        }
    }

    /// When this peer itself last heard the holder.
    pub(crate) fn heard(&self, now: Duration) -> Option<Duration> {
        match self {
            Self::Holding(holding) => holding.newest_sign(now),
            Self::Following(following) => following.detector.heard,
            Self::Seeking(_) | Self::Gone => None,
        }
    }

    /// Number of members that follow or would follow with this peer, itself included.
    pub(crate) fn component(&self, cx: &Context, now: Duration) -> u32 {
        match self {
            Self::Holding(holding) => holding.component(cx, now),
            Self::Seeking(_) | Self::Following(_) | Self::Gone => with_me(cx.others_online()),
        }
    }

    /// When there is something to do.
    pub(crate) fn due(&self, cx: &Context) -> Option<Duration> {
        match self {
            Self::Seeking(seeking) => cx.may_claim().then(|| seeking.due(cx)),
            Self::Following(following) => following.due(cx),
            Self::Holding(holding) => Some(holding.due()),
            Self::Gone => None,
        }
    }

    /// Something changed that the holder's ranking depends on.
    pub(crate) fn rank_soon(&mut self, now: Duration) {
        if let Self::Holding(holding) = self {
            holding.ranking.compute_soon(now);
        }
    }

    /// This peer is about to go: a holder hands the role over first.
    pub(crate) fn leave(&mut self, cx: &Context) -> Option<Decision> {
        match self {
            Self::Holding(holding) => holding.leave(cx),
            Self::Seeking(_) | Self::Following(_) | Self::Gone => Some(Decision::Leave),
        }
    }

    /// A holder offers the role, to this peer or another.
    pub(crate) fn receive_offer(
        &mut self,
        cx: &mut Context,
        source: PeerId,
        raw: SignedBytes,
    ) -> Result<Option<Decision>, RoleFault> {
        let opened: Opened<Offer> = raw.open(&cx.room)?;
        match self {
            Self::Following(following) => following.receive_offer(cx, source, opened),
            Self::Seeking(_) | Self::Holding(_) | Self::Gone => Ok(None),
        }
    }

    /// A peer left in order, or was removed.
    pub(crate) fn peer_left(&mut self, cx: &mut Context, peer: &PeerId, reason: ChangeReason) -> Option<Decision> {
        match self {
            Self::Following(following) => following.peer_left(cx, peer, reason),
            Self::Seeking(_) | Self::Holding(_) | Self::Gone => None,
        }
    }
}
