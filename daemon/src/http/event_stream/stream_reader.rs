//! One reader of the event stream: batches events, reports gaps, and sends keep-alives.
//!
//! The reader pulls from a store [`Follower`], which reads stored events first and live ones after them. It is pulled by
//! the socket in turn: a client that does not read holds one page of events and nothing that grows. Events that arrive
//! together leave in one chunk; a single event leaves as the bytes that all readers share.
//!
//! Invariant: [`StreamReader::told`] is the last cursor that the client has received. A client that is cut off anywhere
//! resumes from it without missing an event or reading one twice. That is why events that the filter drops still move the
//! cursor, which the next keep-alive reports. A reader ends when the API shuts down, the caller's token
//! becomes void or the daemon leaves the room.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chat_proto::cursor::Cursor;
use chat_proto::event::{Event, EventEnvelope};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::clock::wall_clock;
use crate::http::api_state::RoomHandle;
use crate::http::auth::CallerConnection;
use crate::http::event_stream::encode::{StreamFormat, block, envelope_block};
use crate::http::event_stream::event_filter::EventFilter;
use crate::http::event_stream::start_point::{CursorOrigin, StreamStart};
use crate::store::read::follow::{Followed, Follower};

/// Idle time after which a keep-alive is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Size at which a chunk of events is sent, in bytes: a few system calls for many events.
const CHUNK_BYTES: usize = 32 * 1024;

/// Maximum number of events read before other tasks get a turn, in case a filter drops all of them.
const TURN_EVENTS: usize = 1024;

/// Reads events from a start point on.
pub(super) struct StreamReader {
    room: Arc<RoomHandle>,
    follower: Follower,
    filter: EventFilter,
    format: StreamFormat,
    origin: CursorOrigin,
    /// The last cursor that the client has received.
    told: Cursor,
    /// Sent before any event.
    first: Option<Bytes>,
    /// Cancelled when the API shuts down.
    ending: CancellationToken,
    /// Cancelled when the caller's token becomes void.
    revoked: CancellationToken,
    /// Cancelled when the daemon leaves the room.
    closed: CancellationToken,
    keep_alive: Duration,
    _place: OwnedSemaphorePermit,
}

impl StreamReader {
    /// A reader that starts at `opening`.
    pub(super) fn new(
        room: Arc<RoomHandle>,
        opening: StreamStart,
        filter: EventFilter,
        format: StreamFormat,
        connection: &CallerConnection,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let mut reader = Self {
            follower: room.store.follow(opening.position),
            filter,
            format,
            origin: opening.from,
            told: opening.told,
            first: format.opening(opening.told),
            ending: connection.ending.clone(),
            revoked: connection.revoked.clone(),
            closed: room.closed(),
            keep_alive: KEEP_ALIVE,
            room,
            _place: place,
        };
        if opening.from == CursorOrigin::Elsewhere {
            let gap =
                reader.gap("the cursor belongs to another database: this daemon's home was replaced or rolled back");
            reader.first = Some([reader.first.take().unwrap_or_default(), gap].concat().into());
        }
        reader
    }

    /// The next bytes; none when the stream ends. Waits until there is something to send.
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
                () = self.revoked.cancelled() => return None,
                () = self.closed.cancelled() => return None,
                followed = self.follower.next() => followed,
                () = &mut silence => return Some(self.keep_alive_chunk()),
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

    /// The events that are ready, in one chunk.
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

    /// An event as bytes; empty if the filter drops it.
    fn piece(&mut self, followed: Followed) -> Bytes {
        match followed {
            Followed::Event(event) if self.filter.wants(&event.kind) => {
                self.told = self.cursor();
                let room = &self.room;
                self.format.cut(event.encoded(|event| block(event, room.store.cursor(event.id), &room.node.roster())))
            }
            Followed::Event(_) => Bytes::new(),
            Followed::Gap if self.origin == CursorOrigin::Beginning && self.cursor() == self.told => Bytes::new(),
            Followed::Gap => self.gap("older events are no longer kept"),
        }
    }

    /// A gap event: the client resumes behind it and finds the missing messages in the history.
    fn gap(&mut self, reason: &str) -> Bytes {
        self.told = self.cursor();
        let event = Event::Gap { reason: reason.into() };
        self.format.cut(&envelope_block(&EventEnvelope { cursor: self.told, at: wall_clock(), event }))
    }

    fn keep_alive_chunk(&mut self) -> Bytes {
        let now = self.cursor();
        let told = std::mem::replace(&mut self.told, now);
        self.format.keep_alive(now, told)
    }

    fn cursor(&self) -> Cursor {
        self.room.store.cursor(self.follower.cursor())
    }
}

#[cfg(test)]
mod tests;
