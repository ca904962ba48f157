//! The end of the daemon: who may request it, and the deadline after which the process ends regardless.
//!
//! Every task may hold a [`StopHandle`]. The first request wins and is kept as the [`StopReason`]: a signal, a call of the
//! API, the peer leaving its room, the end of the parent that waits for the start, a part that failed, a panic in any
//! task. A request cancels what awaits [`StopHandle::requested`] and starts the clock.
//!
//! The main thread waits in [`Milestones::wait`], outside the runtime: it returns when the daemon has ended, after
//! [`SHUTDOWN_MAX`], or at a second signal, whichever is first. So a task that hangs cannot keep the process alive, and no
//! stored message is lost by cutting it off, since messages are acknowledged after their flush.
//!
//! The order in which things close is in [`services`](super::services).

use std::panic;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::report::exit_error::ExitError;

/// Deadline of an orderly end, after which the process ends without it.
pub(crate) const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Why the daemon stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// SIGTERM or SIGINT.
    Signal,
    /// A caller of the API requested it.
    Asked,
    /// This peer left its room.
    Left,
    /// The process that started it ended before it was ready.
    ParentGone,
    /// A part that it depends on has ended.
    PartEnded,
    /// A task panicked: the state is no longer trusted.
    Panic,
}

/// Requests and awaits the end of the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StopHandle {
    reason: Arc<OnceLock<StopReason>>,
    begun: CancellationToken,
    milestones: Sender<Milestone>,
}

/// Receives the milestones of the end; for the main thread, which alone ends the process.
#[derive(Debug)]
pub(crate) struct Milestones(Receiver<Milestone>);

#[derive(Debug)]
enum Milestone {
    Stopping,
    Interrupted,
    Ended(Result<(), ExitError>),
}

/// Why the daemon did not end in order. No stored message is lost.
#[derive(Debug, thiserror::Error)]
enum EndError {
    /// A task hung.
    #[error("the daemon did not stop within {} s and was killed; no stored message is lost", SHUTDOWN_MAX.as_secs())]
    Overdue,
    /// A second signal.
    #[error("the daemon was interrupted while it stopped; no stored message is lost")]
    Interrupted,
    /// The daemon's own thread panicked.
    #[error("the daemon failed: see 'chatd logs'")]
    Panicked,
}

impl StopHandle {
    /// A handle with nothing requested yet, and its receiver.
    pub(crate) fn new() -> (Self, Milestones) {
        let (milestones, received) = mpsc::channel();
        (Self { reason: Arc::default(), begun: CancellationToken::new(), milestones }, Milestones(received))
    }

    /// Begins the orderly end; the first reason is kept.
    pub(crate) fn request(&self, reason: StopReason) {
        if self.reason.set(reason).is_ok() {
            tracing::info!(?reason, "stopping");
            // If the main thread is gone, the process ends anyhow.
            let _ = self.milestones.send(Milestone::Stopping);
            self.begun.cancel();
        }
    }

    /// Why the end has begun, if it has.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    /// Waits until the end has begun. Cancel safe.
    pub(crate) async fn requested(&self) {
        self.begun.cancelled().await;
    }

    /// Reports to the main thread that the daemon has ended.
    pub(crate) fn ended(&self, result: Result<(), ExitError>) {
        // As above.
        let _ = self.milestones.send(Milestone::Ended(result));
    }

    /// Makes a panic in any thread or task begin the end, after it has been logged.
    pub(crate) fn on_panic(&self) {
        let stop = self.clone();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            // The message may contain what a person wrote; the location is enough to find the cause.
            tracing::error!(place, "a task panicked");
            before(info);
            stop.request(StopReason::Panic);
        }));
    }

    /// Makes SIGTERM and SIGINT begin the end, a second one cut it short; SIGHUP is ignored, so that the daemon outlives
    /// its terminal. Must be called within a runtime.
    ///
    /// # Errors
    /// When the system refuses handlers.
    pub(crate) fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let stop = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => stop.signalled(),
                    _ = interrupt.recv() => stop.signalled(),
                    _ = hang_up.recv() => {}
                }
            }
        });
        Ok(())
    }

    fn signalled(&self) {
        match self.reason() {
            None => self.request(StopReason::Signal),
            // As above.
            Some(_) => drop(self.milestones.send(Milestone::Interrupted)),
        }
    }
}

impl Milestones {
    /// Waits until the daemon has ended, or until its deadline.
    ///
    /// # Errors
    /// What it failed with, or that it did not end in order.
    pub(crate) fn wait(self) -> Result<(), ExitError> {
        self.wait_at_most(SHUTDOWN_MAX)
    }

    fn wait_at_most(self, longest: Duration) -> Result<(), ExitError> {
        let mut last = loop {
            match self.0.recv() {
                Ok(Milestone::Ended(result)) => return result,
                Ok(Milestone::Stopping) => break self.0.recv_timeout(longest),
                Ok(Milestone::Interrupted) => {}
                Err(_) => return Err(ExitError::refused(&EndError::Panicked)),
            }
        };
        loop {
            match last {
                Ok(Milestone::Ended(result)) => return result,
                Ok(Milestone::Interrupted) => return Err(ExitError::refused(&EndError::Interrupted)),
                // Sent only once.
                Ok(Milestone::Stopping) => last = self.0.recv_timeout(longest),
                Err(RecvTimeoutError::Timeout) => return Err(ExitError::refused(&EndError::Overdue)),
                Err(RecvTimeoutError::Disconnected) => return Err(ExitError::refused(&EndError::Panicked)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_reason_is_kept_and_the_end_is_reported() {
        let (stop, milestones) = StopHandle::new();
        stop.request(StopReason::Asked);
        stop.request(StopReason::Signal);
        assert_eq!(stop.reason(), Some(StopReason::Asked));
        stop.ended(Ok(()));
        assert_eq!(milestones.wait(), Ok(()));
    }

    #[test]
    fn second_signal_cuts_the_end_short() {
        let (stop, milestones) = StopHandle::new();
        stop.signalled();
        stop.signalled();
        let failure = milestones.wait().expect_err("cut short");
        assert!(failure.message.contains("interrupted"), "{}", failure.message);
    }

    #[test]
    fn daemon_that_hangs_while_stopping_is_cut_off() {
        let (stop, milestones) = StopHandle::new();
        stop.request(StopReason::Asked);
        let failure = milestones.wait_at_most(Duration::ZERO).expect_err("cut off");
        assert!(failure.message.contains("did not stop within 5 s"), "{}", failure.message);
    }

    #[test]
    fn panic_in_any_thread_begins_the_end() {
        let (stop, _milestones) = StopHandle::new();
        stop.on_panic();
        std::thread::spawn(|| panic!("on purpose")).join().expect_err("panics");
        drop(panic::take_hook());
        assert_eq!(stop.reason(), Some(StopReason::Panic));
    }

    #[test]
    fn daemon_that_ends_without_a_milestone_is_an_error() {
        let (stop, milestones) = StopHandle::new();
        drop(stop);
        milestones.wait().expect_err("no sender is left to report the end");
    }

    #[tokio::test]
    async fn requested_returns_before_and_after_the_request() {
        let (stop, _milestones) = StopHandle::new();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.requested().await }
        });
        stop.request(StopReason::Left);
        waiting.await.expect("no panic");
        stop.requested().await;
    }
}
