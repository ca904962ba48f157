//! Bounded places for connections, which sources share fairly: a stranger that takes all of them keeps no other one out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat_core::fair_share::place_to_give_up;
use tokio_util::sync::CancellationToken;

/// Places for connections. A source is what shares them: a network, or a member.
#[derive(Debug)]
pub(crate) struct Places<S> {
    places_max: usize,
    taken: Mutex<Taken<S>>,
}

/// The places that are taken, oldest first.
#[derive(Debug)]
struct Taken<S> {
    next: u64,
    places: BTreeMap<u64, (S, CancellationToken)>,
}

/// One place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<S> {
    places: Arc<Places<S>>,
    number: u64,
    lost: CancellationToken,
}

impl<S: Ord + Copy> Places<S> {
    pub(crate) fn new(places_max: usize) -> Arc<Self> {
        Arc::new(Self { places_max, taken: Mutex::new(Taken { next: 0, places: BTreeMap::new() }) })
    }

    /// Takes a place. When none is free, the source with most places loses its oldest; when all sources have one each, the
    /// oldest of all is lost. For connections that are meant to be short.
    pub(crate) fn enter(self: &Arc<Self>, source: S) -> Place<S> {
        let mut taken = self.lock();
        if taken.places.len() >= self.places_max {
            let oldest = taken.places.keys().next().copied();
            let given_up = taken.place_to_give_up(&source).or(oldest);
            taken.lose(given_up);
        }
        self.take(&mut taken, source)
    }

    /// Takes a place, unless none is free and no source has more places than another. For connections that are meant to
    /// last.
    pub(crate) fn try_enter(self: &Arc<Self>, source: S) -> Option<Place<S>> {
        let mut taken = self.lock();
        if taken.places.len() >= self.places_max {
            let given_up = taken.place_to_give_up(&source)?;
            taken.lose(Some(given_up));
        }
        Some(self.take(&mut taken, source))
    }

    /// Number of places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.lock().places.len()
    }

    fn take(self: &Arc<Self>, taken: &mut Taken<S>, source: S) -> Place<S> {
        let (number, lost) = (taken.next, CancellationToken::new());
        taken.next += 1;
        taken.places.insert(number, (source, lost.clone()));
        Place { places: self.clone(), number, lost }
    }

    fn lock(&self) -> MutexGuard<'_, Taken<S>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Ord + Copy> Taken<S> {
    fn place_to_give_up(&self, source: &S) -> Option<u64> {
        place_to_give_up(self.places.iter().map(|(number, (holder, _))| (*number, *holder)), source)
    }

    fn lose(&mut self, number: Option<u64>) {
        if let Some((_, lost)) = number.and_then(|number| self.places.remove(&number)) {
            lost.cancel();
        }
    }
}

impl<S> Place<S> {
    /// Waits until another source gets this place.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Runs `work` in this place; `None` when the place is lost before it ends.
    pub(crate) async fn hold<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.lost() => None,
        }
    }
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        self.places.taken.lock().unwrap_or_else(PoisonError::into_inner).places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_source_loses_its_oldest_place_to_another() {
        let places = Places::new(3);
        let of_one: Vec<_> = (0..3).map(|_| places.enter('a')).collect();
        let other = places.enter('b');
        assert_eq!(of_one.iter().map(|place| place.lost.is_cancelled()).collect::<Vec<_>>(), [true, false, false]);
        let third = places.try_enter('c').expect("a has two");
        assert!(places.try_enter('d').is_none(), "all have one");
        assert!(!other.lost.is_cancelled() && !third.lost.is_cancelled());
        let _fourth = places.enter('d');
        assert!(of_one[2].lost.is_cancelled(), "the oldest of all");
        assert_eq!(places.taken(), 3);
        drop((of_one, other, third));
        assert_eq!(places.taken(), 1, "what is dropped is free");
    }
}
