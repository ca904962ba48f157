//! The parts a peer can have in the role, each with what only that part needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, Term};

use super::claim::Claim;
use super::handover::Purpose;
use super::settings::RoleSettings;
use super::signed::Signed;
use super::succession::Succession;
use super::suspicion::Suspicion;
use super::watch::Watch;
use crate::connectivity::rank::RankRow;
use crate::connectivity::report::Reports;
use crate::input::Now;
use crate::token_bucket::TokenBucket;

/// How often a holder insists on its role against a minority that claimed a higher term: against somebody who claims
/// without end it gives in.
const COUNTERS_BURST: u32 = 3;
const COUNTERS_PER_MINUTE: u32 = 3;

/// This peer's part.
#[derive(Debug)]
pub(crate) enum Part {
    /// It knows of no holder and looks for one.
    Seeking {
        /// When it claims the role if it finds none.
        claim_at: Duration,
    },
    /// Somebody else holds the role.
    Following(Box<Following>),
    /// It holds the role.
    Holding(Box<Holding>),
    /// It left.
    Gone,
}

/// What a follower needs.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) watch: Watch,
    /// Whether this peer is on the list.
    pub(crate) listed: bool,
    pub(crate) suspicion: Option<Suspicion>,
    pub(crate) vacancy: Option<Vacancy>,
    /// Who did not answer when the holder was last suspected.
    pub(crate) absent: BTreeSet<PeerId>,
    /// A higher claim by a minority that waits for the holder's answer.
    pub(crate) held: Option<HeldClaim>,
    /// To whom the holder last offered the role through this peer: an offer is passed on once.
    pub(crate) offer: Option<PeerId>,
}

impl Following {
    pub(crate) const fn new(holder: PeerId, term: Term, now: Duration) -> Self {
        let watch = Watch::new(holder, term, now);
        Self { watch, listed: false, suspicion: None, vacancy: None, absent: BTreeSet::new(), held: None, offer: None }
    }
}

/// The holder is gone, and nobody has followed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vacancy {
    pub(crate) reason: ChangeReason,
    /// Since when nobody holds the role.
    pub(crate) lost_at: Duration,
    /// When this peer claims it, unless somebody before it in line has.
    pub(crate) claim_at: Duration,
    /// Members in touch with this peer, itself included.
    pub(crate) component: u32,
}

/// A claim that waits.
#[derive(Debug)]
pub(crate) struct HeldClaim {
    pub(crate) claim: Signed<Claim>,
    pub(crate) succession: Option<Signed<Succession>>,
    pub(crate) source: PeerId,
    pub(crate) until: Duration,
}

/// What a holder needs.
#[derive(Debug)]
pub(crate) struct Holding {
    /// Since when it holds the role.
    pub(crate) since: Duration,
    pub(crate) beat_at: Duration,
    pub(crate) beat_seq: u64,
    /// When the ranking is computed next.
    pub(crate) rank_at: Duration,
    /// When the succession is published even if nothing changed.
    pub(crate) publish_at: Duration,
    pub(crate) published: Option<Duration>,
    pub(crate) rows: Vec<RankRow>,
    pub(crate) list: Vec<PeerId>,
    /// Since when each is on the list.
    pub(crate) listed_at: BTreeMap<PeerId, Duration>,
    /// Who did not answer when this peer took the role, and since when: it follows nobody until it is heard again. Those
    /// that were asked, and the holder before.
    pub(crate) absent: BTreeMap<PeerId, Duration>,
    /// Who was taken off the list for its silence, and until when. As many as were listed lately.
    pub(crate) barred: BTreeMap<PeerId, Duration>,
    pub(crate) reports: Reports,
    /// Who is clearly better connected, and since when.
    pub(crate) better: Option<(PeerId, Duration)>,
    pub(crate) handover: Option<Handover>,
    pub(crate) doubt: Option<Doubt>,
    pub(crate) counters: TokenBucket,
}

impl Holding {
    /// Begins with the last published ranking. Beats are numbered from the wall clock, so that a holder that restarts
    /// within its own term goes on above what it sent before.
    pub(crate) fn new(rows: &[RankRow], settings: &RoleSettings, now: Now) -> Self {
        let beat_ms = u64::try_from(settings.beat.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            since: now.mono,
            beat_at: now.mono,
            beat_seq: now.wall.as_ms() / beat_ms,
            rank_at: now.mono,
            publish_at: now.mono,
            published: None,
            rows: rows.to_vec(),
            list: Vec::new(),
            listed_at: BTreeMap::new(),
            absent: BTreeMap::new(),
            barred: BTreeMap::new(),
            reports: Reports::default(),
            better: None,
            handover: None,
            doubt: None,
            counters: TokenBucket::full(COUNTERS_BURST, COUNTERS_PER_MINUTE, now.mono),
        }
    }
}

/// A handover under way.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) purpose: Purpose,
    /// Who is asked next.
    pub(crate) candidates: VecDeque<PeerId>,
    /// When the next is asked.
    pub(crate) next_at: Duration,
    /// When it is given up.
    pub(crate) deadline: Duration,
}

/// A holder that slept asks whether it still is one.
#[derive(Debug)]
pub(crate) struct Doubt {
    pub(crate) nonces: BTreeSet<u64>,
    pub(crate) until: Duration,
}
