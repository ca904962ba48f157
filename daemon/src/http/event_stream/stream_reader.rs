//! One reader of the event stream: what came together leaves together, and silence is broken by signs of life.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chat_proto::cursor::Cursor;
use chat_proto::event::{Event, EventEnvelope};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::http::api_state::RoomHandle;
use crate::http::event_stream::encode::{StreamFormat, block, envelope_block};
use crate::http::event_stream::event_filter::EventFilter;
use crate::http::event_stream::start_point::{CursorOrigin, StreamStart};
use crate::http::handlers::invites::now;
use crate::store::read::follow::{Followed, Follower};

/// Time without a byte after which a sign of life is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events are put together until they have about so many bytes: a few system calls for many events.
const CHUNK_BYTES: usize = 32 * 1024;

/// Most events that are looked at before other tasks get a turn, should a filter pass over all of them.
const TURN_EVENTS: usize = 1024;

/// Reads events from one place on.
pub(super) struct StreamReader {
    room: Arc<RoomHandle>,
    follower: Follower,
    filter: EventFilter,
    format: StreamFormat,
    database: u32,
    origin: CursorOrigin,
    /// The last place the reader was told.
    told: Cursor,
    /// What is sent before any event.
    first: Option<Bytes>,
    /// The API ends.
    ending: CancellationToken,
    /// The daemon has left the room.
    closed: CancellationToken,
    keep_alive: Duration,
    _place: OwnedSemaphorePermit,
}

impl StreamReader {
    /// A reader that begins there.
    pub(super) fn new(
        room: Arc<RoomHandle>,
        opening: StreamStart,
        filter: EventFilter,
        format: StreamFormat,
        ending: CancellationToken,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let database = room.store.database();
        let mut reader = Self {
            follower: room.store.follow(opening.position),
            filter,
            format,
            database,
            origin: opening.from,
            told: opening.told,
            first: format.opening(opening.told),
            ending,
            closed: room.closed(),
            keep_alive: KEEP_ALIVE,
            room,
            _place: place,
        };
        if opening.from == CursorOrigin::Elsewhere {
            let gap = reader.gap("the cursor is of another database: this daemon's home was replaced");
            reader.first = Some([reader.first.take().unwrap_or_default(), gap].concat().into());
        }
        reader
    }

    /// The next bytes; nothing when the stream ends. Waits until there is something to send.
    pub(super) async fn next_chunk(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let silence = tokio::time::sleep(self.keep_alive);
        tokio::pin!(silence);
        loop {
            let followed = tokio::select! {
                biased;
                () = self.ending.cancelled() => return None,
                () = self.closed.cancelled() => return None,
                followed = self.follower.next() => followed,
                () = &mut silence => return Some(self.sign_of_life()),
            };
            match followed {
                Ok(followed) => {
                    let chunk = self.collect(followed);
                    if !chunk.is_empty() {
                        return Some(chunk);
                    }
                    tokio::task::consume_budget().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "an event stream ends");
                    return None;
                }
            }
        }
    }

    /// What is at hand, in one piece.
    fn collect(&mut self, first: Followed) -> Bytes {
        // One event alone leaves as the bytes that all readers share; several are copied together.
        let mut one = self.piece(first);
        let mut several = BytesMut::new();
        for _ in 0..TURN_EVENTS {
            if several.len() >= CHUNK_BYTES {
                break;
            }
            let Some(followed) = self.follower.ready() else { break };
            let piece = self.piece(followed);
            if one.is_empty() {
                one = piece;
            } else if !piece.is_empty() {
                if several.is_empty() {
                    several.extend_from_slice(&one);
                }
                several.extend_from_slice(&piece);
            }
        }
        if several.is_empty() { one } else { several.freeze() }
    }

    /// An event as this reader gets it; nothing if it does not want it.
    fn piece(&mut self, followed: Followed) -> Bytes {
        match followed {
            Followed::Event(event) if self.filter.wants(&event.kind) => {
                self.told = self.cursor();
                let (database, node) = (self.database, &self.room.node);
                self.format.cut(event.encoded(|event| block(event, database, &node.roster())))
            }
            Followed::Event(_) => Bytes::new(),
            Followed::Gap if self.origin == CursorOrigin::Beginning && self.cursor() == self.told => Bytes::new(),
            Followed::Gap if self.cursor() < self.told => {
                self.gap("the cursor is newer than every event here: this daemon's home is an older copy")
            }
            Followed::Gap => self.gap("events in between are no longer kept"),
        }
    }

    /// Tells that something is missing: the reader goes on behind it and finds the rest in the history.
    fn gap(&mut self, reason: &str) -> Bytes {
        self.told = self.cursor();
        let event = Event::Gap { reason: reason.into() };
        self.format.cut(&envelope_block(&EventEnvelope { cursor: self.told, at: now(), event }))
    }

    fn sign_of_life(&mut self) -> Bytes {
        let now = self.cursor();
        let told = std::mem::replace(&mut self.told, now);
        self.format.keep_alive(now, told)
    }

    fn cursor(&self) -> Cursor {
        Cursor { database: self.database, event: self.follower.cursor() }
    }
}

#[cfg(test)]
mod tests;
