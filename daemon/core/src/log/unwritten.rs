//! Received entries that wait for the disk, taken in turn of their authors.
//!
//! Entries are applied in memory at once and written in batches. With one queue for all, what a member writes would wait for
//! the disk behind everything that a member which writes without a pause has sent before. So every author has a queue of its
//! own, and a batch takes from them in turn ([`Unwritten::take`]), as deficit round robin does (Shreedhar and Varghese, 1995).
//!
//! Invariants: an entry is taken after everything that it depends on and that was applied before it, so that the disk never holds
//! an entry without its causes (void entries may have been done without, and come later); entries of one author are taken in the
//! order in which they were applied; as long as anything waits, a batch is not empty.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chat_proto::id::PeerId;

use crate::log::entry::{Dep, Entry, LogId, Seq};

/// Weight that is taken of an author before it is the next one's turn: some entries of a conversation.
const TURN: usize = 4 * 1024;

/// Weight of a message besides its bytes: each is some rows on disk and an event, however short it is.
const MESSAGE_WEIGHT: usize = 256;

/// What it costs to write an entry, about that of as many bytes.
pub(crate) fn weight(entry: &Entry) -> usize {
    entry.signed().len_bytes() + MESSAGE_WEIGHT * entry.messages().len()
}

/// What waits, by author.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    queues: BTreeMap<PeerId, Queue>,
    /// Number of the entry that is added next.
    next: u64,
    weight: usize,
    /// The author whose turn was the last one.
    last: Option<PeerId>,
}

/// What waits of one author.
#[derive(Debug, Default)]
struct Queue {
    /// With their numbers, in the order in which they were applied.
    entries: VecDeque<(u64, Arc<Entry>)>,
    weight: usize,
    /// The number of each: by the log that the entry names, its sequence number, and the log that it is filed in, a branch
    /// perhaps.
    numbers: BTreeMap<(LogId, Seq, LogId), u64>,
}

fn place(entry: &Entry) -> (LogId, Seq, LogId) {
    (entry.header().log, entry.seq(), entry.log())
}

impl Queue {
    fn push(&mut self, number: u64, entry: Arc<Entry>) {
        self.weight += weight(&entry);
        self.numbers.insert(place(&entry), number);
        self.entries.push_back((number, entry));
    }

    fn pop(&mut self) -> Option<Arc<Entry>> {
        let (_, entry) = self.entries.pop_front()?;
        self.weight -= weight(&entry);
        self.numbers.remove(&place(&entry));
        Some(entry)
    }

    /// The number of the entry at a place, in whatever branch, if it was applied before another; or of the last one before
    /// that place: what is named may lie beyond a fork, and follows from what lies before it.
    fn applied_before(&self, other: u64, place: &Dep) -> Option<u64> {
        let branches = LogId::range_of(place.log.author);
        let first = (place.log, Seq::ZERO, *branches.start());
        let waiting = self.numbers.range(first..=(place.log, place.seq, *branches.end())).rev();
        let mut earlier = waiting.filter(|(_, number)| **number < other).map(|((_, seq, _), number)| (*seq, *number));
        let (newest, number) = earlier.next()?;
        earlier.take_while(|(seq, _)| *seq == newest).map(|(_, number)| number).chain([number]).max()
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

    /// Whether an entry waits, with its body or without.
    pub(crate) fn contains(&self, entry: &Entry) -> bool {
        self.queues.get(&entry.author()).is_some_and(|queue| queue.numbers.contains_key(&place(entry)))
    }

    /// Adds an entry that was applied after all that wait.
    pub(crate) fn push(&mut self, entry: Arc<Entry>) {
        self.weight += weight(&entry);
        self.queues.entry(entry.author()).or_default().push(self.next, entry);
        self.next += 1;
    }

    /// Puts back what was taken and not written, before what waits.
    pub(crate) fn put_back(&mut self, taken: Vec<Arc<Entry>>) {
        let mut later: Vec<_> = std::mem::take(self).queues.into_values().flat_map(|queue| queue.entries).collect();
        later.sort_unstable_by_key(|(number, _)| *number);
        taken.into_iter().chain(later.into_iter().map(|(_, entry)| entry)).for_each(|entry| self.push(entry));
    }

    /// Takes entries of about this weight: first what `own`, an entry of this peer, depends on, then of each author in
    /// turn.
    pub(crate) fn take(&mut self, own: Option<&Entry>, weight_max: usize) -> Vec<Arc<Entry>> {
        let mut taken = Vec::new();
        for cause in own.iter().flat_map(|entry| &entry.header().deps) {
            if let Some(number) = self.applied_before(u64::MAX, cause) {
                self.take_through((cause.log.author, number), &mut taken);
            }
        }
        let before = self.weight + taken.iter().map(|entry| weight(entry)).sum::<usize>();
        while before - self.weight < weight_max
            && let Some(author) = self.next_author()
        {
            self.last = Some(author);
            let goal = self.weight.saturating_sub(TURN);
            while self.weight > goal
                && let Some(number) = self.front(&author).map(|(number, _)| *number)
            {
                self.take_through((author, number), &mut taken);
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

    /// Takes the entries of an author up to a number, and before each what it depends on. Causes have lower numbers, so this ends.
    fn take_through(&mut self, goal: (PeerId, u64), taken: &mut Vec<Arc<Entry>>) {
        let mut goals = vec![goal];
        while let Some((author, upto)) = goals.last().copied() {
            let Some((number, front)) = self.front(&author).filter(|(number, _)| *number <= upto) else {
                goals.pop();
                continue;
            };
            let others = front.header().deps.iter().filter(|dep| dep.log.author != author);
            let waits = |dep: &Dep| Some((dep.log.author, self.applied_before(*number, dep)?));
            match others.filter_map(waits).next() {
                Some(cause) => goals.push(cause),
                None => taken.extend(self.pop(&author)),
            }
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

    /// The author's first entry that waits, and its number.
    fn front(&self, author: &PeerId) -> Option<&(u64, Arc<Entry>)> {
        self.queues.get(author)?.entries.front()
    }

    /// The number of the entry at a place or the last one before it, if it waits and was applied before another.
    fn applied_before(&self, other: u64, place: &Dep) -> Option<u64> {
        self.queues.get(&place.log.author)?.applied_before(other, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::sample::entry_of;

    #[test]
    fn entries_are_taken_after_what_was_applied_of_the_logs_that_they_name() {
        let causes: Vec<_> = (1..=3).map(|seq| Arc::new(entry_of(9, seq, "cause", Vec::new()))).collect();
        let first = causes.first().map(|entry| entry.log()).expect("there are some");
        for named in [3, 4] {
            // The fourth may lie beyond a fork, in a branch that is not held.
            for author in 1..9 {
                let names = Dep { log: first, seq: Seq(named) };
                let effect = Arc::new(entry_of(author, 1, "effect", vec![names]));
                let mut waiting = Unwritten::default();
                causes.iter().chain([&effect]).for_each(|entry| waiting.push(entry.clone()));
                let taken = waiting.take_all();
                assert_eq!(taken.last().map(|entry| entry.hash()), Some(effect.hash()), "{named}");
            }
        }
    }
}
