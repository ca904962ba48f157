//! `chat why`: the ranking that decides which peer holds the rendezvous role, and the role's history.

use chat_client::Client;
use chat_client::display::change_reason;
use chat_proto::api::peers::RoleView;
use chat_proto::api::rendezvous::{HolderChange, RankedPeer, RendezvousView};
use chat_proto::time::Timestamp;
use clap::Args;
use jiff::tz::TimeZone;

use crate::error::CliError;
use crate::text::render::{self, label, name};
use crate::text::table::{Row, Side, table};
use crate::text::ui::{self, Colour, Ui};
use crate::text::wrap::fold;

/// Number of changes of the role that are shown; `--json` has them all.
const CHANGES_SHOWN: usize = 10;

const COLUMNS: [(&str, Side); 10] = [
    ("RANK", Side::Right),
    ("PEER", Side::Left),
    ("SCORE", Side::Right),
    ("REACH", Side::Right),
    ("INBOUND", Side::Left),
    ("RTT", Side::Right),
    ("LOSS", Side::Right),
    ("STEADY", Side::Right),
    ("REPORTS", Side::Right),
    ("WHY", Side::Left),
];

/// Width of the legend where the output has none.
const LEGEND_COLUMNS: usize = 118;

const LEGEND: &str = "\
reach: share of members connected to it directly; inbound: accepts connections from outside its network; rtt, loss: as \
other members measured them; steady: share of the last hour online; reports: members whose measurements are included";

/// Arguments of `chat why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Prints the ranking and its history.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: WhyArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let rendezvous = client.rendezvous().await?;
    if args.json {
        return ui.json(&rendezvous);
    }
    lines(&rendezvous, render::now(), &TimeZone::system(), (ui.colour, ui::columns()))
        .iter()
        .try_for_each(|line| ui.line(line))
}

/// The ranking and the role's history as lines of at most `width` columns.
pub(crate) fn lines(
    rendezvous: &RendezvousView,
    now: Timestamp,
    zone: &TimeZone,
    (colour, width): (Colour, Option<usize>),
) -> Vec<String> {
    let folded = |text: &str| fold(text, width.unwrap_or(usize::MAX), 0);
    let term = rendezvous.term;
    let mut lines = vec![match (&rendezvous.holder, rendezvous.since) {
        (Some(holder), Some(since)) => {
            let span = render::span(render::between(since, now));
            format!("{} ({}) holds the rendezvous role in term {term}, for {span}", name(holder), holder.tag)
        }
        (Some(holder), None) => format!("{} ({}) holds the rendezvous role in term {term}", name(holder), holder.tag),
        (None, _) => format!("no peer is known to hold the rendezvous role; the last term was {term}"),
    }];
    lines.push(String::new());
    if rendezvous.ranking.is_empty() {
        lines.push("the holder has published no ranking yet".into());
    } else {
        let successors = successors(rendezvous);
        let rows: Vec<Row> =
            rendezvous.ranking.iter().map(|ranked| row(ranked, role_of(rendezvous, &successors, ranked))).collect();
        lines.extend(table(&COLUMNS, &rows, colour, width));
        lines.push(String::new());
        let next = match successors.as_slice() {
            [] => "the succession list is empty: any remaining peer takes the role".to_owned(),
            next => {
                let names: Vec<String> = next.iter().map(|ranked| name(&ranked.peer)).collect();
                format!(
                    "when the holder is gone, the first of these that is alive takes the role: {}",
                    names.join(", ")
                )
            }
        };
        lines.extend(folded(&next));
        lines.extend(fold(LEGEND, width.unwrap_or(LEGEND_COLUMNS), 0).iter().map(|line| colour.paint("2", line)));
    }
    if !rendezvous.history.is_empty() {
        lines.push(String::new());
        let rows: Vec<Row> =
            rendezvous.history.iter().take(CHANGES_SHOWN).map(|change| change_row(change, zone)).collect();
        let columns = [
            ("SINCE", Side::Left),
            ("TERM", Side::Right),
            ("HOLDER", Side::Left),
            ("BECAUSE", Side::Left),
            ("GAP", Side::Right),
        ];
        lines.extend(table(&columns, &rows, colour, width));
    }
    lines
}

fn row(ranked: &RankedPeer, role: RoleView) -> Row {
    let inbound = match ranked.inbound {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    };
    let sgr = match role {
        RoleView::Holder => Some("1"),
        RoleView::Standby => None,
        RoleView::Member => Some("2"),
    };
    let cells = vec![
        ranked.rank.to_string(),
        name(&ranked.peer),
        format!("{:.2}", ranked.score),
        render::percent(ranked.reach),
        inbound.into(),
        ranked.rtt_ms.map_or_else(|| "-".into(), render::rtt),
        render::percent(ranked.loss),
        render::percent(ranked.steady),
        ranked.reports.to_string(),
        label(&ranked.why),
    ];
    Row { cells, sgr }
}

/// The head of the ranking without the holder.
fn successors(rendezvous: &RendezvousView) -> Vec<&RankedPeer> {
    let most = usize::try_from(rendezvous.succession).unwrap_or(usize::MAX);
    rendezvous.ranking.iter().filter(|ranked| !holds(rendezvous, ranked)).take(most).collect()
}

fn holds(rendezvous: &RendezvousView, ranked: &RankedPeer) -> bool {
    rendezvous.holder.as_ref().is_some_and(|holder| holder.id == ranked.peer.id)
}

fn role_of(rendezvous: &RendezvousView, successors: &[&RankedPeer], ranked: &RankedPeer) -> RoleView {
    if holds(rendezvous, ranked) {
        RoleView::Holder
    } else if successors.iter().any(|next| next.peer.id == ranked.peer.id) {
        RoleView::Standby
    } else {
        RoleView::Member
    }
}

fn change_row(change: &HolderChange, zone: &TimeZone) -> Row {
    let gap = render::span(std::time::Duration::from_millis(change.gap_ms));
    vec![
        render::date_time_seconds(change.at, zone),
        change.term.to_string(),
        name(&change.to),
        change_reason(change),
        gap,
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use chat_proto::api::peers::PeerRef;
    use chat_proto::api::rendezvous::ChangeReason;
    use chat_proto::id::{PeerId, Term};

    use super::*;

    fn peer(number: u8, name: &str) -> PeerRef {
        let id = PeerId::from_bytes([number; 32]);
        PeerRef { id, name: name.into(), tag: id.tag() }
    }

    fn ranked(rank: u32, peer: PeerRef, why: &str) -> RankedPeer {
        let (score, reach, loss) = (0.93, 1.0, 0.0);
        RankedPeer {
            peer,
            rank,
            score,
            reach,
            inbound: None,
            rtt_ms: Some(0.4),
            loss,
            steady: 0.98,
            reports: 2,
            why: why.into(),
        }
    }

    #[test]
    fn table_names_the_holder_and_its_successors() {
        let now = Timestamp::from_ms(1_790_000_000_000);
        let (alice, bob) = (peer(1, "alice"), peer(2, "bob"));
        let change = HolderChange {
            term: Term(2),
            from: Some(bob.clone()),
            to: alice.clone(),
            at: now,
            reason: ChangeReason::Died,
            gap_ms: 210,
        };
        let rendezvous = RendezvousView {
            term: Term(2),
            holder: Some(alice.clone()),
            since: Some(now.before(std::time::Duration::from_secs(180))),
            role: RoleView::Holder,
            ranking: vec![
                ranked(1, alice, "lower rtt than bob"),
                ranked(2, bob, "steadier"),
                ranked(3, peer(3, "carol"), "last"),
            ],
            succession: 1,
            history: vec![change],
        };
        let narrow = lines(&rendezvous, now, &TimeZone::UTC, (Colour::Off, Some(80)));
        assert!(narrow.iter().all(|line| line.chars().count() <= 80), "{narrow:#?}");
        let lines = lines(&rendezvous, now, &TimeZone::UTC, (Colour::Off, None));
        assert_eq!(lines[0], "alice (aeaqcaib) holds the rendezvous role in term 2, for 3m");
        assert_eq!(lines[2], "RANK  PEER   SCORE  REACH  INBOUND    RTT  LOSS  STEADY  REPORTS  WHY");
        assert_eq!(lines[3], "   1  alice   0.93   100%  ?        0.4ms    0%     98%        2  lower rtt than bob");
        assert_eq!(lines[7], "when the holder is gone, the first of these that is alive takes the role: bob");
        assert_eq!(
            lines.last().map(String::as_str),
            Some("2026-09-21 14:13:20     2  alice   bob's process died  210ms")
        );
    }
}
