//! Follows the events from a cursor on: first stored ones, then live ones, each exactly once.
//!
//! A [`Follower`] subscribes to live events before it reads the first page from disk, so an event that is written in
//! between may arrive twice; numbers that are not greater than the last one given out are skipped. When the disk has no
//! more events, the follower switches to the live channel; when it lags behind that channel, it reads from disk again.
//!
//! Invariants: numbers given out only grow; one [`Followed::Gap`] is given out for a gap, before the first event after
//! it; a follower that is not polled holds at most one page of events and blocks nothing.
//!
//! Called by the event streams of the HTTP API, one follower per client.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::store::context::StoreContext;
use crate::store::error::{Closed, ReadError};
use crate::store::tables::events;
use crate::store::tables::models::StoredEvent;

/// Number of events read from disk at a time; bounds the memory of a slow reader.
const PAGE_EVENTS: u32 = 256;

/// Next item of a follower.
#[derive(Clone, Debug)]
pub enum Followed {
    /// The next event.
    Event(Arc<StoredEvent>),
    /// Events between the last one and the next are no longer kept, or the cursor was ahead of every event.
    Gap,
}

/// Reads the events after a cursor, then new ones without end.
#[derive(Debug)]
pub struct Follower {
    context: Arc<StoreContext>,
    /// The last event that was given out.
    last: u64,
    page: VecDeque<StoredEvent>,
    live: broadcast::Receiver<Arc<StoredEvent>>,
    source: EventSource,
    /// Whether the gap of the pages being read was given out: all of them are before its end.
    gap_reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventSource {
    Disk,
    Live,
}

impl Follower {
    /// `live` must have been subscribed before this call: an event written in between arrives twice and is given out
    /// once.
    pub(in crate::store) fn new(
        context: Arc<StoreContext>,
        live: broadcast::Receiver<Arc<StoredEvent>>,
        cursor: u64,
    ) -> Self {
        Self { context, last: cursor, page: VecDeque::new(), live, source: EventSource::Disk, gap_reported: false }
    }

    /// The last event that was given out, from which another follower would continue.
    pub fn cursor(&self) -> u64 {
        self.last
    }

    /// The next event if it is in memory: already read from disk, or live. Neither waits nor reads from disk, so that
    /// events that arrived together can be sent together.
    pub fn ready(&mut self) -> Option<Followed> {
        if let Some(event) = self.page.pop_front() {
            self.last = event.id;
            return Some(Followed::Event(Arc::new(event)));
        }
        while self.source == EventSource::Live {
            match self.live.try_recv() {
                Ok(event) if event.id <= self.last => {}
                Ok(event) => {
                    self.last = event.id;
                    return Some(Followed::Event(event));
                }
                Err(broadcast::error::TryRecvError::Lagged(_)) => self.source = EventSource::Disk,
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => return None,
            }
        }
        None
    }

    /// The next event; waits for one when all are read. Cancel safe.
    ///
    /// # Errors
    /// [`ReadError::Closed`] when the store has ended.
    pub async fn next(&mut self) -> Result<Followed, ReadError> {
        loop {
            if let Some(event) = self.page.pop_front() {
                self.last = event.id;
                return Ok(Followed::Event(Arc::new(event)));
            }
            match self.source {
                EventSource::Disk => {
                    let last = self.last;
                    let page = self.context.readers.ask(move |db| Ok(events::after(db, last, PAGE_EVENTS)?)).await?;
                    if page.gap && !self.gap_reported {
                        self.gap_reported = true;
                        self.last = page.from;
                        return Ok(Followed::Gap);
                    }
                    if page.events.is_empty() {
                        self.source = EventSource::Live;
                        self.gap_reported = false;
                    }
                    self.page = page.events.into();
                }
                EventSource::Live => match self.live.recv().await {
                    Ok(event) if event.id <= self.last => {}
                    Ok(event) => {
                        self.last = event.id;
                        return Ok(Followed::Event(event));
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => self.source = EventSource::Disk,
                    Err(broadcast::error::RecvError::Closed) => return Err(Closed.into()),
                },
            }
        }
    }
}
