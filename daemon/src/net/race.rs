//! Tries made at the same time, of which one is enough: an address that swallows packets must not hold up the one that
//! answers.

use std::time::Duration;

use n0_future::{FuturesUnordered, StreamExt};
use tokio::time::timeout;

/// What the first try that succeeds gives, if one does within `most`. The others are given up then.
pub(crate) async fn first<T>(tries: impl IntoIterator<Item: Future<Output = Option<T>>>, most: Duration) -> Option<T> {
    let mut tries: FuturesUnordered<_> = tries.into_iter().collect();
    let winner = async {
        while let Some(ended) = tries.next().await {
            if ended.is_some() {
                return ended;
            }
        }
        None
    };
    timeout(most, winner).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, pending, ready};

    use n0_future::boxed::BoxFuture;

    use super::*;

    /// Longer than any of these tests takes.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn failures_and_tries_that_never_end_hold_up_nobody() {
        let tries: [BoxFuture<Option<u8>>; 4] =
            [Box::pin(ready(None)), Box::pin(pending()), Box::pin(ready(Some(7))), Box::pin(pending())];
        assert_eq!(first(tries, LONG).await, Some(7));
    }

    #[tokio::test]
    async fn it_ends_when_all_have_failed_or_the_time_is_over() {
        assert_eq!(first([ready(None::<u8>), ready(None)], LONG).await, None);
        assert_eq!(first(Vec::<Ready<Option<u8>>>::new(), LONG).await, None);
        assert_eq!(first([pending::<Option<u8>>()], Duration::from_millis(5)).await, None);
    }
}
