//! `GET /v1/status` and the file `run/api.json`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::peers::{PeerRef, RoleView};
use crate::id::{RoomId, Term};
use crate::time::Timestamp;

/// State of the daemon, its peer and its room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// This peer.
    pub peer: PeerRef,
    /// The room.
    pub room: RoomRef,
    /// This peer's part in the rendezvous.
    pub role: RoleView,
    /// The holder of the rendezvous role; null if it is not known.
    pub rendezvous: Option<RendezvousRef>,
    /// Whether this peer was removed from the room; it reads what it has, and can leave.
    #[serde(default)]
    pub removed: bool,
    /// Number of members, including this peer.
    pub members: u32,
    /// Number of members that are online, including this peer.
    pub members_online: u32,
    /// Number of messages in the history that this peer can read.
    pub messages: u64,
    /// Number of entries on this peer's disk that are damaged and for which no member has given a good copy yet.
    #[serde(default)]
    pub damaged_entries: u64,
    /// Number of entries that connected members hold and this peer does not have yet; each has one message or more. Zero when it
    /// has caught up.
    #[serde(default)]
    pub missing_entries: u64,
    /// Addresses of this peer.
    pub reachability: Reachability,
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// The daemon's home directory.
    pub home: String,
    /// How far this machine's clock is ahead of the median of its neighbours' clocks, in milliseconds, negative if behind;
    /// null while no member is connected.
    #[serde(default)]
    pub clock_off_ms: Option<i64>,
}

impl Status {
    /// A peer alone in a room where nothing has been said yet: for tests, which then set the fields that they are about.
    pub fn alone(peer: PeerRef, room: RoomRef) -> Self {
        Self {
            peer,
            room,
            role: RoleView::Standby,
            rendezvous: None,
            removed: false,
            members: 1,
            members_online: 1,
            messages: 0,
            damaged_entries: 0,
            missing_entries: 0,
            reachability: Reachability::default(),
            version: "0.1.0".into(),
            pid: 7,
            started_at: Timestamp::from_ms(1_790_000_000_000),
            home: "/h".into(),
            clock_off_ms: None,
        }
    }
}

/// A room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomRef {
    /// Hash of its first entry.
    pub id: RoomId,
    /// Its name, given by the founder; empty while the first entry has not arrived.
    pub name: String,
    /// Whether every knock is admitted.
    pub open: bool,
}

/// The holder of the rendezvous role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RendezvousRef {
    /// The holder.
    pub peer: PeerRef,
    /// Its term.
    pub term: Term,
}

/// Addresses at which a peer listens, and at which other members see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reachability {
    /// UDP and TCP port that the peer listens on.
    pub port: u16,
    /// Addresses that it announces to other peers, IP and port.
    pub addrs: Vec<SocketAddr>,
    /// Addresses at which other members see it, IP and port.
    pub observed: Vec<SocketAddr>,
    /// Whether it accepts inbound connections from other networks; null until a member has tried.
    pub inbound: Option<bool>,
}

/// Content of `run/api.json`: how to connect to the daemon. The token has a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiFile {
    /// Process id of the daemon.
    pub pid: u32,
    /// Path of the Unix socket.
    pub socket: String,
    /// `http://127.0.0.1:PORT`; null if TCP is off.
    pub url: Option<String>,
    /// Version of the daemon.
    pub version: String,
}
