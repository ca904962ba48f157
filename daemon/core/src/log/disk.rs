//! What is on its way to the disk: one batch at a time, so that a failure never leaves a hole in a log.
//!
//! A batch has some of the received entries that wait, of all their authors in turn ([`Unwritten`]), and at most one own entry,
//! sealed from the drafts, with the cuts and proofs that came with them. It is as large as the disk writes in a moment, so that
//! an own message never waits long for the one before it. [`Output::Persist`](crate::output::Output::Persist) starts it;
//! [`Input::Persisted`](crate::input::Input::Persisted) ends it. When a write fails, own drafts are refused, received
//! entries are kept and written again a second later (`node/persist.rs`).

use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::PeerId;
use chat_proto::time::is_clock_off;

use crate::delivery::drafts::DraftOrigin;
use crate::input::{BatchId, CommandId, Now};
use crate::log::entry::{Entry, LogId};
use crate::log::heads::Heads;
use crate::log::unwritten::Unwritten;
use crate::output::{Batch, BatchEntry, Changes};
use crate::peers::connections::Connections;

/// Maximum weight of received entries that wait for the disk (32 MiB); beyond, entries are dropped and
/// anti-entropy fetches them later.
const UNWRITTEN_MAX: usize = 32 * 1024 * 1024;

/// The same for one author (4 MiB): what it writes beyond is fetched when there is room.
const AUTHOR_UNWRITTEN_MAX: usize = 4 * 1024 * 1024;

/// Time in which a batch should be written: an own message waits for the batch before it and for its own, and so does it at
/// the other end.
const BATCH_TIME: Duration = Duration::from_millis(40);

/// Minimum and maximum weight of the received entries of a batch: enough to be worth a flush that takes as long, and what
/// bounds a transaction on a fast disk.
const BATCH_WEIGHT: (usize, usize) = (128 * 1024, 2 * 1024 * 1024);

/// An own entry, and what is answered when it is on disk.
pub(crate) type OwnEntry = (Arc<Entry>, Vec<DraftOrigin>);

/// What waits for the disk and what is being written.
#[derive(Debug)]
pub(crate) struct Disk {
    received: Unwritten,
    /// Entries on disk whose bodies came later.
    bodies: Vec<Arc<Entry>>,
    bodies_bytes: usize,
    /// Weight of the received entries that the next batch has.
    batch_weight: usize,
    /// What followed from entries and proofs since the last batch.
    pub(crate) changes: Changes,
    flight: Option<Flight>,
    /// The room's first entry, which could not be written: without it there is no room.
    genesis: Option<OwnEntry>,
    next: u64,
    stalled: bool,
    refiling: Refiling,
}

/// Whether entries beyond a fork have to be filed in branches on disk. Until that is done, nothing new is applied: the
/// node takes over what the disk then holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Refiling {
    /// No.
    #[default]
    Done,
    /// The next batch has the proof.
    Due,
    /// It is being written.
    Writing,
    /// What the disk holds after this batch is being read.
    Reading(BatchId),
}

/// A batch that is being written.
#[derive(Debug)]
pub(crate) struct Flight {
    id: BatchId,
    begun: Duration,
    received_weight: usize,
    pub(crate) received: Vec<Arc<Entry>>,
    bodies: Vec<Arc<Entry>>,
    changes: Changes,
    pub(crate) own: Option<OwnEntry>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            received: Unwritten::default(),
            bodies: Vec::new(),
            bodies_bytes: 0,
            batch_weight: BATCH_WEIGHT.0,
            changes: Changes::default(),
            flight: None,
            genesis: None,
            next: 0,
            stalled: false,
            refiling: Refiling::default(),
        }
    }
}

impl Disk {
    pub(crate) fn has_room(&self) -> bool {
        self.received.weight() + self.bodies_bytes < UNWRITTEN_MAX
    }

    /// Whether more is taken of an author.
    pub(crate) fn has_room_for(&self, author: &PeerId) -> bool {
        self.received.weight_of(author) < AUTHOR_UNWRITTEN_MAX
    }

    /// A proof came of a fork beyond which entries are held.
    pub(crate) fn refile(&mut self) {
        self.refiling = Refiling::Due;
    }

    /// Whether entries beyond a fork are being filed anew.
    pub(crate) fn is_refiling(&self) -> bool {
        self.refiling != Refiling::Done
    }

    /// Whether what the disk holds has to be read now: the batch that was just written filed entries anew.
    pub(crate) fn must_read(&mut self, batch: BatchId) -> bool {
        let written = self.refiling == Refiling::Writing;
        if written {
            self.refiling = Refiling::Reading(batch);
        }
        written
    }

    /// What the disk holds after a batch was read; returns whether that was awaited.
    pub(crate) fn was_read(&mut self, batch: BatchId) -> bool {
        let awaited = self.refiling == Refiling::Reading(batch);
        if awaited {
            self.refiling = Refiling::Done;
        }
        awaited
    }

    /// Whether a batch is being written.
    pub(crate) fn is_busy(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether an own entry of this log is on its way to the disk.
    pub(crate) fn is_writing(&self, log: &LogId) -> bool {
        self.flight.iter().any(|flight| flight.own.iter().any(|(entry, _)| entry.log() == *log))
    }

    /// Whether an own entry is on its way to the disk.
    pub(crate) fn writes_own(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.own.is_some())
    }

    /// Whether something besides own entries waits to be written.
    pub(crate) fn has_news(&self) -> bool {
        !self.received.is_empty() || !self.bodies.is_empty() || !self.changes.is_empty()
    }

    /// Weight of the received entries that wait.
    #[cfg(test)]
    pub(crate) fn waiting_weight(&self) -> usize {
        self.received.weight()
    }

    /// Adds a received entry to a next batch.
    pub(crate) fn push(&mut self, entry: Arc<Entry>) {
        self.received.push(entry);
    }

    /// Adds the body of an entry that was written without it.
    pub(crate) fn push_body(&mut self, entry: Arc<Entry>) {
        self.bodies_bytes += entry.signed().len_bytes();
        self.bodies.push(entry);
    }

    /// The room's first entry, if it has to be written again.
    pub(crate) fn take_genesis(&mut self) -> Option<OwnEntry> {
        self.genesis.take()
    }

    /// Begins to write what waits, or as much of it as is written in a moment. Changes follow from any of the entries, and
    /// are written with all of them.
    pub(crate) fn begin(&mut self, own: Option<OwnEntry>, heads: &Heads, connections: &Connections, now: Now) -> Batch {
        self.next += 1;
        let waiting = self.received.weight();
        let received = if self.changes.is_empty() && !self.is_refiling() {
            self.received.take(own.as_ref().map(|(entry, _)| entry.as_ref()), self.batch_weight)
        } else {
            self.received.take_all()
        };
        let changes = std::mem::take(&mut self.changes);
        // A body is written after its entry, which may still wait.
        let bodies = self.bodies.extract_if(.., |entry| !self.received.contains(entry)).collect();
        self.bodies_bytes = self.bodies.iter().map(|entry| entry.signed().len_bytes()).sum();
        let received_weight = waiting - self.received.weight();
        let flight =
            Flight { id: BatchId(self.next), begun: now.mono, received_weight, received, bodies, changes, own };
        let batch = flight.batch(heads, connections, now);
        self.flight = Some(flight);
        if self.refiling == Refiling::Due {
            self.refiling = Refiling::Writing;
        }
        batch
    }

    /// The batch is written; how long that took decides the size of the next one.
    pub(crate) fn end(&mut self, batch: BatchId, now: Now) -> Option<Flight> {
        let flight = self.flight.take_if(|flight| flight.id == batch)?;
        let took = now.mono.saturating_sub(flight.begun);
        if took > BATCH_TIME {
            self.batch_weight = self.batch_weight.min(flight.received_weight).div_ceil(2).max(BATCH_WEIGHT.0);
        } else if flight.received_weight >= self.batch_weight && took < BATCH_TIME / 2 {
            self.batch_weight = (self.batch_weight * 2).min(BATCH_WEIGHT.1);
        }
        if std::mem::take(&mut self.stalled) {
            tracing::info!("the disk accepts entries again");
        }
        Some(flight)
    }

    /// The batch could not be written: returns what was to be answered of its own entry, and keeps the rest.
    pub(crate) fn fail(&mut self, batch: BatchId) -> Option<Vec<DraftOrigin>> {
        let mut flight = self.flight.take_if(|flight| flight.id == batch)?;
        self.stalled = true;
        if self.refiling == Refiling::Writing {
            self.refiling = Refiling::Due;
        }
        self.genesis = flight.own.take_if(|(entry, _)| entry.is_genesis());
        self.received.put_back(flight.received);
        flight.bodies.append(&mut self.bodies);
        flight.changes.extend(std::mem::take(&mut self.changes));
        (self.bodies, self.changes) = (flight.bodies, flight.changes);
        self.bodies_bytes = self.bodies.iter().map(|entry| entry.signed().len_bytes()).sum();
        Some(flight.own.map(|(_, origins)| origins).unwrap_or_default())
    }
}

impl Flight {
    fn batch(&self, heads: &Heads, connections: &Connections, now: Now) -> Batch {
        let item = |entry: &Arc<Entry>, origins: Vec<CommandId>, clock_off_ms: Option<i64>| BatchEntry {
            entry: entry.clone(),
            origins,
            visible: heads.counts(&entry.log(), entry.seq()),
            clock: None,
            clock_off_ms: clock_off_ms.filter(is_clock_off),
        };
        let off = |entry: &Entry| connections.clock_off_ms(&entry.author(), entry.header().time.wall(), now);
        let received = self.received.iter().map(|entry| item(entry, Vec::new(), off(entry)));
        let commands = |origins: &[DraftOrigin]| origins.iter().filter_map(DraftOrigin::post).collect();
        let own =
            self.own.iter().map(|(entry, origins)| item(entry, commands(origins), connections.own_clock_off_ms()));
        let bodies = self.bodies.iter().map(|entry| item(entry, Vec::new(), off(entry))).collect();
        Batch { id: self.id, entries: received.chain(own).collect(), bodies, changes: self.changes.clone() }
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::time::Timestamp;

    use super::*;
    use crate::log::sample::entry;

    #[test]
    fn body_that_came_later_is_written_after_its_entry() {
        let now = Now { mono: Duration::ZERO, wall: Timestamp::from_ms(1_790_000_000_000) };
        let (heads, connections) = (Heads::default(), Connections::default());
        let mut disk = Disk::default();
        (2..40).for_each(|seq| disk.push(Arc::new(entry(seq, &"x".repeat(16_000)))));
        let late = entry(40, "late");
        disk.push(Arc::new(late.clone().without_body()));
        disk.push_body(Arc::new(late.clone()));
        let mut written = Vec::new();
        while disk.has_news() {
            let batch = disk.begin(None, &heads, &connections, now);
            written.extend(batch.entries.iter().map(|item| item.entry.hash()));
            assert!(batch.bodies.iter().all(|item| written.contains(&item.entry.hash())), "its entry is on disk");
            let bodies = batch.bodies.len();
            disk.end(batch.id, now).expect("it was being written");
            assert_eq!(bodies == 1, !disk.has_news(), "it comes with the last batch");
        }
        assert_eq!(written.last(), Some(&late.hash()));
    }
}
