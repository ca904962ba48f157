//! `GET /v1/peers`: every member of the room and its connection.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{PeerId, PeerTag};
use crate::time::Timestamp;

/// A peer: its key and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PeerRef {
    /// Its key.
    pub id: PeerId,
    /// Its name; with `~tag` appended if an earlier member has the same or a confusable name.
    pub name: String,
    /// Short form of its key.
    pub tag: PeerTag,
}

/// Answer of `GET /v1/peers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerList {
    /// Every member: this peer first, then by name.
    pub peers: Vec<PeerView>,
    /// Connections between other members, as those report them that are connected to this peer: each once, at most 512.
    #[serde(default)]
    pub links: Vec<MemberLink>,
}

/// A connection between two other members.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberLink {
    /// The end that reported it.
    pub from: PeerId,
    /// The other end.
    pub to: PeerId,
    /// Whether it takes no relay.
    pub direct: bool,
    /// Round-trip time in milliseconds.
    pub rtt_ms: f64,
}

/// A member and how it is connected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerView {
    /// The member.
    #[serde(flatten)]
    pub peer: PeerRef,
    /// Whether it is this daemon's own peer.
    pub me: bool,
    /// Whether it is connected to this peer, or to a member that is.
    pub online: bool,
    /// Path of the connection to it.
    pub path: PathView,
    /// Round-trip time to it in milliseconds; null if it is not connected.
    pub rtt_ms: Option<f64>,
    /// When it was last online: now, if it is online.
    pub last_seen: Option<Timestamp>,
    /// Its part in the rendezvous.
    pub role: RoleView,
    /// Its rank by connectivity, from 1; null if the holder has not published one.
    pub rank: Option<u32>,
    /// Its role in the room.
    pub member: MemberRole,
    /// How far its clock is ahead of this machine's, in milliseconds, negative if behind; absent if it is not
    /// connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_off_ms: Option<i64>,
    /// The member that let it in: whose ticket it showed, or who answered its knock. Absent for the founder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_in_by: Option<PeerRef>,
    /// Words that this peer and the member both see: where they are equal, neither talks to an impostor. Absent for this peer
    /// itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safety_words: Option<String>,
    /// What its entries cost this daemon, of its budget for a day; absent if it has written nothing since the daemon started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<BudgetView>,
}

/// What a member's entries have cost this daemon since it started: what is used is given back evenly over a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetView {
    /// Bytes of its entries.
    pub bytes: u64,
    /// Its entries, each of which carries one or more messages.
    pub entries: u64,
    /// Admissions, removals, renames and the like.
    pub control_entries: u64,
    /// Admissions of others.
    pub admissions: u64,
    /// Times at which its log went on in two ways.
    pub forks: u64,
    /// Logs that it began.
    pub logs: u64,
    /// Whether it has used more than its budget: further entries of it are taken slowly, as the budget is given back.
    pub over: bool,
    /// Whether entries of it are known that are still to be fetched, because it writes faster than this daemon takes it.
    pub behind: bool,
}

/// Path of the connection to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathView {
    /// This peer itself, or connected to its address.
    Direct,
    /// Connected through the relay of another member.
    Relayed,
    /// Not connected; messages travel through other members.
    None,
}

/// A peer's part in the rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleView {
    /// Holds the rendezvous role.
    Holder,
    /// Is on the succession list.
    Standby,
    /// Neither of the two.
    Member,
}

/// A member's role in the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Writes, invites and admits; removes members and grants roles.
    Admin,
    /// Writes, invites and admits.
    Member,
}
