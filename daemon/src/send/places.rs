//! Places for messages of streams: a stream that finds none waits, so that streams are slowed down and not refused.
//!
//! A message has a place from before its key is looked up until its answer is known, whether or not its caller reads that.
//! Waiting takes nothing: a stream whose caller does not read, and which is therefore not polled, keeps no place from others.

use std::sync::Arc;

use tokio::sync::watch;

use crate::node::handle::COMMANDS_MAX;

/// Number of messages in flight from which streams wait: the queue of commands holds them all, with those of streams that
/// looked at the same moment, and has room for other requests.
pub(super) const PLACES_MAX: usize = COMMANDS_MAX * 3 / 4;

/// How many messages of all streams are in flight.
#[derive(Debug)]
pub(super) struct StreamPlaces(watch::Sender<usize>);

/// A place; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct StreamPlace(Arc<StreamPlaces>);

impl Default for StreamPlaces {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl StreamPlaces {
    /// Takes places for messages that arrived together, as soon as there is one. Cancel safe.
    pub(super) async fn take(self: &Arc<Self>, messages: usize) -> Vec<StreamPlace> {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|taken| *taken < PLACES_MAX).await;
        self.0.send_if_modified(|taken| {
            *taken += messages;
            false
        });
        (0..messages).map(|_| StreamPlace(Arc::clone(self))).collect()
    }
}

impl Drop for StreamPlace {
    /// Who waits is woken when half of the places are free, and not for each.
    fn drop(&mut self) {
        self.0.0.send_if_modified(|taken| {
            *taken -= 1;
            *taken == PLACES_MAX / 2
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn stream_without_a_place_waits_until_half_are_free_and_keeps_none_meanwhile() {
        let places = Arc::new(StreamPlaces::default());
        let mut taken = places.take(PLACES_MAX).await;
        let mut waits = Box::pin(places.take(1));
        assert!(futures_util::poll!(&mut waits).is_pending());
        taken.truncate(PLACES_MAX / 2);
        assert!(places.take(64).now_or_never().is_some(), "who is not polled keeps nothing from others");
        assert_eq!(waits.await.len(), 1);
        drop(taken);
        assert_eq!(*places.0.borrow(), 0);
    }
}
