//! The reason for a candidate's rank, in words.

use super::rank::{Figure, Figures, RankRow};

/// What decided the rank of `row` against the one behind it, whose name is `other`.
pub(crate) fn why(row: &RankRow, behind: Option<(&RankRow, &str)>) -> String {
    let Some((next, other)) = behind else {
        return format!("last in line: {}", alone(&row.figures));
    };
    let lead = |figure: &Figure| {
        let (own, theirs) = (row.figures.points(*figure), next.figures.points(*figure));
        i32::from(own) - i32::from(theirs)
    };
    let decisive = Figure::ALL.into_iter().max_by_key(|figure| (lead(figure), std::cmp::Reverse(*figure)));
    match decisive.filter(|figure| lead(figure) > 0) {
        _ if row.figures.score() < next.figures.score() => {
            format!("was ahead before, and {other} is not clearly better: {}", alone(&row.figures))
        }
        None => format!("as good as {other}: {}", alone(&row.figures)),
        Some(figure) => against(figure, &row.figures, &next.figures, other),
    }
}

fn alone(figures: &Figures) -> String {
    if figures.reports == 0 {
        return "not measured by other members yet".into();
    }
    let rtt = figures.rtt.map_or_else(String::new, |code| format!(" in {}", ms(code.as_ms())));
    format!("{} of {} members reach it directly{rtt}", figures.reached, figures.reports)
}

fn against(figure: Figure, own: &Figures, theirs: &Figures, other: &str) -> String {
    match figure {
        Figure::Reach if theirs.reports == 0 => format!("{}, {other} is not measured yet", alone(own)),
        Figure::Reach => format!(
            "reached directly by {} of {} members, {other} by {} of {}",
            own.reached, own.reports, theirs.reached, theirs.reports
        ),
        Figure::Inbound => {
            let theirs = match theirs.inbound {
                Some(_) => format!("{other} is not"),
                None => format!("unknown for {other}"),
            };
            match own.inbound {
                Some(_) => format!("reachable from other networks, {theirs}"),
                None => format!("may be reachable from other networks, {other} is not"),
            }
        }
        Figure::Rtt => match (own.rtt, theirs.rtt) {
            (Some(own), Some(theirs)) => {
                format!("answers in {}, {other} in {}", ms(own.as_ms()), ms(theirs.as_ms()))
            }
            (Some(own), None) => format!("answers in {}, {other} is not measured", ms(own.as_ms())),
            (None, _) => format!("{other} answers slowly"),
        },
        Figure::Loss => format!("loses {} of packets sent to it, {other} {}", percent(own.loss), percent(theirs.loss)),
        Figure::Steady => format!("online for longer than {other}"),
    }
}

fn ms(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

fn percent(of_255: u8) -> String {
    format!("{:.0} %", f64::from(of_255) * 100.0 / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectivity::report::RttCode;
    use chat_proto::id::PeerId;
    use std::time::Duration;

    fn row(figures: Figures) -> RankRow {
        RankRow { peer: PeerId::from_bytes([1; 32]), figures }
    }

    fn rtt(ms: u64) -> Option<RttCode> {
        Some(RttCode::from_duration(Duration::from_millis(ms)))
    }

    #[test]
    fn explanation_names_the_figure_that_leads_most() {
        let base = Figures { reports: 9, reached: 9, inbound: Some(true), rtt: rtt(3), loss: 0, steady: 255 };
        for (behind, expected) in [
            (Figures { reached: 4, ..base }, "reached directly by 9 of 9 members, bob by 4 of 9"),
            (Figures { inbound: Some(false), ..base }, "reachable from other networks, bob is not"),
            (Figures { inbound: None, ..base }, "reachable from other networks, unknown for bob"),
            (Figures { rtt: rtt(48), ..base }, "answers in 3.0 ms, bob in 48 ms"),
            (Figures { loss: 20, ..base }, "loses 0 % of packets sent to it, bob 8 %"),
            (Figures { steady: 9, ..base }, "online for longer than bob"),
            (base, "as good as bob: 9 of 9 members reach it directly in 3.0 ms"),
            (Figures::default(), "9 of 9 members reach it directly in 3.0 ms, bob is not measured yet"),
        ] {
            assert_eq!(why(&row(base), Some((&row(behind), "bob"))), expected);
        }
        assert_eq!(why(&row(Figures::default()), None), "last in line: not measured by other members yet");
        let worse = Figures { steady: 200, ..base };
        let text = why(&row(worse), Some((&row(base), "bob")));
        assert!(text.starts_with("was ahead before, and bob is not clearly better"), "{text}");
    }
}
