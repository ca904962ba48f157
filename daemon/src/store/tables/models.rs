//! What the store gives out: message rows, stored events, pages of history.

use std::sync::OnceLock;

use bytes::Bytes;
use chat_core::log::entry::{Hlc, Incarnation, LogId, Seq};
use chat_proto::event::Event;
use chat_proto::id::{MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;

/// Text of a direct message to or from this peer that cannot be opened: its keys went with a lost database.
pub const UNREADABLE_TEXT: &str = "(a direct message that cannot be opened here)";

/// The room of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Hash of the first entry.
    pub id: RoomId,
    /// Its name; empty while nobody told it.
    pub name: String,
    /// Whether every knock is admitted.
    pub open: bool,
}

/// A message as this peer may read it. Names are not stored: they follow from the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Its id.
    pub id: MessageId,
    /// The log its entry stands in; its author is who wrote it.
    pub log: LogId,
    /// The place of its entry there.
    pub seq: Seq,
    /// When its author wrote it.
    pub time: Hlc,
    /// Recipients of a direct message; empty for the whole room.
    pub to: Vec<PeerId>,
    /// The text; [`UNREADABLE_TEXT`] where a direct message cannot be opened.
    pub text: String,
}

impl MessageRow {
    /// Its place in the order that is the same at every peer.
    pub fn position(&self) -> Position {
        let LogId { author, incarnation } = self.log;
        Position { time: self.time, author, incarnation, seq: self.seq, index: self.id.index }
    }
}

/// A place in the shared order of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// When its author wrote it.
    pub time: Hlc,
    /// The author, where times are equal.
    pub author: PeerId,
    /// The author's database.
    pub incarnation: Incarnation,
    /// The entry's place in its log.
    pub seq: Seq,
    /// The message's place in its entry.
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

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredEventKind {
    /// A message was stored.
    Message(MessageRow),
    /// Anything else.
    Other(Event),
}

impl StoredEvent {
    /// An event as it stands on disk.
    pub fn new(id: u64, at: Timestamp, kind: StoredEventKind) -> Self {
        Self { id, at, kind, encoded: OnceLock::new() }
    }

    /// The event in the form readers get it, made by the first one that asks: 100 readers of one event encode it once.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.encoded.get_or_init(|| encode(self))
    }
}

/// Events behind a cursor.
#[derive(Debug, Default)]
pub struct EventPage {
    /// The events, in order; empty when there are none behind the cursor.
    pub events: Vec<StoredEvent>,
    /// Whether events behind the cursor are no longer kept, or the cursor lies ahead of every event of this database.
    pub gap: bool,
    /// The cursor to go on from when there are no events: the given one, or the newest when it lay ahead.
    pub from: u64,
}

/// Where a page of history begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// At this message, which is not part of the page.
    Message(MessageId),
    /// At this time: what was written then is after it.
    Time(Timestamp),
}

/// Which part of the history is wanted. All filters together narrow the result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Only what stands before.
    pub before: Option<Edge>,
    /// Only what stands after.
    pub after: Option<Edge>,
    /// At most so many, 1 to [`HistoryFilter::LIMIT_MAX`]: with `after` the first so many, otherwise the last.
    pub limit: u32,
    /// Only by this author.
    pub from: Option<PeerId>,
    /// Only direct messages that this peer wrote or received.
    pub with: Option<PeerId>,
    /// Only messages with all these words.
    pub words: Option<String>,
}

impl HistoryFilter {
    /// Most messages in one page.
    pub const LIMIT_MAX: u32 = 1000;
}

/// A page of history, oldest first, in the shared order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The messages.
    pub messages: Vec<MessageRow>,
    /// Whether there are more beyond this page: before its first, or with `after`, behind its last.
    pub more: bool,
}

/// What a retry finds under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Hash of the request that was carried out.
    pub request: [u8; 32],
    /// The message it posted.
    pub message: MessageId,
}

/// Keys with which direct messages to this peer are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmKeys {
    /// Curve25519 identity key.
    pub identity: [u8; 32],
    /// Curve25519 key that opens a session while this peer is away.
    pub fallback: [u8; 32],
}
