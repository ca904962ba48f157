//! `chat peers`: every member and how it is connected.

use chat_client::Client;
use chat_proto::api::peers::{MemberRole, PathView, PeerView, RoleView};
use chat_proto::time::{Timestamp, is_clock_off};
use clap::Args;

use crate::error::CliError;
use crate::text::render;
use crate::text::table::{Row, Side, table};
use crate::text::ui::{self, Colour, Ui};

const COLUMNS: [(&str, Side); 8] = [
    ("NAME", Side::Left),
    ("TAG", Side::Left),
    ("ONLINE", Side::Left),
    ("PATH", Side::Left),
    ("RTT", Side::Right),
    ("LAST SEEN", Side::Left),
    ("ROLE", Side::Left),
    ("RANK", Side::Right),
];

const USAGE_COLUMNS: [(&str, Side); 9] = [
    ("NAME", Side::Left),
    ("TAG", Side::Left),
    ("WRITTEN", Side::Right),
    ("ENTRIES", Side::Right),
    ("CONTROL", Side::Right),
    ("ADMITTED", Side::Right),
    ("FORKS", Side::Right),
    ("LOGS", Side::Right),
    ("PACE", Side::Left),
];

/// Arguments of `chat peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    /// One member per line as JSON
    #[arg(long)]
    json: bool,
    /// What each has written, of its budget for a day
    #[arg(long, conflicts_with = "json")]
    usage: bool,
}

/// Prints the members.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: PeersArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let peers = client.peers().await?;
    if args.json {
        return peers.iter().try_for_each(|peer| ui.json(peer));
    }
    let lines = match args.usage {
        true => usage_lines(&peers, ui.colour, ui::columns()),
        false => lines(&peers, render::now(), ui.colour, ui::columns()),
    };
    lines.iter().try_for_each(|line| ui.line(line))
}

/// The members as a table of at most `width` columns.
pub(crate) fn lines(peers: &[PeerView], now: Timestamp, colour: Colour, width: Option<usize>) -> Vec<String> {
    let rows: Vec<Row> = peers.iter().map(|view| row(view, now)).collect();
    table(&COLUMNS, &rows, colour, width)
}

/// What the members have written, as a table of at most `width` columns.
fn usage_lines(peers: &[PeerView], colour: Colour, width: Option<usize>) -> Vec<String> {
    let row = |view: &PeerView| {
        let used = view.used.unwrap_or_default();
        let figures = [used.entries, used.control_entries, used.admissions, used.forks, used.logs];
        let mut cells = vec![named(view), view.peer.tag.to_string(), render::bytes(used.bytes)];
        cells.extend(figures.iter().map(u64::to_string));
        cells.push(pace(view).unwrap_or("-").into());
        Row { cells, sgr: None }
    };
    table(&USAGE_COLUMNS, &peers.iter().map(row).collect::<Vec<_>>(), colour, width)
}

/// Whether entries of a member are late because it writes too much.
fn pace(view: &PeerView) -> Option<&'static str> {
    let used = view.used?;
    match (used.over, used.behind) {
        (true, _) => Some("over budget"),
        (false, true) => Some("late"),
        (false, false) => None,
    }
}

fn named(view: &PeerView) -> String {
    let name = render::name(&view.peer);
    if view.me { format!("{name} (you)") } else { name }
}

fn row(view: &PeerView, now: Timestamp) -> Row {
    let path = match view.path {
        PathView::Direct => "direct",
        PathView::Relayed => "relayed",
        PathView::None => "-",
    };
    let last_seen = match view.last_seen {
        _ if view.online => match view.clock_off_ms.filter(is_clock_off) {
            Some(off_ms) => format!("now, {}", render::clock_off(off_ms)),
            None => "now".into(),
        },
        Some(time) => format!("{} ago", render::span(render::between(time, now))),
        None => "never".into(),
    };
    let cells = vec![
        named(view),
        view.peer.tag.to_string(),
        if view.online { "yes" } else { "no" }.into(),
        if view.me { "-" } else { path }.into(),
        view.rtt_ms.map_or_else(|| "-".into(), render::rtt),
        last_seen,
        pace(view).map_or_else(|| role(view).into(), |pace| format!("{}, {pace}", role(view))),
        view.rank.map_or_else(|| "-".into(), |rank| rank.to_string()),
    ];
    Row { cells, sgr: (!view.online).then_some("2") }
}

fn role(view: &PeerView) -> &'static str {
    match (view.role, view.member) {
        (RoleView::Holder, MemberRole::Admin) => "rendezvous, admin",
        (RoleView::Holder, MemberRole::Member) => "rendezvous",
        (RoleView::Standby, MemberRole::Admin) => "standby, admin",
        (RoleView::Standby, MemberRole::Member) => "standby",
        (RoleView::Member, MemberRole::Admin) => "admin",
        (RoleView::Member, MemberRole::Member) => "-",
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::api::peers::PeerRef;
    use chat_proto::id::PeerId;

    use super::*;

    #[test]
    fn members_are_listed_in_columns() {
        let now = Timestamp::from_ms(1_790_000_000_000);
        let id = PeerId::from_bytes([1; 32]);
        let alice = PeerView {
            peer: PeerRef { id, name: "alice".into(), tag: id.tag() },
            me: true,
            online: true,
            path: PathView::Direct,
            rtt_ms: None,
            last_seen: Some(now),
            role: RoleView::Holder,
            rank: Some(1),
            member: MemberRole::Admin,
            clock_off_ms: None,
            let_in_by: None,
            used: None,
            safety_words: None,
        };
        let bob = PeerView {
            peer: PeerRef { name: "bob".into(), ..alice.peer.clone() },
            me: false,
            online: false,
            path: PathView::None,
            rtt_ms: Some(0.42),
            last_seen: Some(now.before(std::time::Duration::from_secs(7200))),
            role: RoleView::Member,
            rank: None,
            member: MemberRole::Member,
            clock_off_ms: None,
            let_in_by: None,
            used: None,
            safety_words: None,
        };
        let long = PeerView { peer: PeerRef { name: "Q".repeat(32), ..alice.peer.clone() }, ..alice.clone() };
        let narrow = lines(&[long, bob.clone()], now, Colour::Off, Some(80));
        assert!(narrow.iter().all(|line| line.len() <= 80), "{narrow:#?}");
        assert_eq!(narrow.concat().matches('Q').count(), 32, "all of the name");
        assert_eq!(
            lines(&[alice, bob], now, Colour::Off, None),
            [
                "NAME         TAG       ONLINE  PATH    RTT  LAST SEEN  ROLE               RANK",
                "alice (you)  aeaqcaib  yes     -         -  now        rendezvous, admin     1",
                "bob          aeaqcaib  no      -     0.4ms  2h ago     -                     -",
            ]
        );
    }
}
