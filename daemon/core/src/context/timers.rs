//! A queue of named deadlines: setting a name again moves its deadline. [`Timer`] lists the deadlines of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::input::CommandId;
use crate::log::entry::LogId;

/// Deadlines of a node, by name; `node/ticks.rs` says what is done at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Exchange version vectors with a neighbour.
    AntiEntropy,
    /// Report this peer's connections to neighbours.
    Links,
    /// Write down when peers were last seen.
    Seen,
    /// Try a failed write again.
    Retry,
    /// No member has said anything about this peer's log.
    Confirm,
    /// Request damaged entries of this peer's disk.
    Repair,
    /// Request bodies that this peer lacks.
    Bodies,
    /// Dial a member again.
    Redial(PeerId),
    /// Fetch what a peer is known to hold.
    Fetch(PeerId),
    /// A range that was requested has not come.
    Want(LogId),
    /// What is to be compared of a suspicious log has not come.
    Compare(LogId),
    /// The role was not handed over in time: stop all the same.
    Release,
    /// Ping quiet peers.
    Ping,
    /// The role wants a tick.
    Role,
    /// The tree wants a tick.
    Tree,
    /// Join the tree again.
    Rejoin,
    /// Send a keep-alive.
    Alive,
    /// Close connections that the tree does not need.
    Prune,
    /// Look for members that are not seen.
    Seek,
    /// A lost neighbour has not come back.
    Gone(PeerId),
    /// Send the receipts that were held back.
    Receipts,
    /// A post has waited long enough.
    Wait(CommandId),
}

/// Deadlines by name. Bounded by the number of names.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K> {
    by_name: BTreeMap<K, Duration>,
    by_time: BTreeSet<(Duration, K)>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(crate) fn new() -> Self {
        Self { by_name: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// Sets or moves a deadline.
    pub(crate) fn set(&mut self, name: K, at: Duration) {
        self.cancel(name);
        self.by_name.insert(name, at);
        self.by_time.insert((at, name));
    }

    /// Sets a deadline unless an earlier one is set.
    pub(crate) fn set_earlier(&mut self, name: K, at: Duration) {
        if self.by_name.get(&name).is_none_or(|set| at < *set) {
            self.set(name, at);
        }
    }

    /// Forgets a deadline.
    pub(crate) fn cancel(&mut self, name: K) {
        if let Some(at) = self.by_name.remove(&name) {
            self.by_time.remove(&(at, name));
        }
    }

    /// Whether a deadline of that name is set.
    pub(crate) fn is_set(&self, name: &K) -> bool {
        self.by_name.contains_key(name)
    }

    /// Number of deadlines that are set.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The deadlines that have come, the earliest first.
    pub(crate) fn due(&self, now: Duration) -> Vec<K> {
        self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, name)| *name).collect()
    }

    /// Takes a deadline if it is still set and has come.
    pub(crate) fn take_due(&mut self, name: &K, now: Duration) -> bool {
        let due = self.by_name.get(name).is_some_and(|at| *at <= now);
        if due {
            self.cancel(*name);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_can_be_moved() {
        let ms = Duration::from_millis;
        let mut timers = Timers::new();
        timers.set('a', ms(30));
        timers.set('b', ms(20));
        timers.set('a', ms(10));
        timers.set_earlier('b', ms(40));
        timers.set('c', ms(25));
        timers.cancel('c');
        assert_eq!(timers.next(), Some(ms(10)));
        assert_eq!(timers.due(ms(5)), []);
        assert_eq!(timers.due(ms(20)), ['a', 'b']);
        timers.set('b', ms(60));
        assert!(timers.take_due(&'a', ms(50)));
        assert!(!timers.is_set(&'a') && !timers.take_due(&'a', ms(50)), "taken once");
        assert!(!timers.take_due(&'b', ms(50)), "moved meanwhile");
        assert_eq!(timers.due(ms(60)), ['b']);
    }
}
