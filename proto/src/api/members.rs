//! Membership: `POST /v1/join`, `/v1/knocks`, `/v1/members/{id}/remove`, `PUT /v1/members/{id}/role`, `PUT /v1/name`,
//! `/v1/leave`, `/v1/rooms`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NAME_CHARS_MAX;
use crate::api::peers::MemberRole;
use crate::api::status::RoomRef;
use crate::id::{KnockId, PeerId, PeerTag};
use crate::time::Timestamp;

/// Body of `POST /v1/join`: moves a running daemon that is alone in its room to another room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// A ticket, or `HOST[:PORT]` of a member.
    pub target: String,
    /// Name of this peer in the new room. Default: its current name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    pub name: Option<String>,
}

/// Answer of `POST /v1/join`: this peer was admitted and fetches the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Joined {
    /// The room that was joined.
    pub room: RoomRef,
}

/// Answer of `GET /v1/knocks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KnockList {
    /// Peers that ask to be admitted, oldest first.
    pub knocks: Vec<Knock>,
}

/// A peer that asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Knock {
    /// Number to admit or deny it by.
    pub id: KnockId,
    /// The peer's key.
    pub peer: PeerId,
    /// Short form of its key.
    pub tag: PeerTag,
    /// The name it asks for.
    pub name: String,
    /// Words that both sides see; equal words mean that no one intercepts the connection.
    pub words: String,
    /// When it knocked.
    pub since: Timestamp,
    /// Whether it was removed from the room: only an admin can admit it.
    #[serde(default)]
    pub removed: bool,
}

/// Body of `POST /v1/knocks/{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnockAnswer {
    /// Whether to admit the peer.
    pub admit: bool,
}

/// Body of `PUT /v1/name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameRequest {
    /// The new name: letters, digits, `-`, `_` and `.`.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    pub name: String,
}

/// Body of `PUT /v1/members/{id}/role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRoleRequest {
    /// The member's new role.
    pub role: MemberRole,
}

/// Answer of `GET /v1/rooms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomList {
    /// Rooms found on the local network, by name.
    pub rooms: Vec<NearbyRoom>,
}

/// A room found on the local network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NearbyRoom {
    /// The room.
    pub room: RoomRef,
    /// The member that announced it.
    pub peer: PeerId,
    /// Addresses of that member, IP and port, for `chat join` and `chatd start --join`.
    pub addrs: Vec<SocketAddr>,
}
