//! The end of the daemon: why it ends, and the deadline after which it does so anyhow.

use std::panic;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::report::exit_error::ExitError;

/// How long an orderly end may take before the process ends without it.
pub(crate) const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Why the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// SIGTERM or SIGINT.
    Signal,
    /// A caller of the API asked for it.
    Asked,
    /// This peer left its room.
    Left,
    /// The process that started it has gone before it was ready.
    ParentGone,
    /// A part that it cannot do without has ended.
    PartEnded,
    /// A task panicked: the state is no longer trusted.
    Panic,
}

/// Asks for the end, from anywhere. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StopHandle {
    reason: Arc<OnceLock<StopReason>>,
    begun: CancellationToken,
    milestones: Sender<Milestone>,
}

/// Hears what becomes of the daemon; for the main thread, which alone ends the process.
#[derive(Debug)]
pub(crate) struct Milestones(Receiver<Milestone>);

#[derive(Debug)]
enum Milestone {
    Stopping,
    Interrupted,
    Ended(Result<(), ExitError>),
}

/// How the daemon did not end in an orderly way.
#[derive(Debug, thiserror::Error)]
enum EndError {
    /// Something hung.
    #[error("the daemon did not end within {} s and was cut off; no stored message is lost", SHUTDOWN_MAX.as_secs())]
    Overdue,
    /// A second signal.
    #[error("the daemon was interrupted while it ended; no stored message is lost")]
    Interrupted,
    /// The daemon's own thread panicked.
    #[error("the daemon broke down: see 'chatd logs'")]
    Panicked,
}

impl StopHandle {
    /// A daemon that shall go on for now.
    pub(crate) fn new() -> (Self, Milestones) {
        let (milestones, heard) = mpsc::channel();
        (Self { reason: Arc::default(), begun: CancellationToken::new(), milestones }, Milestones(heard))
    }

    /// Begins the orderly end; the first reason stays.
    pub(crate) fn request(&self, reason: StopReason) {
        if self.reason.set(reason).is_ok() {
            tracing::info!(?reason, "stopping");
            // The main thread has gone: the process ends anyhow.
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

    /// Tells the main thread that all is done.
    pub(crate) fn ended(&self, result: Result<(), ExitError>) {
        // As above.
        let _ = self.milestones.send(Milestone::Ended(result));
    }

    /// Lets a panic in any thread or task begin the end, after it has been logged.
    pub(crate) fn on_panic(&self) {
        let stop = self.clone();
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            // The message may hold what a person wrote; the place says enough to find the cause.
            tracing::error!(place, "a task panicked");
            before(info);
            stop.request(StopReason::Panic);
        }));
    }

    /// Lets SIGTERM and SIGINT begin the end, a second one cut it short; SIGHUP is ignored, so that the daemon outlives
    /// its terminal. Must be called within a runtime.
    ///
    /// # Errors
    /// When the system takes no handlers.
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
    /// Waits until the daemon has ended, or until its time to end is over.
    ///
    /// # Errors
    /// What it failed with, or that it did not end in an orderly way.
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
                // It is sent once.
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
    fn the_first_reason_stays_and_the_end_is_heard() {
        let (stop, milestones) = StopHandle::new();
        stop.request(StopReason::Asked);
        stop.request(StopReason::Signal);
        assert_eq!(stop.reason(), Some(StopReason::Asked));
        stop.ended(Ok(()));
        assert_eq!(milestones.wait(), Ok(()));
    }

    #[test]
    fn a_second_signal_cuts_the_end_short() {
        let (stop, milestones) = StopHandle::new();
        stop.signalled();
        stop.signalled();
        let failure = milestones.wait().expect_err("cut short");
        assert!(failure.message.contains("interrupted"), "{}", failure.message);
    }

    #[test]
    fn a_daemon_that_hangs_at_its_end_is_cut_off() {
        let (stop, milestones) = StopHandle::new();
        stop.request(StopReason::Asked);
        let failure = milestones.wait_at_most(Duration::ZERO).expect_err("cut off");
        assert!(failure.message.contains("did not end within 5 s"), "{}", failure.message);
    }

    #[test]
    fn a_panic_anywhere_begins_the_end() {
        let (stop, _milestones) = StopHandle::new();
        stop.on_panic();
        std::thread::spawn(|| panic!("on purpose")).join().expect_err("panics");
        drop(panic::take_hook());
        assert_eq!(stop.reason(), Some(StopReason::Panic));
    }

    #[test]
    fn a_daemon_that_breaks_down_without_a_word_is_noticed() {
        let (stop, milestones) = StopHandle::new();
        drop(stop);
        milestones.wait().expect_err("nobody is left to say how it ended");
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_hears_of_it_before_and_after() {
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
