//! The texts of start and status: JSON lines to the process that waits for the daemon, text for people.

use std::fmt::Write as _;
use std::io::{self, Write};

use chat_proto::PEER_PORT;
use chat_proto::api::peers::PeerRef;
use chat_proto::api::status::{ApiFile, RoomRef, Status};
use chat_proto::text::printable;
use serde::{Deserialize, Serialize};

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;

/// A report of a daemon that starts in the background, one JSON line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(crate) enum StartReport {
    /// A member has to admit it; both sides show these words.
    Knocking {
        /// The words.
        words: String,
    },
    /// Its API answers.
    Ready(Box<Started>),
    /// It could not start, and ends.
    Failed(ExitError),
}

/// A running daemon, as `chatd start --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// Whether it was running before this start.
    pub(crate) already_running: bool,
    /// This peer.
    pub(crate) peer: PeerRef,
    /// The room.
    pub(crate) room: RoomRef,
    /// Members of the room, this peer included.
    pub(crate) members: u32,
    /// Entries of the room that members hold and this peer does not have yet.
    #[serde(default)]
    pub(crate) missing_entries: u64,
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
    /// What went otherwise than asked or usual, one line each.
    pub(crate) notes: Vec<String>,
}

impl Started {
    /// A daemon from the answers of its API.
    pub(crate) fn new(api: ApiFile, status: Status) -> Self {
        Self {
            already_running: false,
            peer: status.peer,
            room: status.room,
            members: status.members,
            missing_entries: status.missing_entries,
            port: status.reachability.port,
            url: api.url,
            socket: api.socket,
            pid: api.pid,
            home: status.home,
            version: api.version,
            notes: Vec::new(),
        }
    }

    /// The text for people: the state of the daemon, and what to do next.
    pub(crate) fn lines(&self, home: &Home) -> String {
        let Self { peer, room, members, missing_entries, port, url, socket, pid, notes, .. } = self;
        let before =
            if self.already_running { format!("chatd is already running (pid {pid}): ") } else { String::new() };
        let door = if room.open { ", an open room" } else { "" };
        let room_name =
            if room.name.is_empty() { "a room whose name has not arrived yet".into() } else { printable(&room.name) };
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
        if *missing_entries > 0 {
            let status = home.command("chat status");
            rows.push(("with", format!("{missing_entries} entries still to come, see {status}")));
        }
        let steps = [
            ("chat invite", "print a ticket for others to join"),
            ("chat send hello", "send a message"),
            ("chat tail", "read along"),
        ];
        let steps = steps.map(|(command, does)| (home.command(command), does));
        let width = steps.iter().map(|(command, _)| command.chars().count()).max().unwrap_or_default();
        rows.extend(steps.iter().map(|(command, does)| ("next", format!("{command:<width$}  {does}"))));
        table(&rows)
    }
}

/// Formats rows with their labels in a column; a repeated label is left out, a row without one is not indented.
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

/// The note that the daemon listens on another port than the usual one, without having been asked to.
pub(crate) fn port_note(port: u16) -> String {
    format!("port {PEER_PORT} was taken: other peers must use port {port}, as in --join HOST:{port}")
}

/// The text shown while a member has to admit this peer.
pub(crate) fn knocking(words: &str) -> String {
    format!(
        "waiting to be admitted: a member runs 'chat knocks', compares the words and runs 'chat admit'\n  words  {words}\n"
    )
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

/// Prints something that is not the result to standard error. A closed one is not an error.
pub(crate) fn talk(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;
