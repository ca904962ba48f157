//! A queue of named deadlines: setting a name again moves its deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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

    /// Sets a deadline unless an earlier one stands.
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

    /// Whether a deadline of that name stands.
    pub(crate) fn is_set(&self, name: &K) -> bool {
        self.by_name.contains_key(name)
    }

    /// How many deadlines stand.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one deadline that has come.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<K> {
        let (at, name) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.cancel(name);
        Some(name)
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
        assert_eq!(timers.pop_due(ms(5)), None);
        assert_eq!(timers.pop_due(ms(50)), Some('a'));
        assert_eq!(timers.pop_due(ms(50)), Some('b'));
        assert_eq!(timers.pop_due(ms(50)), None);
        assert!(!timers.is_set(&'a'));
    }
}
