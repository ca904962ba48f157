//! Holding: heartbeats, ranking, publishing, and doubt after a stall.
//!
//! A holder sends a heartbeat to each peer on its list every 200 ms, computes the [`ranking`] from the members' reports,
//! publishes the succession when it changed and every 30 s, and hands the role over ([`handover`]) before it leaves or
//! when another peer has been clearly better connected for minutes.
//!
//! It holds the role until it adopts a claim that beats its own or leaves; nothing else ends the state. A holder whose
//! own timers were late by two beats is in *doubt*: it sends no heartbeat and publishes nothing until a neighbour confirms
//! the term or 0.4 s pass, since another peer may hold the role by now.
//!
//! [`Holding`] is the state. The caller is [`Rendezvous`](super::Rendezvous): `run_timers` after each input, `due` for the
//! next wake-up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::{PeerId, Term};

use crate::connectivity::rank::Figures;
use crate::connectivity::report::Reports;
use crate::context::token_bucket::TokenBucket;
use crate::rendezvous::context::Context;
use crate::rendezvous::context::decision::{Decision, with_me};
use crate::rendezvous::events::FrameChannel;
use crate::rendezvous::holder::handover::PendingHandover;
use crate::rendezvous::holder::ranking::Ranking;
use crate::rendezvous::protocol::frames::{RoleFrame, millis};
use crate::rendezvous::protocol::offer::Purpose;

pub(crate) mod handover;
pub(crate) mod ranking;

/// How long a holder in doubt waits for an answer before it takes itself for alone.
const DOUBT_FOR: Duration = Duration::from_millis(400);

/// Maximum number of neighbours that a holder in doubt asks.
const DOUBT_ASKED_MAX: usize = 16;

/// A listed peer that did not answer for this long follows no more: it answers a heartbeat every 0.4 s.
const LISTED_FRESH: Duration = Duration::from_secs(2);

/// Lead, in multiples of what is needed, from which on a larger one presses no more.
const PRESSURE_LEAD_MAX: f64 = 2.0;

/// How often a holder counters a minority that claimed a higher term: against a peer that claims without end it gives in.
const COUNTERS_BURST: u32 = 3;
const COUNTERS_PER_MINUTE: u32 = 3;

/// The state of a holder.
#[derive(Debug)]
pub(crate) struct Holding {
    /// Since when it holds the role.
    pub(crate) since: Duration,
    pub(crate) beat_at: Duration,
    beat_seq: u64,
    pub(crate) ranking: Ranking,
    pub(crate) reports: Reports,
    /// The peer that is better connected.
    better: Option<Challenge>,
    pub(crate) handover: Option<PendingHandover>,
    pub(crate) doubt: Option<Doubt>,
    pub(crate) counters: TokenBucket,
}

/// A peer that is better connected than the holder.
#[derive(Clone, Copy, Debug)]
struct Challenge {
    peer: PeerId,
    /// Time for which it was better, weighted by [`pressure`].
    credit: Duration,
    /// When that was last added to.
    at: Duration,
}

/// Weight of a second with this lead of a challenger: 0 below `better_by`, 1 there, 16 from twice as much on. What is seldom
/// measured does not hurry it: whether a peer accepts connections, and for how long it is online.
fn pressure(challenger: &Figures, holder: &Figures, better_by: u16) -> f64 {
    if challenger.score() < holder.score().saturating_add(better_by) {
        return 0.0;
    }
    let felt = challenger.felt().saturating_sub(holder.felt());
    (f64::from(felt) / f64::from(better_by.max(1))).clamp(1.0, PRESSURE_LEAD_MAX).powi(4)
}

/// A holder that was stalled asks whether it still is the holder.
#[derive(Debug)]
pub(crate) struct Doubt {
    nonces: BTreeSet<u64>,
    until: Duration,
}

impl Holding {
    /// Begins with the last published ranking. Heartbeats are numbered from the wall clock, so that a holder that
    /// restarts within its own term goes on above what it sent before.
    pub(crate) fn new(cx: &Context, absent: &BTreeSet<PeerId>) -> Self {
        let now = cx.now;
        let beat_ms = u64::try_from(cx.settings.beat.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            since: now.mono,
            beat_at: now.mono,
            beat_seq: now.wall.as_ms() / beat_ms,
            ranking: Ranking::new(cx.known.rows(), absent, now.mono),
            reports: Reports::default(),
            better: None,
            handover: None,
            doubt: None,
            counters: TokenBucket::full(COUNTERS_BURST, COUNTERS_PER_MINUTE, now.mono),
        }
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Duration {
        let handover = self.handover.as_ref().map(PendingHandover::due);
        let next = match &self.doubt {
            Some(doubt) => doubt.until,
            None => self.beat_at.min(self.ranking.due),
        };
        handover.map_or(next, |at| at.min(next))
    }

    /// Does what is due.
    pub(crate) fn run_timers(&mut self, cx: &mut Context) -> Option<Decision> {
        let now = cx.now.mono;
        if self.doubt.take_if(|doubt| doubt.until <= now).is_some() {
            self.beat_at = now;
        }
        if self.doubt.is_none() {
            let beat = self.beat_at <= now;
            if self.ranking.due <= now {
                self.update_ranking(cx);
            }
            if beat {
                self.send_heartbeats(cx);
            }
        }
        self.continue_handover(cx)
    }

    /// Now, unless this holder doubts that it is one.
    pub(crate) fn newest_sign(&self, now: Duration) -> Option<Duration> {
        self.doubt.is_none().then_some(now)
    }

    fn send_heartbeats(&mut self, cx: &mut Context) {
        let now = cx.now.mono;
        let term = cx.known.term();
        self.beat_at = now + cx.settings.beat;
        self.beat_seq += 1;
        let seq = self.beat_seq;
        // A peer that was on the published list expects heartbeats until it has learned that it no longer is.
        let published = cx.known.current().map(|signed| signed.value().list.clone()).unwrap_or_default();
        let listed: BTreeSet<PeerId> = self.ranking.list.iter().copied().chain(published).collect();
        for peer in listed {
            if let Some(link) = cx.peers.link(&peer) {
                let heard_ms = millis(now.saturating_sub(link.heard));
                cx.send(vec![peer], &RoleFrame::Beat { term, seq, heard_ms }, FrameChannel::Datagram);
            }
        }
    }

    /// Number of members that follow this holder, itself included.
    pub(crate) fn component(&self, cx: &Context, now: Duration) -> u32 {
        let links = cx.peers.links_len();
        if links == 0 {
            return with_me(0);
        }
        let cycle = cx.ping_every() * u32::try_from(links).unwrap_or(u32::MAX) * 2;
        let following = cx.peers.links().filter(|(peer, link)| {
            let patience = if self.ranking.list.contains(*peer) { LISTED_FRESH } else { cycle };
            link.follows.is_some_and(|(term, at)| term == cx.known.term() && at + patience > now)
        });
        with_me((cx.others_online() * following.count()).div_ceil(links))
    }

    /// Plans a handover, once a peer has been clearly better connected for long enough: the larger its lead, the sooner. A
    /// lead that is lost for a moment delays that and does not begin it anew, as figures measured on a bad network shake.
    fn plan_handover(&mut self, cx: &Context) {
        let now = cx.now.mono;
        let Some(best) = self.best_other(cx) else {
            self.better = None;
            return;
        };
        let score = |peer: &PeerId| self.ranking.row(peer).map_or(0, |row| row.figures.score());
        // Of several equally good ones the first stays the challenger, or none would be it for long enough.
        let kept = self.better.filter(|challenge| {
            score(&best) <= score(&challenge.peer).saturating_add(cx.settings.rank_band)
                && self.ranking.row(&challenge.peer).is_some()
        });
        let mut challenge = kept.unwrap_or(Challenge { peer: best, credit: Duration::ZERO, at: now });
        let figures = |peer: &PeerId| self.ranking.row(peer).map_or_else(Figures::default, |row| row.figures);
        let pressure = pressure(&figures(&challenge.peer), &figures(&cx.me), cx.settings.better_by);
        let span = now.saturating_sub(challenge.at);
        challenge.at = now;
        challenge.credit = match pressure > 0.0 {
            true => challenge.credit + span.mul_f64(pressure),
            false => challenge.credit.saturating_sub(span * 2),
        };
        let long_enough = challenge.credit >= cx.settings.better_for
            && now.saturating_sub(self.since).mul_f64(pressure) >= cx.settings.tenure_min;
        self.better = Some(challenge);
        if long_enough && self.handover.is_none() && self.reports.len() * 2 > cx.others_online() {
            self.better = None;
            self.begin_handover(Purpose::Better, vec![challenge.peer], now);
        }
    }

    /// The first on the list, or a peer without a connection to this holder, and so not on the list, that is better still for
    /// all others.
    fn best_other(&self, cx: &Context) -> Option<PeerId> {
        let score = |peer: &PeerId| self.ranking.row(peer).map_or(0, |row| row.figures.score());
        let listed = self.ranking.list.first().copied();
        let apart =
            self.ranking.rows.iter().filter(|row| {
                !cx.peers.is_linked(&row.peer) && row.peer != cx.me && !self.ranking.is_barred(&row.peer)
            });
        let apart = apart.max_by_key(|row| (row.figures.score(), row.peer)).map(|row| row.peer);
        let needed = listed.map_or(0, |first| score(&first)).saturating_add(cx.settings.rank_band);
        apart.filter(|peer| score(peer) > needed).or(listed)
    }

    /// This holder was stalled: it sends nothing as holder until a neighbour confirms that it still is one.
    pub(crate) fn begin_doubt(&mut self, cx: &mut Context) {
        let now = cx.now.mono;
        let list = &self.ranking.list;
        let listed = list.iter().filter(|peer| cx.peers.is_linked(peer)).copied();
        let others = cx.peers.linked().filter(|peer| !list.contains(*peer)).copied();
        let asked: Vec<PeerId> = listed.chain(others).take(DOUBT_ASKED_MAX).collect();
        if asked.is_empty() {
            return;
        }
        let patience = asked.iter().map(|peer| cx.patience(peer)).max().unwrap_or_default().max(DOUBT_FOR);
        let nonces: BTreeMap<PeerId, u64> = asked.iter().map(|peer| (*peer, cx.nonce())).collect();
        self.doubt =
            Some(Doubt { nonces: nonces.values().copied().collect(), until: now + patience.min(DOUBT_FOR * 3) });
        let gossip = cx.gossip(None, now);
        for peer in asked {
            let nonce = nonces[&peer];
            cx.peers.pinged(&peer, nonce, now);
            cx.send(vec![peer], &RoleFrame::Ping { nonce, gossip }, FrameChannel::Stream);
        }
    }

    /// A neighbour answered and reported the term it follows; one that knows a higher term sends its claim.
    pub(crate) fn settle_doubt(&mut self, cx: &Context, nonce: u64, term: Term) {
        let confirms = |doubt: &mut Doubt| term == cx.known.term() && doubt.nonces.contains(&nonce);
        if self.doubt.take_if(confirms).is_some() {
            self.beat_at = Duration::ZERO;
        }
    }
}
