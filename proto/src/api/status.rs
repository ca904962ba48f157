//! `GET /v1/status` and the file `run/api.json`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::api::peers::{PeerRef, RoleView};
use crate::id::{RoomId, Term};
use crate::time::Timestamp;

/// How the daemon, its peer and its room stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This peer.
    pub peer: PeerRef,
    /// The room.
    pub room: RoomRef,
    /// This peer's part in the rendezvous.
    pub role: RoleView,
    /// Who holds the rendezvous role, where it is known.
    pub rendezvous: Option<RendezvousRef>,
    /// Members of the room, this peer included.
    pub members: u32,
    /// Members online, this peer included.
    pub members_online: u32,
    /// Messages in the history that this peer can read.
    pub messages: u64,
    /// Where this peer listens and is seen.
    pub reachability: Reachability,
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// The daemon's home directory.
    pub home: String,
}

/// The room a daemon is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRef {
    /// Hash of the first entry.
    pub id: RoomId,
    /// Name given by the founder; empty while the first entry has not arrived.
    pub name: String,
    /// Whether every knock is admitted.
    pub open: bool,
}

/// Who holds the rendezvous role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RendezvousRef {
    /// The holder.
    pub peer: PeerRef,
    /// Its term.
    pub term: Term,
}

/// Where a peer listens and at which addresses others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachability {
    /// UDP and TCP port the peer listens on.
    pub port: u16,
    /// Addresses it gives to others.
    pub addrs: Vec<SocketAddr>,
    /// Addresses at which others said they see it.
    pub observed: Vec<SocketAddr>,
    /// Whether members from outside its network reached it without being called first; unknown until one tried.
    pub inbound: Option<bool>,
}

/// Content of `run/api.json`: how to reach the daemon. The token stands in its own file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiFile {
    /// Process id of the daemon.
    pub pid: u32,
    /// Path of the Unix socket.
    pub socket: String,
    /// `http://127.0.0.1:PORT`, unless TCP is off.
    pub url: Option<String>,
    /// Version of the daemon.
    pub version: String,
}
