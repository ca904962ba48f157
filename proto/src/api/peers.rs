//! `GET /v1/peers`: every member of the room and how it is reached.

use serde::{Deserialize, Serialize};

use crate::id::{PeerId, PeerTag};
use crate::time::Timestamp;

/// A peer as others name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerRef {
    /// Its key.
    pub id: PeerId,
    /// Its name; with `~tag` behind it where an earlier member holds the same or a confusable name.
    pub name: String,
    /// Short form of its key.
    pub tag: PeerTag,
}

/// Answer of `GET /v1/peers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerList {
    /// Every member, this peer first, then by name.
    pub peers: Vec<PeerView>,
}

/// A member and how this daemon reaches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// Who.
    #[serde(flatten)]
    pub peer: PeerRef,
    /// Whether it is this daemon's own peer.
    pub me: bool,
    /// Whether it is connected to this peer or to a member that is.
    pub online: bool,
    /// How this daemon reaches it.
    pub path: PathView,
    /// Round-trip time to it in milliseconds, where it is connected.
    pub rtt_ms: Option<f64>,
    /// When it was last heard of: now, while it is online.
    pub last_seen: Option<Timestamp>,
    /// Its part in the rendezvous.
    pub role: RoleView,
    /// Its place in the ranking by connectivity, from 1, where the holder has published one.
    pub rank: Option<u32>,
    /// What it may do in the room.
    pub member: MemberRole,
}

/// How a member is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathView {
    /// This peer itself, or over a connection of our own to its address.
    Direct,
    /// Over the relay of another member.
    Relayed,
    /// Not connected; messages travel through other members.
    None,
}

/// A peer's part in the rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleView {
    /// Holds the role.
    Holder,
    /// Is on the succession list.
    Standby,
    /// Neither.
    Member,
}

/// What a member may do in the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Talks, invites, admits; removes others and grants roles.
    Admin,
    /// Talks, invites, admits.
    Member,
}
