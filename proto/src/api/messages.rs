//! `POST /v1/messages`, `GET /v1/messages`, `GET /v1/messages/{id}`.

use serde::{Deserialize, Serialize};

use crate::api::peers::PeerRef;
use crate::id::MessageId;
use crate::time::Timestamp;

/// Body of `POST /v1/messages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// What to say: 1 byte to [`crate::TEXT_BYTES_MAX`] bytes, not blank.
    pub text: String,
    /// Recipients of a direct message: names (`bob`, `@bob`), `name~tag`, tags or keys. Empty: the whole room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// What to wait for before the answer; `stored` where nothing is said.
    #[serde(default)]
    pub wait: Wait,
    /// With `wait: replicated`: how many other peers shall hold it, 1 or more; 1 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<u32>,
    /// Longest wait in milliseconds, up to 3,600,000; 10,000 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What a send waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// On this machine's disk, flushed.
    #[default]
    Stored,
    /// On the disks of `copies` other peers.
    Replicated,
    /// On the disks of all recipients of a direct message; of a message to the room, of all members that are online.
    Delivered,
}

/// Answer of `POST /v1/messages` (201; 202 when the wait ran out) and of `GET /v1/messages/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentMessage {
    /// The message.
    pub message: Message,
    /// How far it has come.
    pub state: MessageState,
}

/// How far a message has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageState {
    /// On this machine's disk, flushed.
    pub stored: bool,
    /// How many other peers are known to hold it on disk.
    pub copies: u32,
    /// Those peers.
    pub held_by: Vec<PeerRef>,
    /// Whether what the request waited for has come.
    pub complete: bool,
}

/// What a person wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id, the same at every peer.
    pub id: MessageId,
    /// The author's clock when it was written (the physical part of its hybrid logical clock).
    pub time: Timestamp,
    /// The author.
    pub from: PeerRef,
    /// Recipients of a direct message; empty for the whole room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<PeerRef>,
    /// The text.
    pub text: String,
}

/// Query of `GET /v1/messages`. All filters together narrow the result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// Only what stands before this message in the shared order: a message id or a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Only what stands after this message in the shared order: a message id or a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 1,000; 100 where nothing is said. With `after`, the first so many; otherwise the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only by this author: name, tag or key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Only direct messages exchanged with this member: name, tag or key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// Only messages with these words (full text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
}

/// Answer of `GET /v1/messages`: oldest first, in the shared order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether there are more beyond this page: before its first, or with `after`, behind its last.
    pub more: bool,
}
