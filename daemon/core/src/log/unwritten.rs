//! Received entries that wait for the disk, taken in turn of their authors.
//!
//! Entries are applied in memory at once and written in batches. With one queue for all, what a member writes would wait for
//! the disk behind everything that a member which writes without a pause has sent before. So every author has a queue of its
//! own, and a batch takes from them in turn ([`Unwritten::take`]), as deficit round robin does (Shreedhar and Varghese, 1995).
//!
//! Invariants: an entry is taken after everything that it depends on, so that the disk never holds an entry without its causes;
//! entries of one author are taken in the order in which they were applied; as long as anything waits, a batch is not empty.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chat_proto::id::PeerId;

use crate::log::entry::{Dep, Entry, LogId, Seq};

/// Weight that is taken of an author before it is the next one's turn: some entries of a conversation.
const TURN: usize = 4 * 1024;

/// Weight of a message besides its bytes: each is some rows on disk and an event, however short it is.
const MESSAGE_WEIGHT: usize = 256;

/// Maximum depth of causes that are followed at a time. Entries name what they depend on directly, and few authors wait.
const CAUSES_MAX: usize = 64;

/// What it costs to write an entry, about that of as many bytes.
pub(crate) fn weight(entry: &Entry) -> usize {
    entry.signed().len_bytes() + MESSAGE_WEIGHT * entry.messages().len()
}

/// What waits, by author.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    queues: BTreeMap<PeerId, Queue>,
    weight: usize,
    /// The author whose turn was the last one.
    last: Option<PeerId>,
}

/// What waits of one author.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Arc<Entry>>,
    weight: usize,
    /// First and last sequence number that waits, by the log that the entries name.
    spans: BTreeMap<LogId, (Seq, Seq)>,
}

impl Queue {
    fn push(&mut self, entry: Arc<Entry>) {
        self.weight += weight(&entry);
        let span = self.spans.entry(entry.header().log).or_insert((entry.seq(), entry.seq()));
        *span = (span.0.min(entry.seq()), span.1.max(entry.seq()));
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Arc<Entry>> {
        let entry = self.entries.pop_front()?;
        self.weight -= weight(&entry);
        if let Some(span) = self.spans.get_mut(&entry.header().log) {
            span.0 = entry.seq().next();
            if span.0 > span.1 {
                self.spans.remove(&entry.header().log);
            }
        }
        Some(entry)
    }
}

impl Unwritten {
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The [`weight`] of what waits.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// The [`weight`] of what waits of one author.
    pub(crate) fn weight_of(&self, author: &PeerId) -> usize {
        self.queues.get(author).map_or(0, |queue| queue.weight)
    }

    /// Adds an entry that was applied after all that wait.
    pub(crate) fn push(&mut self, entry: Arc<Entry>) {
        self.weight += weight(&entry);
        self.queues.entry(entry.author()).or_default().push(entry);
    }

    /// Puts back what was taken and not written, before what waits.
    pub(crate) fn put_back(&mut self, taken: Vec<Arc<Entry>>) {
        let later = std::mem::take(self);
        taken.into_iter().for_each(|entry| self.push(entry));
        for entry in later.queues.into_values().flat_map(|queue| queue.entries) {
            self.push(entry);
        }
    }

    /// Takes entries of about this weight: first what `own`, an entry of this peer, depends on, then of each author in
    /// turn.
    pub(crate) fn take(&mut self, own: Option<&Entry>, weight_max: usize) -> Vec<Arc<Entry>> {
        let mut taken = Vec::new();
        for cause in own.iter().flat_map(|entry| &entry.header().deps) {
            self.take_through(cause, &mut taken);
        }
        let before = self.weight + taken.iter().map(|entry| weight(entry)).sum::<usize>();
        while before - self.weight < weight_max
            && let Some(author) = self.next_author()
        {
            self.last = Some(author);
            let goal = self.weight.saturating_sub(TURN);
            while self.weight > goal
                && let Some(front) = self.queues.get(&author).and_then(|queue| queue.entries.front())
            {
                let place = Dep { log: front.header().log, seq: front.seq() };
                let before = taken.len();
                self.take_through(&place, &mut taken);
                if taken.len() == before {
                    // Of two branches that name the same log the span is that of one.
                    taken.extend(self.pop(&author));
                }
            }
        }
        taken
    }

    /// Takes everything.
    pub(crate) fn take_all(&mut self) -> Vec<Arc<Entry>> {
        self.take(None, usize::MAX)
    }

    /// The author after the one whose turn was the last.
    fn next_author(&self) -> Option<PeerId> {
        let after =
            self.last.and_then(|last| self.queues.range(last..).map(|(author, _)| *author).find(|a| *a != last));
        after.or_else(|| self.queues.keys().next().copied())
    }

    /// Takes an entry, and before it what its author wrote before and what all these depend on.
    fn take_through(&mut self, place: &Dep, taken: &mut Vec<Arc<Entry>>) {
        let mut goals = vec![*place];
        while let Some(goal) = goals.last().copied() {
            let author = goal.log.author;
            let Some(front) = self.front_before(&goal) else {
                goals.pop();
                continue;
            };
            let waits = |dep: &&Dep| dep.log.author != author && self.waits(dep) && !goals.contains(dep);
            let cause = front.header().deps.iter().find(waits).copied().filter(|_| goals.len() < CAUSES_MAX);
            if let Some(cause) = cause {
                goals.push(cause);
                continue;
            }
            taken.extend(self.pop(&author));
        }
    }

    fn pop(&mut self, author: &PeerId) -> Option<Arc<Entry>> {
        let queue = self.queues.get_mut(author)?;
        let entry = queue.pop();
        if queue.entries.is_empty() {
            self.queues.remove(author);
        }
        self.weight -= entry.as_ref().map_or(0, |entry| weight(entry));
        entry
    }

    /// The author's first entry that waits, if the one at this place does.
    fn front_before(&self, place: &Dep) -> Option<&Arc<Entry>> {
        self.queues.get(&place.log.author).filter(|_| self.waits(place))?.entries.front()
    }

    /// Whether an entry of a log up to this one waits.
    fn waits(&self, place: &Dep) -> bool {
        let queue = self.queues.get(&place.log.author);
        queue.and_then(|queue| queue.spans.get(&place.log)).is_some_and(|(first, _)| *first <= place.seq)
    }
}
