//! `POST/GET/DELETE /v1/invites`.

use serde::{Deserialize, Serialize};

use crate::api::peers::PeerRef;
use crate::id::InviteId;
use crate::time::Timestamp;

/// Body of `POST /v1/invites`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// How long it is valid, in milliseconds: 1,000 to 31,536,000,000 (a year); 7 days where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// How many newcomers it lets in: 1 to 10,000; 1,000 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
}

/// Answer of `POST /v1/invites`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewInvite {
    /// The invite.
    pub invite: Invite,
    /// The ticket: a secret, shown once; who has it can join.
    pub ticket: String,
}

/// An invite as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Public half of its one-time key.
    pub id: InviteId,
    /// Who wrote it.
    pub by: PeerRef,
    /// When.
    pub created: Timestamp,
    /// Until when it lets in.
    pub expires: Timestamp,
    /// How many it lets in.
    pub uses: u32,
    /// How many it has let in.
    pub used: u32,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// Answer of `GET /v1/invites`, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteList {
    /// Every invite of the room.
    pub invites: Vec<Invite>,
}
