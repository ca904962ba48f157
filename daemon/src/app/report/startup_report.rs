//! What a starting daemon tells: to the process that started it, one JSON line each, and to people.

use std::fmt::Write as _;
use std::io::{self, Write};

use chat_proto::PEER_PORT;
use chat_proto::api::peers::{PeerRef, RoleView};
use chat_proto::api::status::{ApiFile, RoomRef, Status};
use chat_proto::text::printable;
use serde::{Deserialize, Serialize};

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;

/// A line from a daemon that starts in the background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(crate) enum StartReport {
    /// Somebody has to let it in; both sides show these words.
    Knocking {
        /// The words.
        words: String,
    },
    /// Its API answers.
    Ready(Box<Started>),
    /// It ends.
    Failed(ExitError),
}

/// A daemon that runs: what `chatd start --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// Whether it ran before.
    pub(crate) already_running: bool,
    /// This peer.
    pub(crate) peer: PeerRef,
    /// The room.
    pub(crate) room: RoomRef,
    /// Members of the room, this peer included.
    pub(crate) members: u32,
    /// UDP and TCP port for other peers.
    pub(crate) port: u16,
    /// Base URL of the API on TCP.
    pub(crate) url: Option<String>,
    /// Unix socket of the API.
    pub(crate) socket: String,
    /// Process id.
    pub(crate) pid: u32,
    /// The home directory.
    pub(crate) home: String,
    /// Version of the daemon.
    pub(crate) version: String,
    /// What went otherwise than asked or usual, a line each.
    pub(crate) notes: Vec<String>,
}

impl Started {
    /// A daemon as its API tells.
    pub(crate) fn new(api: ApiFile, status: Status) -> Self {
        Self {
            already_running: false,
            peer: status.peer,
            room: status.room,
            members: status.members,
            port: status.reachability.port,
            url: api.url,
            socket: api.socket,
            pid: api.pid,
            home: status.home,
            version: api.version,
            notes: Vec::new(),
        }
    }

    /// The lines that people get: what stands, and what to do next.
    pub(crate) fn lines(&self, home: &Home) -> String {
        let Self { peer, room, members, port, url, socket, pid, notes, .. } = self;
        let before = if self.already_running { format!("chatd runs already (pid {pid}): ") } else { String::new() };
        let door = if room.open { ", open to everybody who knocks" } else { "" };
        let room_name =
            if room.name.is_empty() { "a room whose name is on its way".into() } else { printable(&room.name) };
        let mut rows = vec![
            ("", format!("{before}{} (~{}) is in {room_name}{door}", printable(&peer.name), peer.tag)),
            ("peers", format!("port {port}, UDP and TCP")),
            ("api", url.as_ref().unwrap_or(socket).clone()),
        ];
        rows.extend(notes.iter().map(|note| ("note", printable(note))));
        let others = members.saturating_sub(1);
        if others > 0 {
            rows.push(("with", format!("{others} other member{}", if others == 1 { "" } else { "s" })));
        }
        let steps = [
            ("chat invite", "a ticket that lets others in"),
            ("chat send hello", "say something"),
            ("chat tail", "see what is said"),
        ];
        let steps = steps.map(|(command, does)| (home.command(command), does));
        let width = steps.iter().map(|(command, _)| command.chars().count()).max().unwrap_or_default();
        rows.extend(steps.iter().map(|(command, does)| ("next", format!("{command:<width$}  {does}"))));
        table(&rows)
    }
}

/// Rows with their labels in a column of their own; a label is not repeated, a row without one stands by itself.
fn table(rows: &[(&str, String)]) -> String {
    let mut text = String::new();
    let mut last = "";
    for (label, value) in rows {
        // Writing to a string does not fail.
        let _ = if label.is_empty() {
            writeln!(text, "{value}")
        } else {
            writeln!(text, "  {:<6} {value}", if *label == last { "" } else { label })
        };
        last = label;
    }
    text
}

/// The daemon listens on another port than the usual one, which nobody asked for.
pub(crate) fn port_note(port: u16) -> String {
    format!("port {PEER_PORT} was taken, so others must be given port {port}: --join HOST:{port}")
}

/// What is shown while somebody has to let this peer in.
pub(crate) fn knocking(words: &str) -> String {
    format!(
        "waiting to be let in: a member runs 'chat knocks', compares the words and runs 'chat admit'\n  words  {words}\n"
    )
}

/// How a daemon stands, for `chatd status`.
pub(crate) fn status_lines(status: &Status, api: &ApiFile) -> String {
    let part = match status.role {
        RoleView::Holder => "this peer",
        RoleView::Standby | RoleView::Member => "",
    };
    let holder = status.rendezvous.as_ref().map_or_else(
        || "nobody known".to_owned(),
        |held| {
            let who = if part.is_empty() { printable(&held.peer.name) } else { part.to_owned() };
            format!("{who}, term {}", held.term)
        },
    );
    let seen: Vec<String> = status.reachability.observed.iter().map(ToString::to_string).collect();
    let rows = [
        ("peer", format!("{} (~{})", printable(&status.peer.name), status.peer.tag)),
        ("room", printable(&status.room.name) + if status.room.open { ", open" } else { "" }),
        ("members", format!("{}, {} online", status.members, status.members_online)),
        ("messages", status.messages.to_string()),
        ("rendezvous", holder),
        ("peers' port", status.reachability.port.to_string()),
        ("seen at", seen.join(", ")),
        ("api", api.url.clone().unwrap_or_else(|| api.socket.clone())),
        ("process", format!("{} since {}, version {}", status.pid, status.started_at, status.version)),
        ("home", status.home.clone()),
    ];
    let mut text = String::new();
    for (label, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{label:<12} {value}");
    }
    text
}

/// Prints to standard output.
///
/// # Errors
/// When it is closed or full.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints one JSON object.
///
/// # Errors
/// When standard output is closed or full.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    print(&text)
}

/// Tells people something that is not the result. Nobody listening is not an error.
pub(crate) fn talk(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;
