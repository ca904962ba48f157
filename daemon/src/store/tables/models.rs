//! Types of what the store holds: rooms, messages, events, pages of history, keys.

use std::sync::OnceLock;

use bytes::Bytes;
use chat_core::log::entry::{Hlc, Incarnation, LogId, Seq};
use chat_core::membership::roster::Sealing;
use chat_proto::event::Event;
use chat_proto::id::{MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;

/// Text of a direct message to or from this peer that cannot be decrypted: its keys were lost with a database.
pub const UNREADABLE_TEXT: &str = "(a direct message that cannot be opened here)";

/// Text of a message whose text is no longer kept.
pub const DROPPED_TEXT: &str = "(text no longer kept)";

/// The room of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRecord {
    /// Hash of the genesis entry.
    pub id: RoomId,
    /// Its name; empty if it is not known.
    pub name: String,
    /// Whether every knock is admitted.
    pub open: bool,
}

/// A message as this peer may read it. Names are not stored: the roster gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Its id.
    pub id: MessageId,
    /// The log of its entry, whose author wrote the message.
    pub log: LogId,
    /// Sequence number of its entry in that log.
    pub seq: Seq,
    /// The time by which it is ordered.
    pub order: Hlc,
    /// When its author wrote it, by the author's clock.
    pub time: Hlc,
    /// How far that clock was ahead of this peer's when the message arrived, in milliseconds, if that is noticeable.
    pub clock_off_ms: Option<i64>,
    /// Recipients of a direct message; empty for the whole room.
    pub to: Vec<PeerId>,
    /// The text; [`UNREADABLE_TEXT`] if a direct message cannot be decrypted, [`DROPPED_TEXT`] if it is no longer kept.
    pub text: String,
    /// Whether the text is no longer kept.
    pub dropped: bool,
    /// The message that it answers.
    pub reply_to: Option<Box<RepliedMessage>>,
    /// Number of its event; 0 if there is none.
    pub event: u64,
}

/// A message that another one answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepliedMessage {
    /// Its id, as the author of the answer gave it.
    pub id: MessageId,
    /// Its author and the start of its text, if it is shown here.
    pub start: Option<(PeerId, String)>,
}

impl MessageRow {
    /// Its position in the history.
    pub fn position(&self) -> MessagePosition {
        let LogId { author, incarnation } = self.log;
        MessagePosition { order: self.order, time: self.time, author, incarnation, seq: self.seq, index: self.id.index }
    }
}

/// A position in the history, in the order that is the same at every peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessagePosition {
    /// The time by which it is ordered.
    pub order: Hlc,
    /// When its author wrote it.
    pub time: Hlc,
    /// The author, which decides between equal times.
    pub author: PeerId,
    /// The author's database.
    pub incarnation: Incarnation,
    /// Sequence number of the entry.
    pub seq: Seq,
    /// Index of the message in its entry.
    pub index: u16,
}

/// An event that is on disk.
#[derive(Debug)]
pub struct StoredEvent {
    /// Its number in this database, from 1.
    pub id: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What happened.
    pub kind: StoredEventKind,
    encoded: OnceLock<Bytes>,
}

/// Content of a stored event.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredEventKind {
    /// A message was stored.
    Message(MessageRow),
    /// Anything else.
    Other(Event),
}

impl StoredEvent {
    /// An event as it is on disk.
    pub fn new(id: u64, at: Timestamp, kind: StoredEventKind) -> Self {
        Self { id, at, kind, encoded: OnceLock::new() }
    }

    /// The event as it is sent to readers, encoded by the first one that asks, so that many readers of an event encode
    /// it once.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.encoded.get_or_init(|| encode(self))
    }
}

/// Events after a cursor.
#[derive(Debug, Default)]
pub struct EventPage {
    /// The events, in order; empty if there are none after the cursor.
    pub events: Vec<StoredEvent>,
    /// Whether events after the cursor are no longer kept, or the cursor is ahead of every event of this database.
    pub gap: bool,
    /// The cursor to continue from if there are no events: the given one, or the newest if that was ahead.
    pub from: u64,
}

/// Where a page of history starts or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// This message, which is not part of the page.
    Message(MessageId),
    /// This time; messages dated with it are after the edge.
    Time(Timestamp),
}

/// Selects a part of the history. A message must match all filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Only messages before this edge.
    pub before: Option<Edge>,
    /// Only messages after this edge.
    pub after: Option<Edge>,
    /// Maximum number of messages, 1 to [`HistoryFilter::LIMIT_MAX`]: the first ones with `after`, otherwise the last
    /// ones.
    pub limit: u32,
    /// Only messages of this author.
    pub from: Option<PeerId>,
    /// Only direct messages that this peer wrote or received.
    pub with: Option<PeerId>,
    /// Only messages with all these words.
    pub words: Option<String>,
}

impl HistoryFilter {
    /// Maximum number of messages in one page.
    pub const LIMIT_MAX: u32 = 1000;
}

/// A page of history, oldest message first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The messages.
    pub messages: Vec<MessageRow>,
    /// Whether there are more messages before the page, or with `after`, after it.
    pub more: bool,
}

/// The idempotency key of a request, stored in the same transaction as the message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Idempotency {
    /// Chosen by the client; 1 to 255 printable ASCII characters.
    pub key: String,
    /// BLAKE3 hash of the request: the same key with another request is refused.
    pub request: [u8; 32],
}

/// The message that is stored under an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Hash of the request that was carried out.
    pub request: [u8; 32],
    /// The message it posted.
    pub message: MessageId,
}

/// Public keys with which peers seal direct messages to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmKeys {
    /// Curve25519 identity key.
    pub identity: [u8; 32],
    /// Curve25519 key that opens a session while the peer is offline.
    pub fallback: [u8; 32],
    /// How messages to the peer are sealed.
    pub sealing: Sealing,
}
