//! `POST /v1/messages`, `GET /v1/messages`, `GET /v1/messages/{id}`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::peers::PeerRef;
use crate::cursor::Cursor;
use crate::error::Problem;
use crate::id::MessageId;
use crate::time::Timestamp;
use crate::{RECIPIENTS_MAX, TEXT_BYTES_MAX};

/// Shortest and longest wait of a send, in milliseconds: none, an hour.
pub const SEND_TIMEOUT_MS: (u64, u64) = (0, 3_600_000);

/// Fewest and most copies that a send can wait for.
pub const SEND_COPIES: (u32, u32) = (1, 10_000);

/// Highest number that the first of several lines can be given.
pub const SEND_LINE_MAX: u32 = u32::MAX;

/// Maximum number of characters in a quote.
pub const QUOTE_CHARS_MAX: usize = 200;

/// Body of `POST /v1/messages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// The text, not blank. The maximum length counts bytes of UTF-8.
    #[schemars(length(min = 1, max = TEXT_BYTES_MAX))]
    pub text: String,
    /// Recipients of a direct message: names (`bob`, `@bob`), `name~tag`, tags or keys. Empty: the whole room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = RECIPIENTS_MAX))]
    pub to: Vec<String>,
    /// The message that this one answers. It must be readable here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
    /// What to wait for before the answer.
    #[serde(default)]
    pub wait: Wait,
    /// Number of other peers that must hold the message; only with `"wait": "replicated"`. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = SEND_COPIES.0, max = SEND_COPIES.1))]
    pub copies: Option<u32>,
    /// Longest wait in milliseconds, up to an hour. Default: 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = SEND_TIMEOUT_MS.0, max = SEND_TIMEOUT_MS.1))]
    pub timeout_ms: Option<u64>,
}

/// What a send waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// The message is on this machine's disk, flushed.
    #[default]
    Stored,
    /// The message is on the disks of `copies` other peers.
    Replicated,
    /// The message is on the disks of all recipients; if it has none, of all members that are online.
    Delivered,
}

/// A message and where it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SentMessage {
    /// The message.
    pub message: Message,
    /// Where it is stored.
    pub state: MessageState,
}

/// The answer to one message of a stream: `POST /v1/messages` with `Content-Type: application/x-ndjson`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SentLine {
    /// Number of the line in the request, from 1 or the `line` of the request.
    pub line: u64,
    /// The status that a request with this message alone would have: 201, 202, 200, or that of the problem.
    pub status: u16,
    /// Id of the message, if it was posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// Where it is stored, if it was posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<MessageState>,
    /// Why it was not posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Where a message is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageState {
    /// Whether it is on this machine's disk, flushed.
    pub stored: bool,
    /// Number of other peers that are known to hold it on disk.
    pub copies: u32,
    /// Those peers.
    pub held_by: Vec<PeerRef>,
    /// Whether the condition that the request waited for is met.
    pub complete: bool,
}

/// A message of the room, or a direct message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Its id, the same at every peer.
    pub id: MessageId,
    /// The author's clock when it was written. Only a label: messages are ordered by what their authors had seen.
    pub time: Timestamp,
    /// The author.
    pub from: PeerRef,
    /// Recipients of a direct message; absent if it is for the whole room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<PeerRef>,
    /// The message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
    /// The start of the message that it answers; absent if that is not shown here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Quote>,
    /// The text; where it is no longer kept, words that say so.
    pub text: String,
    /// Whether the text is no longer kept here: the message is old, and this daemon or the members it learned of it from keep
    /// texts for some days only. Where no text ever came, one such message stands for all that were written at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
    /// How far the author's clock was ahead of this peer's when the message arrived, in milliseconds, negative if behind;
    /// of an own message, how far this peer's clock was ahead of its neighbours'. Absent below 10 seconds and where it is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_off_ms: Option<i64>,
}

/// The start of a message that another one answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quote {
    /// Its author.
    pub from: PeerRef,
    /// The first characters of its text, at most 200.
    pub text: String,
}

/// Query of `GET /v1/messages`. A message must match all of its filters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// Only messages before this one in the shared order: a message id or a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Only messages after this one in the shared order: a message id or a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Maximum number of messages, 1 to 1,000. Default: 100. With `after`, the first ones; otherwise the last ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only messages of this author: name, tag or key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Only direct messages exchanged with this member: name, tag or key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// Only messages that contain these words (full text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
}

/// A page of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessagePage {
    /// The messages, oldest first, in the order that is the same at every peer.
    pub messages: Vec<Message>,
    /// One for each message: resumes the event stream of this peer behind it. Daemons of version 0.1 give none.
    #[serde(default)]
    pub cursors: Vec<Cursor>,
    /// Whether there are more messages before the first one, or with `after`, behind the last one.
    pub more: bool,
}

impl MessagePage {
    /// The messages with their cursors, as far as the daemon gives these.
    pub fn with_cursors(self) -> impl Iterator<Item = (Message, Option<Cursor>)> {
        let cursors = self.cursors.into_iter().map(Some).chain(std::iter::repeat(None));
        self.messages.into_iter().zip(cursors)
    }
}
