//! Reports: what a member measured of others, sent to the holder, and what the holder keeps of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::{PeerId, RoomId, Term};
use chat_proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::measure::Measure;

/// Maximum number of rows of one report: a full mesh of 32 fits; in larger rooms the sample rotates.
pub(crate) const REPORT_ROWS_MAX: usize = 32;

/// Maximum number of members whose reports the holder keeps (about 1.2 KiB each); further ones are left out of the ranking's figures.
pub(crate) const REPORTERS_MAX: usize = 4_096;

/// A round-trip time on a log scale: 16 steps an octave from 64 µs, so that one byte spans 64 µs to 4 s with an error
/// of 2 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RttCode(pub(crate) u8);

impl RttCode {
    pub(crate) fn from_duration(rtt: Duration) -> Self {
        let units = 1.0 + rtt.as_secs_f64() / 64e-6;
        let code = (16.0 * units.log2()).round().clamp(0.0, 255.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte above")]
        Self(code as u8)
    }

    pub(crate) fn as_ms(self) -> f64 {
        ((f64::from(self.0) / 16.0).exp2() - 1.0) * 0.064
    }
}

/// What one member measured; signed by it, since it may pass through others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectivityReport {
    pub(crate) room: RoomId,
    pub(crate) reporter: PeerId,
    /// The term it is written for: an old report cannot be played back to a later holder.
    pub(crate) term: Term,
    /// The reporter's clock: a report never replaces a newer one.
    pub(crate) at: Timestamp,
    /// At most [`REPORT_ROWS_MAX`].
    pub(crate) rows: Vec<ReportRow>,
}

/// What it measured of one other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportRow {
    pub(crate) peer: PeerId,
    /// Reached without a relay.
    pub(crate) direct: bool,
    pub(crate) rtt: Option<RttCode>,
    /// In 255ths.
    pub(crate) loss: u8,
    /// Whether it accepted a connection from outside its network.
    pub(crate) called: Option<bool>,
}

/// The rows of this peer's next report: candidates for the role first, then connected members, then the sample, the
/// newest first.
pub(crate) fn rows<'a>(
    measures: impl Iterator<Item = (&'a PeerId, &'a Measure)>,
    candidates: &BTreeSet<PeerId>,
) -> Vec<ReportRow> {
    let mut known: Vec<(&PeerId, &Measure)> = measures.collect();
    known.sort_by_key(|(peer, measure)| {
        (!candidates.contains(peer), !measure.connected, std::cmp::Reverse(measure.at), **peer)
    });
    known.truncate(REPORT_ROWS_MAX);
    known
        .into_iter()
        .map(|(peer, measure)| ReportRow {
            peer: *peer,
            direct: measure.direct,
            rtt: measure.rtt.map(|rtt| RttCode::from_duration(rtt.mean())),
            loss: share(measure.loss()),
            called: measure.called,
        })
        .collect()
}

/// A share from 0 to 1 in 255ths.
pub(crate) fn share(of: f32) -> u8 {
    let scaled = if of.is_finite() { (of.clamp(0.0, 1.0) * 255.0).round() } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte above")]
    let byte = scaled as u8;
    byte
}

impl ConnectivityReport {
    /// Whether it keeps the bounds: no row too many, none twice, none about the reporter itself.
    pub(crate) fn fits(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.rows.len() <= REPORT_ROWS_MAX
            && self.rows.iter().all(|row| row.peer != self.reporter && seen.insert(row.peer))
    }
}

/// Newest report of each member, as the holder keeps them.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    by: BTreeMap<PeerId, Kept>,
}

#[derive(Debug)]
struct Kept {
    at: Timestamp,
    received: Duration,
    rows: Vec<ReportRow>,
}

impl Reports {
    /// Keeps a report that was verified, unless a newer one is there.
    pub(crate) fn keep(&mut self, report: ConnectivityReport, now: Duration) {
        let full = self.by.len() >= REPORTERS_MAX;
        match self.by.get(&report.reporter) {
            Some(kept) if kept.at >= report.at => return,
            None if full => return,
            Some(_) | None => {}
        }
        self.by.insert(report.reporter, Kept { at: report.at, received: now, rows: report.rows });
    }

    /// Drops what is older than `age` or of no member.
    pub(crate) fn prune(&mut self, age: Duration, now: Duration, is_member: impl Fn(&PeerId) -> bool) {
        self.by.retain(|reporter, kept| kept.received + age > now && is_member(reporter));
    }

    /// All rows, by the peer they are about; there are no rows of a peer about itself.
    pub(crate) fn by_subject(&self) -> BTreeMap<PeerId, Vec<&ReportRow>> {
        let mut subjects: BTreeMap<PeerId, Vec<&ReportRow>> = BTreeMap::new();
        for row in self.by.values().flat_map(|kept| &kept.rows) {
            subjects.entry(row.peer).or_default().push(row);
        }
        subjects
    }

    /// Number of members that reported.
    pub(crate) fn len(&self) -> usize {
        self.by.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn report(by: u8, at: u64, about: &[u8]) -> ConnectivityReport {
        let row = |n: &u8| ReportRow { peer: peer(*n), direct: true, rtt: None, loss: 0, called: None };
        ConnectivityReport {
            room: RoomId::from_bytes([0; 32]),
            reporter: peer(by),
            term: Term(1),
            at: Timestamp::from_ms(at),
            rows: about.iter().map(row).collect(),
        }
    }

    #[test]
    fn report_about_its_author_or_twice_or_too_long_is_refused() {
        assert!(report(1, 1, &[2, 3]).fits());
        assert!(!report(1, 1, &[1]).fits());
        assert!(!report(1, 1, &[2, 2]).fits());
        let many: Vec<u8> = (10..=10 + u8::try_from(REPORT_ROWS_MAX).expect("a small number")).collect();
        assert!(!report(1, 1, &many).fits());
    }

    #[test]
    fn newest_report_of_each_member_is_kept_until_it_is_old() {
        let mut reports = Reports::default();
        let now = Duration::from_secs(10);
        reports.keep(report(1, 5, &[2, 3]), now);
        reports.keep(report(1, 4, &[2]), now);
        assert_eq!(reports.by_subject().len(), 2, "an older report changes nothing");
        reports.keep(report(1, 6, &[2]), now);
        assert_eq!(reports.by_subject().len(), 1);
        reports.prune(Duration::from_secs(30), Duration::from_secs(41), |_| true);
        assert_eq!(reports.len(), 0);
    }

    #[test]
    fn report_puts_candidates_first() {
        let measured = |n: u8| {
            let now = Duration::from_secs(u64::from(n));
            let mut measure = Measure::new(now);
            measure.probed(Some(Duration::from_millis(1)), None, now);
            (peer(n), measure)
        };
        let measures: Vec<(PeerId, Measure)> = (0..100).map(measured).collect();
        let rows = rows(measures.iter().map(|(peer, measure)| (peer, measure)), &BTreeSet::from([peer(3)]));
        assert_eq!(rows.len(), REPORT_ROWS_MAX);
        assert_eq!((rows[0].peer, rows[1].peer), (peer(3), peer(99)));
    }

    proptest! {
        #[test]
        fn rtt_code_keeps_order_and_size(us in 0u64..4_000_000, more in 0u64..1_000_000) {
            let (a, b) = (Duration::from_micros(us), Duration::from_micros(us + more));
            prop_assert!(RttCode::from_duration(a) <= RttCode::from_duration(b));
            let ms = RttCode::from_duration(a).as_ms();
            let exact = a.as_secs_f64() * 1e3;
            prop_assert!((ms - exact).abs() <= 0.03 * exact + 0.004, "{} for {}", ms, exact);
        }
    }
}
