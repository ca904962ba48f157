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
//! [`Decision`], which [`Rendezvous`](super::Rendezvous) carries out: so every transition is in `claims` or in
//! `rendezvous.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, Term};

use crate::rendezvous::claims::bootstrap::Seeking;
use crate::rendezvous::follower::failure_detector::FailureDetector;
use crate::rendezvous::follower::suspicion::Suspicion;
use crate::rendezvous::holder::Holding;
use crate::rendezvous::protocol::claim::Claim;
use crate::rendezvous::protocol::signed::Signed;
use crate::rendezvous::protocol::succession::Succession;
use crate::rendezvous::state::context::Context;

pub(crate) mod context;
pub(crate) mod known_claim;
pub(crate) mod neighbours;
pub(crate) mod reconciler;
pub(crate) mod stall_detector;

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

    /// Number of members that follow or would follow with this peer, itself included.
    pub(crate) fn component(&self, cx: &Context, now: Duration) -> u32 {
        match self {
            Self::Holding(holding) => holding.component(cx, now),
            Self::Seeking(_) | Self::Following(_) | Self::Gone => with_me(cx.others_online()),
        }
    }
}

/// The size of a component of `others` and this peer.
pub(crate) fn with_me(others: usize) -> u32 {
    u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
}

/// What a state wants that ends it.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Claim the role.
    Claim(Bid),
    /// Follow a claim that was held back.
    Adopt(Box<HeldClaim>),
    /// Stop taking part: the role is handed over, or cannot be.
    Leave,
}

/// A claim this peer makes, before it has a term and a signature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bid {
    pub(crate) reason: ChangeReason,
    /// The former holder, as this peer knows it.
    pub(crate) from: Option<PeerId>,
    /// Time without a holder.
    pub(crate) gap: Duration,
    /// Members in touch with this peer, itself included.
    pub(crate) component: u32,
}

/// The state of a follower.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) detector: FailureDetector,
    /// Whether this peer is on the succession list.
    pub(crate) listed: bool,
    pub(crate) suspicion: Option<Suspicion>,
    pub(crate) vacancy: Option<Vacancy>,
    /// Peers that did not answer when the holder was last suspected.
    pub(crate) absent: BTreeSet<PeerId>,
    /// A higher claim by a minority that waits for the holder's answer.
    pub(crate) held: Option<HeldClaim>,
    /// The peer to which the holder last offered the role through this one: an offer is forwarded once.
    pub(crate) offer: Option<PeerId>,
}

impl Following {
    pub(crate) const fn new(holder: PeerId, term: Term, now: Duration) -> Self {
        let detector = FailureDetector::new(holder, term, now);
        Self {
            detector,
            listed: false,
            suspicion: None,
            vacancy: None,
            absent: BTreeSet::new(),
            held: None,
            offer: None,
        }
    }
}

/// The holder is gone and has no successor yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vacancy {
    pub(crate) reason: ChangeReason,
    /// Since when the role has no holder.
    pub(crate) lost_at: Duration,
    /// When this peer claims the role, unless a peer before it in line has.
    pub(crate) claim_at: Duration,
    /// Members in touch with this peer, itself included.
    pub(crate) component: u32,
}

/// A claim that waits for the answer of this peer's own holder.
#[derive(Debug)]
pub(crate) struct HeldClaim {
    pub(crate) claim: Signed<Claim>,
    pub(crate) succession: Option<Signed<Succession>>,
    pub(crate) source: PeerId,
    pub(crate) until: Duration,
}
