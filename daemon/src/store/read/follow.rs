//! Following the events from a cursor on: stored ones first, then live ones, none missed and none twice.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::store::Store;
use crate::store::error::{Closed, ReadError};
use crate::store::tables::models::StoredEvent;

/// Events read from disk at a time: bounds what one slow reader holds in memory.
const PAGE_EVENTS: u32 = 256;

/// What a follower comes upon.
#[derive(Clone, Debug)]
pub enum Followed {
    /// The next event.
    Event(Arc<StoredEvent>),
    /// Events between the last one and the next are no longer kept, or the cursor lay ahead of every event.
    Gap,
}

/// Reads the events behind a cursor and goes on with new ones for ever.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    /// The last event that was given out.
    last: u64,
    page: VecDeque<StoredEvent>,
    live: broadcast::Receiver<Arc<StoredEvent>>,
    source: Source,
    /// Whether the gap of the pages that are being read was told: all of them lie before its end.
    gap_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Disk,
    Live,
}

impl Follower {
    pub(in crate::store) fn new(store: Store, cursor: u64) -> Self {
        // Listening begins before the first read: what is written in between arrives twice and is told once.
        let live = store.subscribe();
        Self { store, last: cursor, page: VecDeque::new(), live, source: Source::Disk, gap_told: false }
    }

    /// The last event that was given out: where another follower would go on.
    pub fn cursor(&self) -> u64 {
        self.last
    }

    /// The next event if it is at hand: already read from disk, or live. Neither waits nor reads, so that what came
    /// together can be handed on together.
    pub fn ready(&mut self) -> Option<Followed> {
        if let Some(event) = self.page.pop_front() {
            self.last = event.id;
            return Some(Followed::Event(Arc::new(event)));
        }
        while self.source == Source::Live {
            match self.live.try_recv() {
                Ok(event) if event.id <= self.last => {}
                Ok(event) => {
                    self.last = event.id;
                    return Some(Followed::Event(event));
                }
                Err(broadcast::error::TryRecvError::Lagged(_)) => self.source = Source::Disk,
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => return None,
            }
        }
        None
    }

    /// The next event. Waits for one when all are read. Cancel safe.
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
                Source::Disk => {
                    let page = self.store.events_after(self.last, PAGE_EVENTS).await?;
                    if page.gap && !self.gap_told {
                        self.gap_told = true;
                        self.last = page.from;
                        return Ok(Followed::Gap);
                    }
                    if page.events.is_empty() {
                        self.source = Source::Live;
                        self.gap_told = false;
                    }
                    self.page = page.events.into();
                }
                Source::Live => match self.live.recv().await {
                    Ok(event) if event.id <= self.last => {}
                    Ok(event) => {
                        self.last = event.id;
                        return Ok(Followed::Event(event));
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => self.source = Source::Disk,
                    Err(broadcast::error::RecvError::Closed) => return Err(Closed.into()),
                },
            }
        }
    }
}
