//! Getting in and out: `POST /v1/join`, `/v1/knocks`, `/v1/members/{id}/remove`,
//! `PUT /v1/members/{id}/role`, `PUT /v1/name`, `/v1/leave`, `/v1/rooms`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::api::peers::MemberRole;
use crate::api::status::RoomRef;
use crate::id::{KnockId, PeerId, PeerTag};
use crate::time::Timestamp;

/// Body of `POST /v1/join`: a running daemon that is alone in its room moves to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// A ticket, or `HOST[:PORT]` of a member.
    pub target: String,
    /// Name to be known by; the current one where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Answer of `POST /v1/join`: this daemon is let in, and fetches the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The room that was joined.
    pub room: RoomRef,
}

/// Answer of `GET /v1/knocks`, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnockList {
    /// Strangers that wait to be let in.
    pub knocks: Vec<Knock>,
}

/// A stranger that waits to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// Number for `chat admit` and `chat deny`.
    pub id: KnockId,
    /// The stranger's key.
    pub peer: PeerId,
    /// Short form of its key.
    pub tag: PeerTag,
    /// Name it goes by.
    pub name: String,
    /// Words that both sides see.
    pub words: String,
    /// When it knocked.
    pub since: Timestamp,
}

/// Body of `POST /v1/knocks/{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnockAnswer {
    /// Whether to let it in.
    pub admit: bool,
}

/// Body of `PUT /v1/name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameRequest {
    /// The new name: 1 to 32 letters, digits, `-`, `_`, `.`.
    pub name: String,
}

/// Body of `PUT /v1/members/{id}/role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// What the member may do from now on.
    pub role: MemberRole,
}

/// Answer of `GET /v1/rooms`: rooms seen on the local network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomList {
    /// The rooms, by name.
    pub rooms: Vec<NearbyRoom>,
}

/// A room seen on the local network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearbyRoom {
    /// The room.
    pub room: RoomRef,
    /// The member that was seen.
    pub peer: PeerId,
    /// Where `chat join` and `chatd start --join` reach it.
    pub addrs: Vec<SocketAddr>,
}
