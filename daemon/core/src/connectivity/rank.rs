//! Ranking: from what others observed of each candidate to a score and an order that does not flap.
//!
//! | figure | weight | why so much |
//! |---|---|---|
//! | reach: share of members that reach it directly | 40 % | the duties are useless to a member that cannot reach the holder |
//! | inbound: accepts connections from other networks | 15 % | newcomers and peers behind NAT can only connect outwards |
//! | rtt: median round trip, log scale, 1 ms to 1 s | 15 % | every knock and relayed packet pays it; the ratio matters, not the difference |
//! | loss: median, 0 to 20 % | 20 % | what is lost is sent again: a few per cent cost little, a fifth makes every other answer late |
//! | steady: share of the last hour online without a break | 10 % | a peer that stayed is likely to stay; never outweighs reachability |
//!
//! All arithmetic is on integers, so every peer computes the same score from the same row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;
use serde::{Deserialize, Serialize};

use super::report::{ReportRow, Reports, RttCode, share};

/// The whole of a score, in ten-thousandths.
pub(crate) const SCORE_MAX: u16 = 10_000;

/// What was online this long without a break is as steady as it gets.
const STEADY_FULL: Duration = Duration::from_secs(3600);

/// [`RttCode`] of 1 ms and below: full marks.
const RTT_BEST: u8 = 65;

/// [`RttCode`] of 1 s and above: none.
const RTT_WORST: u8 = 223;

/// Loss of a fifth and above, in 255ths: no marks.
const LOSS_WORST: u8 = 51;

/// A figure of the ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Reach,
    Inbound,
    Rtt,
    Loss,
    Steady,
}

impl Figure {
    /// All of them; of two that decide alike the first is named.
    pub(crate) const ALL: [Self; 5] = [Self::Reach, Self::Inbound, Self::Rtt, Self::Loss, Self::Steady];

    /// Most points it gives.
    pub(crate) const fn weight(self) -> u16 {
        match self {
            Self::Reach => 4_000,
            Self::Loss => 2_000,
            Self::Inbound | Self::Rtt => 1_500,
            Self::Steady => 1_000,
        }
    }
}

/// What others observed of a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Reports that say something about it.
    pub(crate) reports: u16,
    /// Of these, how many reach it directly.
    pub(crate) reached: u16,
    pub(crate) inbound: Option<bool>,
    pub(crate) rtt: Option<RttCode>,
    /// In 255ths.
    pub(crate) loss: u8,
    /// In 255ths.
    pub(crate) steady: u8,
}

impl Figures {
    /// What the rows about a candidate say together: medians, of two the better one, so that one report of many decides nothing
    /// and one of two that comes from behind a bad link does not either.
    pub(crate) fn collect(rows: &[&ReportRow], online_for: Duration) -> Self {
        let direct = || rows.iter().filter(|row| row.direct);
        let calls: Vec<bool> = rows.iter().filter_map(|row| row.called).collect();
        let answered = calls.iter().filter(|answered| **answered).count();
        Self {
            reports: u16::try_from(rows.len()).unwrap_or(u16::MAX),
            reached: u16::try_from(direct().count()).unwrap_or(u16::MAX),
            inbound: (!calls.is_empty()).then_some(answered * 2 >= calls.len()),
            rtt: median(direct().filter_map(|row| row.rtt).collect()),
            // What one alone loses may be lost at its own end.
            loss: median(direct().map(|row| row.loss).collect()).filter(|_| direct().count() > 1).unwrap_or(0),
            steady: share(online_for.as_secs_f32() / STEADY_FULL.as_secs_f32()),
        }
    }

    /// Points for one figure. An unknown one gives half, so that the unknown is neither punished nor preferred.
    pub(crate) fn points(&self, figure: Figure) -> u16 {
        let weight = u32::from(figure.weight());
        let of = |part: u32, whole: u32| u16::try_from(weight * part.min(whole) / whole.max(1)).unwrap_or(u16::MAX);
        match figure {
            // One imagined report of a half: a single witness does not weigh like twenty.
            Figure::Reach => of(2 * u32::from(self.reached.min(self.reports)) + 1, 2 * u32::from(self.reports) + 2),
            Figure::Inbound => of(self.inbound.map_or(1, |answers| if answers { 2 } else { 0 }), 2),
            Figure::Rtt => match self.rtt {
                None => of(1, 2),
                Some(RttCode(code)) => {
                    of(u32::from(RTT_WORST.saturating_sub(code.max(RTT_BEST))), u32::from(RTT_WORST - RTT_BEST))
                }
            },
            Figure::Loss => of(u32::from(LOSS_WORST.saturating_sub(self.loss)), u32::from(LOSS_WORST)),
            Figure::Steady => of(u32::from(self.steady), 255),
        }
    }

    /// Points for what every member feels at once and what is measured all the time.
    pub(crate) fn felt(&self) -> u16 {
        [Figure::Reach, Figure::Rtt, Figure::Loss].iter().map(|figure| self.points(*figure)).sum()
    }

    /// All points, 0 to [`SCORE_MAX`].
    pub(crate) fn score(&self) -> u16 {
        Figure::ALL.iter().map(|figure| self.points(*figure)).sum()
    }
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// A candidate's place in the ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RankRow {
    pub(crate) peer: PeerId,
    pub(crate) figures: Figures,
}

/// Orders the candidates. `before` is the last order; it is kept, with newcomers at its end, as long as no candidate is more than
/// `band` better than one before it; otherwise the order is the one by score. So it never errs by more than
/// `band`, and what shakes less than that does not move it. Equal scores keep their old order; newcomers go by key.
pub(crate) fn order(before: &[RankRow], candidates: &BTreeMap<PeerId, Figures>, band: u16) -> Vec<RankRow> {
    let places: BTreeMap<PeerId, usize> = before.iter().enumerate().map(|(place, row)| (row.peer, place)).collect();
    let place = |row: &RankRow| places.get(&row.peer).copied().unwrap_or(usize::MAX);
    let by_score = |row: &RankRow| std::cmp::Reverse(row.figures.score());
    let mut rows: Vec<RankRow> =
        candidates.iter().map(|(peer, figures)| RankRow { peer: *peer, figures: *figures }).collect();
    rows.sort_by_key(|row| (place(row), by_score(row), row.peer));
    let mut worst = SCORE_MAX;
    let stands = rows.iter().all(|row| {
        worst = worst.min(row.figures.score());
        row.figures.score() <= worst.saturating_add(band)
    });
    if !stands {
        rows.sort_by_key(|row| (by_score(row), place(row), row.peer));
    }
    rows
}

/// Figures of every candidate: from reports, otherwise what was published before, otherwise nothing but how long it is online.
/// What was published is kept until as many report about a candidate as did then, `reporters_max` at most.
pub(crate) fn figures(
    reports: &Reports,
    before: &[RankRow],
    candidates: &BTreeMap<PeerId, Duration>,
    reporters_max: u16,
) -> BTreeMap<PeerId, Figures> {
    let subjects = reports.by_subject();
    let published: BTreeMap<PeerId, Figures> = before.iter().map(|row| (row.peer, row.figures)).collect();
    candidates
        .iter()
        .map(|(peer, online_for)| {
            let rows = subjects.get(peer).map(Vec::as_slice).unwrap_or_default();
            let fresh = Figures::collect(rows, *online_for);
            let figures = match published.get(peer) {
                Some(old) if fresh.reports < old.reports.min(reporters_max).max(1) => {
                    Figures { steady: fresh.steady, ..*old }
                }
                Some(_) | None => fresh,
            };
            (*peer, figures)
        })
        .collect()
}

/// The ranking: those that can follow at once, then the others, which have no connection to the holder and cannot watch
/// it; each group ordered for itself.
pub(crate) fn ranking(
    before: &[RankRow],
    mut candidates: BTreeMap<PeerId, Figures>,
    eligible: &BTreeSet<PeerId>,
    band: u16,
) -> Vec<RankRow> {
    let others = candidates.extract_if(.., |peer, _| !eligible.contains(peer)).collect();
    let mut rows = order(before, &candidates, band);
    rows.extend(order(before, &others, band));
    rows
}

#[cfg(test)]
mod tests;
