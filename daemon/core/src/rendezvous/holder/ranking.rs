//! The holder's ranking of the members, the list that follows from it, and its publication as the succession.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::connectivity::rank::{self, RankRow};
use crate::connectivity::report::ConnectivityReport;
use crate::rendezvous::context::Context;
use crate::rendezvous::holder::Holding;
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::succession::{Succession, list};
use crate::rendezvous::settings::ROWS_MAX;

/// Time between two computations of the ranking when nothing happens.
const RANK_EVERY: Duration = Duration::from_secs(5);

/// Delay of the computation when members or connections change: several changes at once make one publication.
const RANK_SOON: Duration = Duration::from_millis(100);

/// Minimum time between two publications of one term.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);

/// Number of intervals between reports after which all that report have reported to a new holder.
const GATHERED_AFTER: u32 = 2;

/// A peer on the list that is silent for this long is taken off it.
const SILENT_LISTED: Duration = Duration::from_secs(3);

/// How long it stays off: a peer that comes and goes makes a bad successor.
const BARRED_FOR: Duration = Duration::from_secs(30);

/// The ranking and when it is computed and published.
#[derive(Debug)]
pub(crate) struct Ranking {
    /// When the ranking is computed next.
    pub(crate) due: Duration,
    /// When the succession is published even if nothing changed.
    publish_at: Duration,
    published: Option<Duration>,
    pub(crate) rows: Vec<RankRow>,
    pub(crate) list: Vec<PeerId>,
    /// Peers that are or were listed, or did not answer when this peer took the role.
    conduct: BTreeMap<PeerId, Conduct>,
}

/// How a peer behaved as a successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Conduct {
    /// Since when it is on the list.
    listed_at: Option<Duration>,
    /// It did not answer when this peer took the role: it is not listed until it is heard again.
    absent_since: Option<Duration>,
    /// It was taken off the list for its silence, until then.
    barred_until: Option<Duration>,
}

impl Ranking {
    /// Begins with the last published rows; `absent` are the peers that did not answer, the former holder included.
    pub(crate) fn new(rows: &[RankRow], absent: &BTreeSet<PeerId>, now: Duration) -> Self {
        let absence = Conduct { absent_since: Some(now), ..Conduct::default() };
        Self {
            due: now,
            publish_at: now,
            published: None,
            rows: rows.to_vec(),
            list: Vec::new(),
            conduct: absent.iter().map(|peer| (*peer, absence)).collect(),
        }
    }

    /// Something changed that the ranking depends on.
    pub(crate) fn compute_soon(&mut self, now: Duration) {
        self.due = self.due.min(now + RANK_SOON);
    }

    /// Computes and publishes now.
    pub(crate) fn publish_now(&mut self, now: Duration) {
        self.publish_at = now;
        self.due = now;
    }

    /// A new term begins: nothing of it is published.
    pub(crate) fn begin_term(&mut self, now: Duration) {
        self.published = None;
        self.publish_now(now);
    }

    /// A peer's row.
    pub(crate) fn row(&self, peer: &PeerId) -> Option<&RankRow> {
        self.rows.iter().find(|row| row.peer == *peer)
    }

    /// Whether a peer was taken off the list for its silence.
    pub(crate) fn is_barred(&self, peer: &PeerId) -> bool {
        self.conduct.get(peer).is_some_and(|conduct| conduct.barred_until.is_some())
    }

    fn can_follow(&self, peer: &PeerId) -> bool {
        self.conduct.get(peer).is_none_or(|conduct| conduct.barred_until.is_none() && conduct.absent_since.is_none())
    }

    /// Bars listed peers that fell silent; lifts what is over.
    fn review_conduct(&mut self, cx: &Context) {
        let now = cx.now.mono;
        for (peer, conduct) in &mut self.conduct {
            let link = cx.peers.link(peer);
            conduct.barred_until.take_if(|until| *until <= now);
            conduct.absent_since.take_if(|since| link.is_none_or(|link| link.heard > *since));
        }
        for peer in &self.list {
            let conduct = self.conduct.entry(*peer).or_default();
            let since = conduct.listed_at.unwrap_or(now);
            if cx.peers.link(peer).is_some_and(|link| link.heard.max(since) + SILENT_LISTED < now) {
                conduct.barred_until = Some(now + BARRED_FOR);
            }
        }
    }

    /// Takes the new rows and list; returns whether the published order changed.
    fn replace(&mut self, rows: Vec<RankRow>, listed: Vec<PeerId>, now: Duration) -> bool {
        for (peer, conduct) in &mut self.conduct {
            conduct.listed_at.take_if(|_| !listed.contains(peer));
        }
        for peer in &listed {
            self.conduct.entry(*peer).or_default().listed_at.get_or_insert(now);
        }
        self.conduct.retain(|_, conduct| *conduct != Conduct::default());
        let order = |rows: &[RankRow]| rows.iter().take(ROWS_MAX).map(|row| row.peer).collect::<Vec<_>>();
        let changed = self.published.is_none() || listed != self.list || order(&rows) != order(&self.rows);
        (self.rows, self.list) = (rows, listed);
        changed
    }
}

impl Holding {
    /// Computes the ranking, and publishes it when it changed or is due.
    pub(super) fn update_ranking(&mut self, cx: &mut Context) {
        let now = cx.now.mono;
        self.keep_own_report(cx);
        self.ranking.due = now + RANK_EVERY;
        self.reports.prune(cx.report_every() * 3, now, |peer| cx.members.contains(peer));
        self.ranking.review_conduct(cx);
        let known = if self.ranking.rows.is_empty() { cx.known.rows() } else { &self.ranking.rows };
        let before = known.to_vec();
        let candidates = candidates(cx);
        let others = u16::try_from(candidates.len()).unwrap_or(u16::MAX).saturating_sub(1);
        let gathering = now.saturating_sub(self.since) < cx.report_every() * GATHERED_AFTER;
        let figures = rank::figures(&self.reports, &before, &candidates, if gathering { others } else { 1 });
        let mut eligible: BTreeSet<PeerId> = cx.peers.linked().copied().collect();
        eligible.retain(|peer| cx.members.contains(peer) && self.ranking.can_follow(peer));
        let with_me = eligible.iter().copied().chain([cx.me]).collect();
        let rows = rank::ranking(&before, figures, &with_me, cx.settings.rank_band);
        let listed = list(&rows, &cx.me, &eligible);
        let changed = self.ranking.replace(rows, listed, now);
        self.plan_handover(cx);
        if changed {
            let earliest = self.ranking.published.map_or(now, |published| published + PUBLISH_EVERY);
            self.ranking.publish_at = self.ranking.publish_at.min(earliest);
        }
        if now >= self.ranking.publish_at {
            self.publish_succession(cx);
        } else {
            self.ranking.due = self.ranking.due.min(self.ranking.publish_at);
        }
    }

    fn publish_succession(&mut self, cx: &mut Context) {
        let now = cx.now;
        let component = self.component(cx, now.mono);
        self.ranking.published = Some(now.mono);
        self.ranking.publish_at = now.mono + cx.settings.publish;
        let mut rows = self.ranking.rows.clone();
        if let Some(place) = rows.iter().position(|row| row.peer == cx.me).filter(|place| *place >= ROWS_MAX) {
            rows.swap(place, ROWS_MAX - 1);
        }
        rows.truncate(ROWS_MAX);
        let signed = cx.sign(Succession {
            room: cx.room,
            term: cx.known.term(),
            holder: cx.me,
            serial: cx.known.serial() + 1,
            at: now.wall,
            component,
            list: self.ranking.list.clone(),
            rows,
        });
        cx.flood(&RoleFrame::Succession(signed.raw().clone()), None);
        cx.known.publish(signed);
    }

    fn keep_own_report(&mut self, cx: &Context) {
        let now = cx.now;
        let rows = cx.report_rows();
        let report = ConnectivityReport { room: cx.room, reporter: cx.me, term: cx.known.term(), at: now.wall, rows };
        self.reports.keep(report, now.mono);
    }
}

/// Members that can hold the role: those online, this peer included, and for how long each has been.
fn candidates(cx: &Context) -> BTreeMap<PeerId, Duration> {
    let now = cx.now.mono;
    let online = |since: Duration| now.saturating_sub(since);
    let others = cx.peers.present().filter(|(peer, _)| cx.members.contains(peer));
    let others = others.map(|(peer, since)| (*peer, since.map_or(Duration::ZERO, online)));
    others.chain([(cx.me, online(cx.members.started))]).collect()
}
