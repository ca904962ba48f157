//! Tests of figures, scores and order.

use super::*;
use crate::connectivity::report::ConnectivityReport;
use chat_proto::id::{RoomId, Term};
use chat_proto::time::Timestamp;
use proptest::prelude::*;

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

fn ms(ms: u64) -> RttCode {
    RttCode::from_duration(Duration::from_millis(ms))
}

const GOOD: Figures = Figures { reports: 9, reached: 9, inbound: Some(true), rtt: None, loss: 0, steady: 255 };

#[test]
fn score_weighs_each_figure() {
    let good = Figures { rtt: Some(ms(1)), ..GOOD };
    let points = |figures: Figures| Figure::ALL.map(|figure| figures.points(figure));
    assert_eq!(points(good), [3_800, 1_500, 1_500, 2_000, 1_000]);
    for (figures, expected) in [
        (Figures { reached: 0, ..good }, [200, 1_500, 1_500, 2_000, 1_000]),
        (Figures { inbound: None, ..good }, [3_800, 750, 1_500, 2_000, 1_000]),
        (Figures { inbound: Some(false), ..good }, [3_800, 0, 1_500, 2_000, 1_000]),
        (Figures { rtt: Some(ms(1_000)), ..good }, [3_800, 1_500, 0, 2_000, 1_000]),
        (Figures { loss: 17, ..good }, [3_800, 1_500, 1_500, 1_333, 1_000]),
        (Figures { loss: 255, ..good }, [3_800, 1_500, 1_500, 0, 1_000]),
        (Figures { steady: 0, ..good }, [3_800, 1_500, 1_500, 2_000, 0]),
        (Figures::default(), [2_000, 750, 750, 2_000, 0]),
    ] {
        assert_eq!(points(figures), expected, "{figures:?}");
    }
    let middle = Figures { rtt: Some(ms(32)), ..good }.points(Figure::Rtt);
    assert!((710..790).contains(&middle), "32 ms is half way from 1 ms to 1 s: {middle}");
    assert_eq!(Figure::ALL.iter().map(|figure| figure.weight()).sum::<u16>(), SCORE_MAX);
}

#[test]
fn figures_are_medians_of_reports() {
    let row = |direct: bool, rtt: u64, loss: u8, called: Option<bool>| ReportRow {
        peer: peer(1),
        direct,
        rtt: Some(ms(rtt)),
        loss,
        called,
    };
    let rows = [
        row(true, 3, 0, None),
        row(true, 900, 200, Some(true)),
        row(true, 4, 0, Some(true)),
        row(false, 1, 0, Some(false)),
    ];
    let figures = Figures::collect(&rows.iter().collect::<Vec<_>>(), Duration::from_secs(1800));
    assert_eq!((figures.reports, figures.reached, figures.inbound), (4, 3, Some(true)));
    assert_eq!((figures.rtt, figures.loss), (Some(ms(4)), 0), "one bad witness decides nothing");
    assert_eq!(figures.steady, 128);
    let two = [row(true, 900, 200, None), row(true, 3, 0, None)];
    let figures = Figures::collect(&two.iter().collect::<Vec<_>>(), Duration::ZERO);
    assert_eq!((figures.rtt, figures.loss), (Some(ms(3)), 0), "the other one has a bad link");
    let figures = Figures::collect(&[&two[0]], Duration::ZERO);
    assert_eq!((figures.rtt, figures.loss), (Some(ms(900)), 0), "one alone may have one");
}

#[test]
fn relayed_peer_never_outranks_one_that_all_reach() {
    let relayed = Figures { reports: 4, reached: 0, inbound: None, rtt: Some(ms(1)), loss: 0, steady: 255 };
    let reached = Figures { reports: 4, reached: 4, inbound: None, rtt: Some(ms(80)), loss: 5, steady: 0 };
    assert!(reached.score() > relayed.score());
}

#[test]
fn published_figures_are_kept_without_reports() {
    let before = [RankRow { peer: peer(1), figures: GOOD }];
    let candidates = BTreeMap::from([(peer(1), Duration::ZERO), (peer(2), Duration::ZERO)]);
    let none = figures(&Reports::default(), &before, &candidates, 1);
    assert_eq!(none[&peer(1)], Figures { steady: 0, ..GOOD });
    assert_eq!(none[&peer(2)], Figures::default());
}

#[test]
fn published_figures_are_kept_until_as_many_have_reported() {
    let bad = Figures { reports: 9, reached: 1, ..GOOD };
    let before = [RankRow { peer: peer(1), figures: bad }];
    let candidates = BTreeMap::from([(peer(1), Duration::ZERO)]);
    let mut reports = Reports::default();
    for n in 2..=4 {
        let reached = |most: u16| figures(&reports, &before, &candidates, most)[&peer(1)].reached;
        assert_eq!(reached(3), 1, "{} of three have reported", n - 2);
        reports.keep(report_about(peer(1), n), Duration::ZERO);
    }
    assert_eq!(figures(&reports, &before, &candidates, 3)[&peer(1)].reached, 3);
    assert_eq!(figures(&reports, &before, &candidates, 1)[&peer(1)].reached, 3);
}

fn report_about(subject: PeerId, by: u8) -> ConnectivityReport {
    let row = ReportRow { peer: subject, direct: true, rtt: None, loss: 0, called: None };
    ConnectivityReport {
        room: RoomId::from_bytes([0; 32]),
        reporter: peer(by),
        term: Term(1),
        at: Timestamp::from_ms(1),
        rows: vec![row],
    }
}

fn arb_figures() -> impl Strategy<Value = Figures> {
    (0u16..40, 0u16..60, any::<Option<bool>>(), any::<Option<u8>>(), any::<u8>(), any::<u8>()).prop_map(
        |(reports, reached, inbound, rtt, loss, steady)| Figures {
            reports,
            reached,
            inbound,
            rtt: rtt.map(RttCode),
            loss,
            steady,
        },
    )
}

fn arb_candidates() -> impl Strategy<Value = BTreeMap<PeerId, Figures>> {
    proptest::collection::btree_map(any::<u8>().prop_map(peer), arb_figures(), 0..20)
}

proptest! {
    #[test]
    fn score_of_any_report_stays_in_bounds(figures in arb_figures()) {
        prop_assert!(figures.score() <= SCORE_MAX);
        for figure in Figure::ALL {
            prop_assert!(figures.points(figure) <= figure.weight());
        }
    }

    #[test]
    fn better_figures_never_lower_a_score(figures in arb_figures(), reached: u16, rtt: u8, loss: u8, steady: u8) {
        let better = Figures {
            reached: figures.reached.max(reached),
            rtt: Some(RttCode(figures.rtt.map_or(0, |code| code.0.min(rtt)))),
            loss: figures.loss.min(loss),
            steady: figures.steady.max(steady),
            ..figures
        };
        prop_assert!(better.score() >= figures.score());
    }

    #[test]
    fn order_is_complete_and_errs_by_the_band_at_most(candidates in arb_candidates(), later in arb_candidates()) {
        let first = order(&[], &candidates, 0);
        prop_assert_eq!(first.len(), candidates.len());
        let score = |row: &RankRow| row.figures.score();
        prop_assert!(first.windows(2).all(|pair| score(&pair[0]) > score(&pair[1])
            || (score(&pair[0]) == score(&pair[1]) && pair[0].peer < pair[1].peer)));
        let second = order(&first, &later, 200);
        prop_assert_eq!(second.len(), later.len());
        for (place, row) in second.iter().enumerate() {
            prop_assert!(second[place..].iter().all(|behind| score(behind) <= score(row) + 200));
        }
        prop_assert_eq!(&order(&second, &later, 200), &second, "a kept order stays");
    }

    #[test]
    fn small_changes_keep_the_order(candidates in arb_candidates(), shake in proptest::collection::vec(0u8..=50, 20)) {
        let first = order(&[], &candidates, 200);
        let moved: BTreeMap<PeerId, Figures> = candidates
            .iter()
            .zip(&shake)
            .map(|((peer, figures), by)| (*peer, Figures { steady: figures.steady.saturating_add(*by), ..*figures }))
            .collect();
        let peers = |rows: &[RankRow]| rows.iter().map(|row| row.peer).collect::<Vec<_>>();
        prop_assert_eq!(peers(&order(&first, &moved, 200)), peers(&first));
    }

    #[test]
    fn peer_that_cannot_follow_ranks_behind_those_that_can(candidates in arb_candidates(), able: [bool; 32]) {
        let eligible: BTreeSet<PeerId> =
            candidates.keys().filter(|peer| able[usize::from(peer.as_bytes()[0] % 32)]).copied().collect();
        let rows = ranking(&[], candidates.clone(), &eligible, 200);
        prop_assert_eq!(rows.len(), candidates.len());
        let first_unable = rows.iter().position(|row| !eligible.contains(&row.peer)).unwrap_or(rows.len());
        prop_assert_eq!(first_unable, eligible.len());
    }
}

#[test]
fn common_change_keeps_the_order() {
    let score = |steady: u8, n: u8| (peer(n), Figures { steady: steady + n, ..GOOD });
    let mut rows = order(&[], &(1..=6).map(|n| score(0, n)).collect(), 200);
    let before: Vec<PeerId> = rows.iter().map(|row| row.peer).collect();
    for steady in (0..240).step_by(3) {
        rows = order(&rows, &(1..=6).map(|n| score(steady, n)).collect(), 200);
        assert_eq!(rows.iter().map(|row| row.peer).collect::<Vec<_>>(), before, "at {steady}");
    }
}
