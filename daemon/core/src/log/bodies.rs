//! Bodies that this peer lacks: of messages that the members it had them from no longer kept.
//!
//! A member drops the bodies of old messages where its user wants that, and answers with the headers alone. A peer that receives
//! such an entry files it, so that the log goes on, and asks every other member that holds it for the body, once each time
//! they meet, and again for a while where the entry is young: that member may have waited for the body itself. [`Ranges`] of
//! entries are asked for with [`Extension::WantBodies`], to which a member answers with the bodies that it keeps; members that
//! do not know it have dropped nothing, and are asked with [`Frame::Want`].
//!
//! No sender is believed: the author's signature says that the entry carries messages (`log/entry/kind.rs`). A young one is not taken
//! without its body as long as another member may give it: members keep bodies for a day at least.
//!
//! What this peer itself has dropped is not lacked, and never asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::log::entry::{Dep, Entry, LogId, Seq};
use crate::log::forks::Forks;
use crate::peers::connections::Connections;
use crate::wire::Frame;
use crate::wire::extension::Extension;

/// Shortest time for which members keep bodies.
const KEPT_MIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum number of ranges that are remembered; bodies of further ones are asked for after the next start.
const RANGES_MAX: usize = 4096;

/// Maximum number of entries whose bodies are requested at a time: what a member looks through for one answer.
pub(crate) const REQUEST_MAX: u64 = 1024;

/// Delay before a member is asked after it was met: it has other things to send first.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// How often members are asked again for the body of a young entry, one member in each round of anti-entropy.
const RETRIES: u8 = 32;

/// Timeout for an answer; a member that exceeds it is not asked again before it is met again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of logs of which it is remembered that no member gave a young body.
const REFUSED_MAX: usize = 1024;

/// Entries, as ranges of sequence numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<Dep, Seq>);

impl Ranges {
    /// The range that an entry lies in.
    fn around(&self, place: &Dep) -> Option<(Dep, Seq)> {
        let (first, last) = self.0.range(..=place).next_back()?;
        (first.log == place.log && place.seq <= *last).then_some((*first, *last))
    }

    fn contains(&self, place: &Dep) -> bool {
        self.around(place).is_some()
    }

    fn insert(&mut self, place: Dep) {
        if self.contains(&place) {
            return;
        }
        let last = self.0.remove(&Dep { seq: place.seq.next(), ..place }).unwrap_or(place.seq);
        let has_room = self.0.len() < RANGES_MAX;
        let before = self.0.range_mut(..place).next_back();
        match before.filter(|(first, end)| first.log == place.log && end.next() == place.seq) {
            Some((_, end)) => *end = last,
            None if has_room => drop(self.0.insert(place, last)),
            None => {}
        }
    }

    fn remove(&mut self, place: &Dep) -> bool {
        let Some((first, last)) = self.around(place) else { return false };
        self.0.remove(&first);
        if first.seq < place.seq {
            self.0.insert(first, Seq(place.seq.0 - 1));
        }
        if place.seq < last {
            self.0.insert(Dep { seq: place.seq.next(), ..*place }, last);
        }
        true
    }

    /// Takes the first entries out that another holds, as many as are requested at a time; `held` is how far it holds a log.
    fn take(&mut self, held: impl Fn(&LogId) -> Seq) -> Option<(Dep, Seq)> {
        let first = self.0.keys().find(|first| first.seq <= held(&first.log)).copied()?;
        let last = self.0.remove(&first)?;
        let end = Seq(first.seq.0.saturating_add(REQUEST_MAX - 1)).min(last).min(held(&first.log));
        if end < last {
            self.0.insert(Dep { seq: end.next(), ..first }, last);
        }
        Some((first, end))
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct BodyRequest {
    peer: PeerId,
    first: Dep,
    last: Seq,
    until: Duration,
}

/// The bodies that this peer lacks, and what members are still to be asked for.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    lacking: Ranges,
    /// What connected members were not asked for so far.
    unasked: BTreeMap<PeerId, Ranges>,
    request: Option<BodyRequest>,
    /// Young entries whose bodies are lacking, and how often they are asked for again.
    retries: BTreeMap<Dep, u8>,
    /// Logs of which no connected member gave the next entry with its body.
    refused: BTreeSet<LogId>,
}

impl Bodies {
    /// Takes over which bodies the store lacks. Those of authors with forked logs are asked for again: they may stand in
    /// branches now, and a body that came may have been that of the entry in the same place of another branch.
    pub(crate) fn restore(&mut self, lacking: impl IntoIterator<Item = (LogId, Seq)>, forks: &Forks) {
        let again: BTreeSet<PeerId> = self.retries.keys().map(|place| place.log.author).collect();
        *self = Self::default();
        for (log, seq) in lacking {
            let place = Dep { log, seq };
            self.lacking.insert(place);
            if again.contains(&log.author) || forks.concern(log.author) {
                self.plan_retries(place);
            }
        }
    }

    /// Whether the body of an entry that is held is lacking.
    pub(crate) fn lacks(&self, place: &Dep) -> bool {
        self.lacking.contains(place)
    }

    /// Whether an entry that arrived without its body is taken: it carries messages and is old, or no member gives more.
    pub(crate) fn may_lack(&self, entry: &Entry, now: Timestamp) -> bool {
        entry.is_of_messages() && (!is_young(entry, now) || self.refused.contains(&entry.log()))
    }

    /// No connected member gives the next entry of a log with its body.
    pub(crate) fn refused(&mut self, log: LogId) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_first();
        }
        self.refused.insert(log);
    }

    /// An entry was filed without its body. All members are asked, also the one that it came from: it may have waited here
    /// while another copy came.
    pub(crate) fn lack(&mut self, entry: &Entry, connections: &Connections, cx: &mut NodeContext) {
        let place = Dep { log: entry.log(), seq: entry.seq() };
        self.lacking.insert(place);
        if is_young(entry, cx.now.wall) {
            self.plan_retries(place);
        }
        for (peer, _) in connections.connected() {
            self.unasked.entry(*peer).or_default().insert(place);
            cx.set_earlier(Timer::Bodies, ASK_AFTER);
        }
    }

    fn plan_retries(&mut self, place: Dep) {
        if self.retries.len() < RANGES_MAX {
            self.retries.insert(place, RETRIES);
        }
    }

    /// A body arrived.
    pub(crate) fn came(&mut self, place: &Dep) {
        self.lacking.remove(place);
        self.retries.remove(place);
        for ranges in self.unasked.values_mut() {
            ranges.remove(place);
        }
    }

    /// A member is connected.
    pub(crate) fn met(&mut self, peer: PeerId, cx: &mut NodeContext) {
        if !self.lacking.0.is_empty() {
            self.unasked.insert(peer, self.lacking.clone());
            cx.set_earlier(Timer::Bodies, ASK_AFTER);
        }
    }

    /// A round of anti-entropy with a member: it is asked again for the bodies of young entries.
    pub(crate) fn retry(&mut self, peer: PeerId, cx: &mut NodeContext) {
        if self.retries.is_empty() {
            return;
        }
        let unasked = self.unasked.entry(peer).or_default();
        self.retries.retain(|place, left| {
            unasked.insert(*place);
            *left -= 1;
            *left > 0
        });
        cx.set_earlier(Timer::Bodies, ASK_AFTER);
    }

    /// A member shows what it holds.
    pub(crate) fn shown(&self, peer: &PeerId, cx: &mut NodeContext) {
        if self.unasked.contains_key(peer) {
            cx.set_earlier(Timer::Bodies, ASK_AFTER);
        }
    }

    /// The connection to a member ended.
    pub(crate) fn lost(&mut self, peer: &PeerId, cx: &mut NodeContext) {
        self.unasked.remove(peer);
        if self.request.take_if(|request| request.peer == *peer).is_some() {
            cx.set_earlier(Timer::Bodies, Duration::ZERO);
        }
    }

    /// A member answered a request with the bodies up to a sequence number, or has none.
    pub(crate) fn answered(&mut self, peer: &PeerId, log: &LogId, last: Option<Seq>, cx: &mut NodeContext) {
        let answers = |request: &mut BodyRequest| request.peer == *peer && request.first.log == *log;
        let Some(request) = self.request.take_if(answers) else { return };
        if let Some(last) = last.filter(|last| (request.first.seq..request.last).contains(last)) {
            let rest = Dep { log: *log, seq: last.next() };
            self.unasked.entry(*peer).or_default().0.insert(rest, request.last);
        }
        cx.set_earlier(Timer::Bodies, Duration::ZERO);
    }

    /// Sends the next request, one at a time.
    pub(crate) fn fetch(&mut self, connections: &Connections, cx: &mut NodeContext) {
        let now = cx.now.mono;
        if let Some(request) = self.request.take_if(|request| request.until <= now) {
            self.unasked.remove(&request.peer);
        }
        if self.request.is_none() {
            self.unasked.retain(|peer, ranges| connections.get(peer).is_some() && !ranges.0.is_empty());
            self.request = self.unasked.iter_mut().find_map(|(peer, ranges)| {
                let connected = connections.get(peer)?;
                let held = |log: &LogId| connected.known.get(log).copied().unwrap_or_default();
                let (first, last) = ranges.take(held)?;
                let Dep { log, seq: from } = first;
                let wanted = if connected.gives_bodies {
                    Extension::WantBodies { log, from, to: last }.to_frame()
                } else {
                    Frame::Want { log, from, to: last }
                };
                connections.send(&mut cx.out, peer, &wanted);
                Some(BodyRequest { peer: *peer, first, last, until: now + ANSWER_TIMEOUT })
            });
        }
        if let Some(request) = &self.request {
            cx.timers.set(Timer::Bodies, request.until);
        }
    }
}

/// Whether members still keep the body of an entry.
fn is_young(entry: &Entry, now: Timestamp) -> bool {
    entry.header().time.wall() >= now.before(KEPT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::entry::Incarnation;
    use proptest::prelude::*;

    fn place(log: u64, seq: u64) -> Dep {
        let author = PeerId::from_bytes([1; 32]);
        Dep { log: LogId { author, incarnation: Incarnation(log) }, seq: Seq(seq) }
    }

    proptest! {
        #[test]
        fn ranges_hold_what_was_put_in_and_not_taken_out(steps: Vec<(bool, bool, u8)>) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (add, log, seq) in steps {
                let place = place(u64::from(log), u64::from(seq % 24) + 1);
                if add {
                    ranges.insert(place);
                    model.insert(place);
                } else {
                    prop_assert_eq!(ranges.remove(&place), model.remove(&place));
                }
            }
            for log in 0..2 {
                for seq in 1..=25 {
                    prop_assert_eq!(ranges.contains(&place(log, seq)), model.contains(&place(log, seq)));
                }
            }
            let starts = model.iter().filter(|at| !model.contains(&Dep { seq: Seq(at.seq.0 - 1), ..**at })).count();
            prop_assert_eq!(ranges.0.len(), starts, "neighbours are one range");
        }
    }

    #[test]
    fn a_long_range_is_requested_in_parts() {
        let mut ranges = Ranges::default();
        (1..=REQUEST_MAX + 2).for_each(|seq| ranges.insert(place(1, seq)));
        let all = |_: &LogId| Seq::MAX;
        assert_eq!(ranges.take(all), Some((place(1, 1), Seq(REQUEST_MAX))));
        assert_eq!(ranges.take(|_| Seq(REQUEST_MAX)), None, "it does not hold the rest");
        assert_eq!(ranges.take(|_| Seq(REQUEST_MAX + 1)), Some((place(1, REQUEST_MAX + 1), Seq(REQUEST_MAX + 1))));
        assert_eq!(ranges.take(all), Some((place(1, REQUEST_MAX + 2), Seq(REQUEST_MAX + 2))));
        assert_eq!(ranges.take(all), None);
    }
}
