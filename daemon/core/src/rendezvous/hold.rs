//! Holding: heartbeats, ranking, publishing, and doubt after sleep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::{PeerId, Term};

use super::Rendezvous;
use super::follow::millis;
use super::frames::RoleFrame;
use super::handover::Purpose;
use super::io::Delivery;
use super::part::{Doubt, Holding, Part};
use super::settings::ROWS_MAX;
use super::signed::Signed;
use super::succession::{Succession, list};
use crate::connectivity::rank::{self, RankRow};
use crate::connectivity::report::Report;
use crate::input::Now;

/// Time between two computations of the ranking when nothing happens.
const RANK_EVERY: Duration = Duration::from_secs(5);

/// How soon it is computed when members or connections change: several changes at once make one publication.
const RANK_SOON: Duration = Duration::from_millis(100);

/// Shortest time between two publications of one term.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);

/// A peer on the list that says nothing for so long is taken off it.
const SILENT_LISTED: Duration = Duration::from_secs(3);

/// For how long: what comes and goes makes a bad successor.
const BARRED_FOR: Duration = Duration::from_secs(30);

/// How long a holder in doubt waits for an answer before it takes itself for alone.
const DOUBT_FOR: Duration = Duration::from_millis(400);

/// Most neighbours a holder in doubt asks.
const DOUBT_ASKED_MAX: usize = 16;

impl Rendezvous {
    /// When a holder has something to do.
    pub(super) fn hold_due(holding: &Holding) -> Duration {
        let handover = holding.handover.as_ref().map(|handover| handover.next_at.min(handover.deadline));
        let next = match &holding.doubt {
            Some(doubt) => doubt.until,
            None => holding.beat_at.min(holding.rank_at),
        };
        handover.map_or(next, |at| at.min(next))
    }

    /// What is due for a holder.
    pub(super) fn hold(&mut self, now: Now) {
        let Part::Holding(holding) = &mut self.part else { return };
        if holding.doubt.take_if(|doubt| doubt.until <= now.mono).is_some() {
            holding.beat_at = now.mono;
        }
        if holding.doubt.is_some() {
            return;
        }
        let (rank, beat) = (holding.rank_at <= now.mono, holding.beat_at <= now.mono);
        if rank {
            self.rank(now);
        }
        if beat {
            self.beat_all(now.mono);
        }
    }

    /// Something changed that the ranking depends on.
    pub(super) fn rank_soon(&mut self, now: Duration) {
        if let Part::Holding(holding) = &mut self.part {
            holding.rank_at = holding.rank_at.min(now + RANK_SOON);
        }
    }

    fn beat_all(&mut self, now: Duration) {
        let term = self.ledger.term();
        let Part::Holding(holding) = &mut self.part else { return };
        holding.beat_at = now + self.settings.beat;
        holding.beat_seq += 1;
        let seq = holding.beat_seq;
        // Who was on the published list expects beats until it has learned that it no longer is.
        let published = self.ledger.current().map(|signed| signed.value().list.clone()).unwrap_or_default();
        let listed: BTreeSet<PeerId> = holding.list.iter().copied().chain(published).collect();
        for peer in listed {
            if let Some(link) = self.links.get(&peer) {
                let heard_ms = millis(now.saturating_sub(link.heard));
                self.send(vec![peer], &RoleFrame::Beat { term, seq, heard_ms }, Delivery::Datagram);
            }
        }
    }

    /// Computes the ranking, and publishes it when it changed or it is time.
    fn rank(&mut self, now: Now) {
        self.keep_own_report(now);
        let report_age = self.report_every() * 3;
        let candidates = self.candidates(now.mono);
        let Part::Holding(holding) = &mut self.part else { return };
        holding.rank_at = now.mono + RANK_EVERY;
        let members = &self.members;
        holding.reports.prune(report_age, now.mono, |peer| members.contains(peer));
        holding.barred.retain(|_, until| *until > now.mono);
        let heard = |peer: &PeerId, since: Duration| self.links.get(peer).is_none_or(|link| link.heard > since);
        holding.absent.retain(|peer, since| !heard(peer, *since));
        for peer in &holding.list {
            let since = holding.listed_at.get(peer).copied().unwrap_or(now.mono);
            let silent = self.links.get(peer).is_some_and(|link| link.heard.max(since) + SILENT_LISTED < now.mono);
            if silent {
                holding.barred.insert(*peer, now.mono + BARRED_FOR);
            }
        }
        let before = if holding.rows.is_empty() { self.ledger.rows().to_vec() } else { holding.rows.clone() };
        let figures = rank::figures(&holding.reports, &before, &candidates);
        let mut eligible: BTreeSet<PeerId> = self.links.peers().copied().collect();
        let absent = |peer: &PeerId| holding.barred.contains_key(peer) || holding.absent.contains_key(peer);
        eligible.retain(|peer| members.contains(peer) && !absent(peer));
        let with_me = eligible.iter().copied().chain([self.me]).collect();
        let rows = rank::ranking(&before, figures, &with_me, self.settings.rank_band);
        let listed = list(&rows, &self.me, &eligible);
        holding.listed_at.retain(|peer, _| listed.contains(peer));
        for peer in &listed {
            holding.listed_at.entry(*peer).or_insert(now.mono);
        }
        let order = |rows: &[RankRow]| rows.iter().take(ROWS_MAX).map(|row| row.peer).collect::<Vec<_>>();
        let changed = holding.published.is_none() || listed != holding.list || order(&rows) != order(&holding.rows);
        (holding.rows, holding.list) = (rows, listed);
        self.plan_handover(now);
        self.publish_if_due(changed, now);
    }

    fn publish_if_due(&mut self, changed: bool, now: Now) {
        let Part::Holding(holding) = &mut self.part else { return };
        if changed {
            let earliest = holding.published.map_or(now.mono, |published| published + PUBLISH_EVERY);
            holding.publish_at = holding.publish_at.min(earliest);
        }
        if now.mono >= holding.publish_at {
            self.publish(now);
        } else {
            holding.rank_at = holding.rank_at.min(holding.publish_at);
        }
    }

    fn publish(&mut self, now: Now) {
        let component = self.component(now.mono);
        let Part::Holding(holding) = &mut self.part else { return };
        holding.published = Some(now.mono);
        holding.publish_at = now.mono + self.settings.publish;
        let mut rows = holding.rows.clone();
        if let Some(place) = rows.iter().position(|row| row.peer == self.me).filter(|place| *place >= ROWS_MAX) {
            rows.swap(place, ROWS_MAX - 1);
        }
        rows.truncate(ROWS_MAX);
        let succession = Succession {
            room: self.room,
            term: self.ledger.term(),
            holder: self.me,
            serial: self.ledger.serial() + 1,
            at: now.wall,
            component,
            list: holding.list.clone(),
            rows,
        };
        let signed = Signed::sign(succession, &self.key);
        self.flood(&RoleFrame::Succession(signed.raw().clone()), None);
        self.ledger.publish(signed);
    }

    /// Who can hold the role: members online, this peer included, and for how long each has been.
    fn candidates(&self, now: Duration) -> BTreeMap<PeerId, Duration> {
        let linked = self.links.peers().filter(|peer| self.members.contains(*peer)).map(|peer| (*peer, Duration::ZERO));
        let online = self.online.iter().map(|(peer, since)| (*peer, now.saturating_sub(*since)));
        let me = (self.me, now.saturating_sub(self.started));
        linked.chain(online).chain([me]).collect()
    }

    fn keep_own_report(&mut self, now: Now) {
        let rows = self.report_rows(now.mono);
        let report = Report { room: self.room, reporter: self.me, term: self.ledger.term(), at: now.wall, rows };
        if let Part::Holding(holding) = &mut self.part {
            holding.reports.keep(report, now.mono);
        }
    }

    /// A planned handover, once somebody has been clearly better connected for long enough.
    fn plan_handover(&mut self, now: Now) {
        let expected = self.others_online();
        let Part::Holding(holding) = &mut self.part else { return };
        let row = |peer: &PeerId| holding.rows.iter().find(|row| row.peer == *peer);
        let score = |peer: &PeerId| row(peer).map_or(0, |row| row.figures.score());
        let needed = score(&self.me).saturating_add(self.settings.better_by);
        // Who has no connection to this holder is not on the list, but may still be the best for all others.
        let listed = holding.list.first().copied();
        let apart = holding.rows.iter().filter(|row| {
            !self.links.contains(&row.peer) && row.peer != self.me && !holding.barred.contains_key(&row.peer)
        });
        let apart = apart.max_by_key(|row| (row.figures.score(), row.peer)).map(|row| row.peer);
        let band = self.settings.rank_band;
        let apart = apart.filter(|peer| score(peer) > listed.map_or(0, |first| score(&first)).saturating_add(band));
        let best = apart.or(listed);
        // Of several equally good ones the first stays the challenger, or none would be it for long enough.
        let before = holding.better.filter(|(peer, _)| {
            best.is_some_and(|best| score(&best) <= score(peer).saturating_add(band)) && row(peer).is_some()
        });
        let challenger = before.map(|(peer, _)| peer).or(best).filter(|peer| score(peer) >= needed);
        let since = before.map_or(now.mono, |(_, since)| since);
        holding.better = challenger.map(|peer| (peer, since));
        let Some(peer) = challenger else { return };
        let long_enough = now.mono.saturating_sub(since) >= self.settings.better_for
            && now.mono.saturating_sub(holding.since) >= self.settings.tenure_min;
        if long_enough && holding.handover.is_none() && holding.reports.len() * 2 > expected {
            holding.better = None;
            self.begin_handover(Purpose::Better, vec![peer], now.mono);
        }
    }

    /// This holder slept: it says nothing as holder until a neighbour has said that it still is one.
    pub(super) fn doubt(&mut self, now: Duration) {
        let Part::Holding(holding) = &self.part else { return };
        let listed = holding.list.iter().filter(|peer| self.links.contains(peer)).copied();
        let others = self.links.peers().filter(|peer| !holding.list.contains(*peer)).copied();
        let asked: Vec<PeerId> = listed.chain(others).take(DOUBT_ASKED_MAX).collect();
        if asked.is_empty() {
            return;
        }
        let patience = asked.iter().map(|peer| self.patience(peer)).max().unwrap_or_default().max(DOUBT_FOR);
        let until = now + patience.min(DOUBT_FOR * 3);
        let nonces: Vec<(PeerId, u64)> = asked.into_iter().map(|peer| (peer, self.nonce())).collect();
        if let Part::Holding(holding) = &mut self.part {
            let nonces = nonces.iter().map(|(_, nonce)| *nonce).collect();
            holding.doubt = Some(Doubt { nonces, until });
        }
        let gossip = self.gossip(now);
        for (peer, nonce) in nonces {
            self.measures.ping(&peer, nonce, now);
            self.send(vec![peer], &RoleFrame::Ping { nonce, gossip }, Delivery::Stream);
        }
    }

    /// A neighbour answered and said which term it follows; one that knows a higher one tells.
    pub(super) fn doubt_answered(&mut self, nonce: u64, term: Term) {
        let own = self.ledger.term();
        let Part::Holding(holding) = &mut self.part else { return };
        if term == own && holding.doubt.take_if(|doubt| doubt.nonces.contains(&nonce)).is_some() {
            holding.beat_at = Duration::ZERO;
        }
    }
}
