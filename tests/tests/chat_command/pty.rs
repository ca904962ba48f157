//! `chat` on a terminal of its own, and what it writes there.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use chat_tests::eventually::SOON;
use chat_tests::process::{Handle, Signal};

use crate::fake::Fake;
use crate::process::chat;

/// What the editor writes when it takes the terminal over for a line: bracketed paste on.
const EDITING: &str = "\x1b[?2004h";

/// The program, its terminal, and all that it wrote there.
pub(crate) struct PtyTerminal {
    child: Child,
    keys: File,
    line: File,
    text: Arc<(Mutex<String>, Condvar)>,
}

/// Both ends of a new terminal: the one with the keys and the screen, and the one for programs.
pub(crate) fn open() -> (File, File) {
    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&main).and_then(|()| unlockpt(&main)).expect("ours");
    let name = ptsname(&main, Vec::new()).expect("it has a name").into_string().expect("a plain path");
    let line = OpenOptions::new().read(true).write(true).open(name).expect("its other end");
    tcsetwinsize(&line, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
    (File::from(main), line)
}

impl PtyTerminal {
    pub(crate) fn start(fake: &Fake) -> Self {
        Self::run(fake, &["--plain"])
    }

    /// Runs `chat` with these arguments.
    pub(crate) fn run(fake: &Fake, arguments: &[&str]) -> Self {
        let (main, line) = open();
        let end = || Stdio::from(line.try_clone().expect("a descriptor is free"));
        let mut command = chat(fake.path(), arguments).env("TERM", "xterm").into_inner();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("chat runs");
        let keys = main;
        let text = Arc::default();
        let mut screen = keys.try_clone().expect("a descriptor is free");
        let kept: Arc<(Mutex<String>, Condvar)> = Arc::clone(&text);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let read = String::from_utf8_lossy(&bytes[..count]).into_owned();
                kept.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&read);
                kept.1.notify_all();
            }
        });
        Self { child, keys, line, text }
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until `text` was written, and gives all that was written so far.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_for_count(text, 1)
    }

    /// Waits until the line of that number, from 1, is being edited: before that, the terminal itself acts on control keys.
    pub(crate) fn wait_for_line(&self, number: usize) {
        self.wait_for_count(EDITING, number);
    }

    fn wait_for_count(&self, text: &str, count: usize) -> String {
        let end = Instant::now() + SOON;
        let mut written = self.text.0.lock().unwrap_or_else(PoisonError::into_inner);
        while written.matches(text).count() < count {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{text:?} never came: {:?}", *written);
            written = self.text.1.wait_timeout(written, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        written.clone()
    }

    /// Whether lines are edited by the terminal itself, as they are outside the room.
    pub(crate) fn is_plain(&self) -> bool {
        tcgetattr(&self.line).expect("it is a terminal").local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.handle().signal(signal);
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        assert!(self.handle().wait(SOON), "chat does not end");
        self.child.wait().expect("chat ends").code()
    }

    fn handle(&self) -> Handle {
        Handle::open(self.child.id()).expect("a child that was not waited for has its id")
    }
}

impl Drop for PtyTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
