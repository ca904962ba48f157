//! What `GET /v1/events` streams.
//!
//! As SSE, an event's name is its `type`, its `id` the cursor, its `data` the JSON of [`EventEnvelope`]; as
//! `application/x-ndjson`, each line is that same JSON.

use serde::{Deserialize, Serialize};

use crate::api::messages::Message;
use crate::api::peers::{PeerRef, PeerView};
use crate::api::rendezvous::HolderChange;
use crate::cursor::Cursor;
use crate::id::{KnockId, MessageId};
use crate::time::Timestamp;

/// An event and its place in the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventEnvelope {
    /// Where a reader that has seen this event goes on.
    pub cursor: Cursor,
    /// When this daemon wrote it down.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A message is in the log of this peer: own ones, the room's, and direct ones to or from this peer.
    Message {
        /// The message.
        message: Message,
    },
    /// A member came online, went offline or is reached in another way.
    Peer {
        /// How it stands now.
        peer: PeerView,
    },
    /// Somebody was admitted, removed, renamed, given a role, or left.
    Membership {
        /// What changed.
        #[serde(flatten)]
        change: MembershipChange,
    },
    /// The rendezvous role moved.
    Rendezvous {
        /// From whom, to whom, why.
        change: HolderChange,
    },
    /// A message of this peer has reached more disks, or its recipient.
    Delivery {
        /// The message.
        message: MessageId,
        /// How many other peers hold it on disk.
        copies: u32,
        /// Recipients of a direct message that hold it.
        delivered: Vec<PeerRef>,
    },
    /// A stranger asks to be let in, or such a request has ended.
    Knock {
        /// Number for `chat admit` and `chat deny`.
        knock: KnockId,
        /// Name the stranger goes by.
        name: String,
        /// Words that both sides see; equal words mean that nobody stands between.
        words: String,
        /// `waiting`, `admitted`, `denied` or `gone`.
        state: KnockState,
    },
    /// Events before this point are no longer kept, or the cursor is of another database: read the history instead.
    Gap {
        /// Why, in a line.
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
            Self::Gap { .. } => "gap",
        }
    }
}

/// A change of who belongs to the room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembershipChange {
    /// What was done.
    pub action: MembershipAction,
    /// To whom.
    pub peer: PeerRef,
    /// By whom; the peer itself when it left or renamed itself.
    pub by: PeerRef,
}

/// What was done to a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipAction {
    /// Founded the room.
    Founded,
    /// Was let in.
    Admitted,
    /// Was removed.
    Removed,
    /// Goes by another name.
    Renamed,
    /// Has another role.
    Role,
    /// Left by itself.
    Left,
}

/// How a stranger's request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnockState {
    /// Waits for `chat admit` or `chat deny`.
    Waiting,
    /// Was let in.
    Admitted,
    /// Was refused.
    Denied,
    /// Gave up or timed out.
    Gone,
}
