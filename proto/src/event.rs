//! Events of `GET /v1/events`.
//!
//! As SSE, the event name is the `type`, the `id` is the cursor and the `data` is the JSON of [`EventEnvelope`]. As
//! `application/x-ndjson`, each line is the same JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::messages::Message;
use crate::api::peers::{PeerRef, PeerView};
use crate::api::rendezvous::HolderChange;
use crate::cursor::Cursor;
use crate::id::{KnockId, MessageId};
use crate::time::Timestamp;

/// An event and its position in the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventEnvelope {
    /// Cursor behind this event: a reader that has seen it resumes here.
    pub cursor: Cursor,
    /// When this daemon recorded it.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A message was stored: one of the room, or a direct message to or from this peer. Own messages are included.
    Message {
        /// The message.
        message: Message,
    },
    /// A member came online, went offline, or the path to it changed.
    Peer {
        /// Its new state.
        peer: PeerView,
    },
    /// A member was admitted, removed, renamed or given a role, or it left or has new keys.
    Membership {
        /// What changed.
        #[serde(flatten)]
        change: MembershipChange,
    },
    /// The rendezvous role moved to another holder.
    Rendezvous {
        /// The change.
        change: HolderChange,
    },
    /// More peers store a message of this peer.
    Delivery {
        /// The message.
        message: MessageId,
        /// Number of other peers that hold it on disk.
        copies: u32,
        /// Recipients of a direct message that hold it.
        delivered: Vec<PeerRef>,
    },
    /// A peer asks to be admitted, or such a request has ended.
    Knock {
        /// Number to admit or deny it by.
        knock: KnockId,
        /// The name that the peer asks for.
        name: String,
        /// Words that both sides see; equal words mean that no one intercepts the connection.
        words: String,
        /// State of the request.
        state: KnockState,
    },
    /// A member's log was continued twice from one message on, as happens when its home goes back to an older copy. The
    /// messages of both continuations are kept and shown; the member goes on in a new log.
    Fork {
        /// The member whose log it is.
        peer: PeerRef,
    },
    /// Events before this one are missing: they are no longer kept, or the cursor belongs to another database. The
    /// history still has the messages.
    Gap {
        /// Why events are missing, in one line.
        reason: String,
    },
}

impl Event {
    /// The event's name: its SSE event field and its JSON `type`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Message { .. } => "message",
            Self::Peer { .. } => "peer",
            Self::Membership { .. } => "membership",
            Self::Rendezvous { .. } => "rendezvous",
            Self::Delivery { .. } => "delivery",
            Self::Knock { .. } => "knock",
            Self::Fork { .. } => "fork",
            Self::Gap { .. } => "gap",
        }
    }
}

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MembershipChange {
    /// The kind of change.
    pub action: MembershipAction,
    /// The member that it concerns.
    pub peer: PeerRef,
    /// The member that made it; the same member if it left or renamed itself.
    pub by: PeerRef,
    /// The name that the member had before, where it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

/// Kind of a membership change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MembershipAction {
    /// Founded the room.
    Founded,
    /// Was admitted.
    Admitted,
    /// Was removed.
    Removed,
    /// Has a new name.
    Renamed,
    /// Has a new role.
    Role,
    /// Left the room.
    Left,
    /// Has new keys for direct messages, as when its database was lost or replaced.
    Keys,
}

/// State of a request to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KnockState {
    /// Waits for `chat admit` or `chat deny`.
    Waiting,
    /// Was admitted.
    Admitted,
    /// Was denied.
    Denied,
    /// Gave up or timed out.
    Gone,
}
