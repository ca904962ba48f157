//! Puts the terminal back as it was, in whatever way the room is left.

use std::io::{self, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Ends the bracketed paste mode that the line editor begins.
const PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// The terminal's modes as they were; they come back when this is dropped.
pub(super) struct Saved(Option<Termios>);

impl Saved {
    /// Notes the modes.
    pub(super) fn now() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        if let Some(modes) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
            let mut out = io::stdout().lock();
            let _ = out.write_all(PASTE_OFF).and_then(|()| out.flush());
        }
    }
}
