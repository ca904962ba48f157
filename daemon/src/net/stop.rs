//! Asks a connection to end, once.

use std::sync::Arc;

use tokio::sync::watch;

use super::DownReason;

/// A request to end, with its reason. The first reason stays. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<watch::Sender<Option<DownReason>>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Stop {
    /// Asks for the end, unless that was done before.
    pub(crate) fn request(&self, reason: DownReason) {
        self.0.send_if_modified(|requested| {
            let first = requested.is_none();
            if first {
                *requested = Some(reason);
            }
            first
        });
    }

    /// The reason, if the end was asked for.
    pub(crate) fn requested(&self) -> Option<DownReason> {
        *self.0.borrow()
    }

    /// Waits until the end is asked for. Cancel safe.
    pub(crate) async fn wait(&self) -> DownReason {
        let mut requests = self.0.subscribe();
        match requests.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(DownReason::Lost),
            // The sender lives in `self`, so the channel cannot close while somebody waits.
            Err(_) => DownReason::Lost,
        }
    }
}
