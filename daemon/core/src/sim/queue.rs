//! Simulated time, and what will happen in it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Maximum number of events in a row at one moment; beyond it a peer asks to be woken without end.
const AT_ONCE_MAX: u32 = 200_000;

/// Something that will happen in the world `W`.
pub(super) type SimEvent<W> = Box<dyn FnOnce(&mut W)>;

/// Events ordered by time; events of the same time happen in the order in which they were scheduled.
pub(super) struct SimQueue<W> {
    now: Duration,
    heap: BinaryHeap<Scheduled<W>>,
    scheduled: u64,
    happened: u64,
    at_once: u32,
}

impl<W> SimQueue<W> {
    pub(super) const fn new() -> Self {
        Self { now: Duration::ZERO, heap: BinaryHeap::new(), scheduled: 0, happened: 0, at_once: 0 }
    }

    /// Time since the start of the run.
    pub(super) const fn now(&self) -> Duration {
        self.now
    }

    /// Number of events so far.
    pub(super) const fn happened(&self) -> u64 {
        self.happened
    }

    /// Schedules an event; a time that has passed means now.
    pub(super) fn push(&mut self, at: Duration, event: impl FnOnce(&mut W) + 'static) {
        self.scheduled += 1;
        self.heap.push(Scheduled { at: at.max(self.now), order: self.scheduled, event: Box::new(event) });
    }

    /// Moves the clock to the next event and takes it, or to `until` if none is due by then.
    pub(super) fn next(&mut self, until: Duration) -> Option<SimEvent<W>> {
        if self.heap.peek().is_none_or(|next| next.at > until) {
            self.now = until;
            return None;
        }
        let next = self.heap.pop()?;
        self.at_once = if next.at == self.now { self.at_once + 1 } else { 0 };
        assert!(self.at_once < AT_ONCE_MAX, "time does not advance beyond {:?}", self.now);
        self.happened += 1;
        self.now = next.at;
        Some(next.event)
    }
}

struct Scheduled<W> {
    at: Duration,
    order: u64,
    event: SimEvent<W>,
}

impl<W> PartialEq for Scheduled<W> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<W> Eq for Scheduled<W> {}

impl<W> PartialOrd for Scheduled<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> Ord for Scheduled<W> {
    /// The earliest event is the greatest, which a heap gives first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}
