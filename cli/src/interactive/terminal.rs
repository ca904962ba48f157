//! The terminal around the room: signals that end it, and its modes, which are restored however the room ends.

use std::io::{self, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Begins it again.
const PASTE_ON: &[u8] = b"\x1b[?2004h";

/// Ends the bracketed paste mode that the line editor begins.
const PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// The signals that ask the program to end.
pub(super) struct Signals {
    terminate: Signal,
    hang_up: Signal,
    /// While a line is edited, Ctrl-C is a key; between two lines it is a signal.
    interrupt: Signal,
}

impl Signals {
    /// From here on, they no longer end the process by themselves.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for any of them.
    pub(super) async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Notices that the program goes on after Ctrl-Z.
pub(super) struct Continued(Signal);

impl Continued {
    /// From here on, the editor's mode for pastes is set again: the shell has turned it off.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?))
    }

    /// Waits until the program was continued.
    pub(super) async fn wait(&mut self) {
        self.0.recv().await;
        let mut out = io::stdout().lock();
        // A terminal that is gone shows itself when a line is read.
        let _ = out.write_all(PASTE_ON).and_then(|()| out.flush());
    }
}

/// The terminal's modes as they were; restored on drop.
pub(super) struct SavedModes(Option<Termios>);

impl SavedModes {
    /// Saves the modes.
    pub(super) fn now() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }
}

impl Drop for SavedModes {
    fn drop(&mut self) {
        if let Some(modes) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
            let mut out = io::stdout().lock();
            let _ = out.write_all(PASTE_OFF).and_then(|()| out.flush());
        }
    }
}
