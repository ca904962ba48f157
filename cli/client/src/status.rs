//! The status of a daemon as lines, the same for `chat status` and `chatd status`.

use std::net::SocketAddr;

use chat_proto::api::peers::RoleView;
use chat_proto::api::status::Status;
use chat_proto::time::{Timestamp, is_clock_off};

use crate::client::{Client, announced};
use crate::display::{between, clock_off, count, label, name, span};
use crate::home::DaemonAddr;

/// Width of the column of labels.
const LABEL_CHARS: usize = 10;

/// The lines of a status, without line ends. `paint` gives a label its style.
pub fn status_lines(status: &Status, api: &str, now: Timestamp, paint: impl Fn(&str) -> String) -> Vec<String> {
    let facts = facts(status, api, now);
    facts.iter().map(|(label, text)| format!("{} {text}", paint(&format!("{label:<LABEL_CHARS$}")))).collect()
}

impl Client {
    /// Where scripts reach the API: its URL, or its socket where TCP is off.
    pub fn api_place(&self) -> String {
        match self.addr() {
            DaemonAddr::Tcp { .. } => self.addr().to_string(),
            DaemonAddr::Home(home) => match announced(&home.clone().follow()) {
                Ok(api) => api.url.unwrap_or(api.socket),
                Err(_) => home.socket().display().to_string(),
            },
        }
    }
}

fn facts(status: &Status, api: &str, now: Timestamp) -> Vec<(&'static str, String)> {
    let room = if status.room.name.is_empty() { status.room.id.short() } else { label(&status.room.name) };
    let members = count(status.members.into(), "member", "members");
    let members = match status.removed {
        true => "you were removed from this room: 'chat leave' leaves it, an admin can admit you again".to_owned(),
        false => format!("{members}, {} online", status.members_online),
    };
    let messages = match status.missing_entries {
        0 => status.messages.to_string(),
        missing => format!("{}; catching up, {} to come", status.messages, count(missing, "entry", "entries")),
    };
    let admission = if status.room.open { "open to anyone who knocks" } else { "by invitation" };
    let rendezvous = match (&status.rendezvous, status.role) {
        (Some(held), RoleView::Holder) => format!("this peer, term {}", held.term),
        (Some(held), RoleView::Standby) => {
            format!("{}, term {}; this peer is on the succession list", name(&held.peer), held.term)
        }
        (Some(held), RoleView::Member) => format!("{}, term {}", name(&held.peer), held.term),
        (None, _) => "no known holder".into(),
    };
    let reach = &status.reachability;
    let inbound = match reach.inbound {
        Some(true) => "accepts inbound connections",
        Some(false) => "not reachable from outside its network",
        None => "not yet known whether it accepts inbound connections",
    };
    let list = |addrs: &[SocketAddr]| match addrs {
        [] => "none".to_owned(),
        addrs => addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let up = span(between(status.started_at, now));
    let clock = status.clock_off_ms.filter(is_clock_off).map(|off_ms| {
        let text = format!("{} against the other members' clocks, set the time of this machine", clock_off(off_ms));
        ("clock", text)
    });
    let facts = [
        ("you", format!("{} ({})", name(&status.peer), status.peer.tag)),
        ("room", format!("{room}, {admission}")),
        ("members", members),
        ("messages", messages),
        ("rendezvous", rendezvous),
        ("port", format!("{}; {inbound}", reach.port)),
        ("addresses", list(&reach.addrs)),
        ("seen as", list(&reach.observed)),
        ("api", label(api)),
        ("daemon", format!("chatd {}, process {}, up for {up}", label(&status.version), status.pid)),
        ("home", label(&status.home)),
    ];
    facts.into_iter().chain(clock).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chat_proto::api::peers::PeerRef;
    use chat_proto::api::status::RoomRef;
    use chat_proto::id::{PeerId, RoomId};

    use super::*;

    #[test]
    fn status_is_one_labelled_line_per_fact() {
        let id = PeerId::from_bytes([0; 32]);
        let now = Timestamp::from_ms(1_790_000_000_000);
        let peer = PeerRef { id, name: "ann".into(), tag: id.tag() };
        let room = RoomRef { id: RoomId::from_bytes([1; 32]), name: "lab\x1b".into(), open: true };
        let status = Status {
            messages: 3,
            started_at: now.before(Duration::from_secs(120)),
            clock_off_ms: Some(-7_200_000),
            ..Status::alone(peer, room)
        };
        let lines = status_lines(&status, "http://127.0.0.1:24284", now, |label| format!("*{label}"));
        assert_eq!(lines[0], "*you        ann (aaaaaaaa)");
        assert_eq!(lines[1], "*room       lab\u{FFFD}, open to anyone who knocks");
        assert_eq!(lines[2], "*members    1 member, 1 online");
        assert_eq!(lines[8], "*api        http://127.0.0.1:24284");
        assert_eq!(lines[9], "*daemon     chatd 0.1.0, process 7, up for 2m");
        assert_eq!(lines[11], "*clock      off by -2h against the other members' clocks, set the time of this machine");
        let behind = status_lines(&Status { missing_entries: 1200, ..status.clone() }, "", now, str::to_owned);
        assert_eq!(behind[3], "messages   3; catching up, 1200 entries to come");
        let removed = status_lines(&Status { removed: true, ..status }, "", now, str::to_owned);
        assert!(removed[2].starts_with("members    you were removed from this room"), "{}", removed[2]);
    }
}
