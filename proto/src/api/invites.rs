//! `POST/GET/DELETE /v1/invites`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::peers::PeerRef;
use crate::id::InviteId;
use crate::time::Timestamp;

/// Shortest and longest validity of an invite, in milliseconds: a second, a year.
pub const INVITE_EXPIRES_MS: (u64, u64) = (1_000, 31_536_000_000);

/// Fewest and most peers that one invite can admit.
pub const INVITE_USES: (u32, u32) = (1, 10_000);

/// Body of `POST /v1/invites`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// Validity in milliseconds, up to a year. Default: 7 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = INVITE_EXPIRES_MS.0, max = INVITE_EXPIRES_MS.1))]
    pub expires_ms: Option<u64>,
    /// Number of peers that the invite admits. Default: 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = INVITE_USES.0, max = INVITE_USES.1))]
    pub uses: Option<u32>,
}

/// Answer of `POST /v1/invites`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewInvite {
    /// The invite.
    pub invite: Invite,
    /// The ticket: a secret that is shown once. Anyone who has it can join.
    pub ticket: String,
}

/// An invite to the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invite {
    /// Public half of its one-time key.
    pub id: InviteId,
    /// The member that wrote it.
    pub by: PeerRef,
    /// When it was written.
    pub created: Timestamp,
    /// When it stops admitting peers.
    pub expires: Timestamp,
    /// Number of peers that it admits.
    pub uses: u32,
    /// Number of peers that it has admitted.
    pub used: u32,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// Answer of `GET /v1/invites`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InviteList {
    /// Every invite to the room, newest first.
    pub invites: Vec<Invite>,
}
