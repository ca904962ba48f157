//! A terminal in memory in which `chat` runs: what it writes goes through a terminal emulator, keys go in as bytes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chat_tests::eventually::SOON;
use chat_tests::home::TestHome;
use chat_tests::process::{Handle, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// The emulator, and all bytes that went into it.
struct Emulator {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

/// The terminal and the program in it.
pub(crate) struct TestTerminal {
    child: Child,
    keys: File,
    line: File,
    shared: Arc<(Mutex<Emulator>, Condvar)>,
}

impl TestTerminal {
    /// Runs `chat` in this home, in a terminal of that many columns and rows.
    pub(crate) fn open(home: &TestHome, columns: u16, rows: u16) -> Self {
        Self::run(home, "exec chat", columns, rows, &[("TERM", "xterm-256color")])
    }

    /// Runs a shell script in this home, with the terminal as its controlling one.
    pub(crate) fn run(home: &TestHome, script: &str, columns: u16, rows: u16, variables: &[(&str, &str)]) -> Self {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&main).and_then(|()| unlockpt(&main)).expect("ours");
        let name = ptsname(&main, Vec::new()).expect("it has a name").into_string().expect("a plain path");
        let line = OpenOptions::new().read(true).write(true).open(name).expect("its other end");
        set_size(&line, columns, rows);
        let mut command = home.shell(&format!("exec setsid --ctty bash -c '{script}'"));
        for (name, value) in variables {
            command = command.env(name, value);
        }
        let end = || Stdio::from(line.try_clone().expect("a descriptor is free"));
        let child = command.into_inner().stdin(end()).stdout(end()).stderr(end()).spawn().expect("bash runs");
        let keys = File::from(main);
        let parser = parser(columns, rows);
        let shared = Arc::new((Mutex::new(Emulator { parser, bytes: Vec::new() }), Condvar::new()));
        let (mut screen, kept) = (keys.try_clone().expect("a descriptor is free"), Arc::clone(&shared));
        thread::spawn(move || {
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let mut emulator = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
                emulator.parser.process(&bytes[..count]);
                emulator.bytes.extend_from_slice(&bytes[..count]);
                kept.1.notify_all();
            }
        });
        Self { child, keys, line, shared }
    }

    /// Process id of the program.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Presses keys, given as the bytes that a terminal sends.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Pastes a text as terminals do that bracket it.
    pub(crate) fn paste(&mut self, text: &str) {
        self.press(&format!("\x1b[200~{text}\x1b[201~"));
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let mut emulator = self.emulator();
        emulator.parser = parser(columns, rows);
        emulator.parser.process(b"\x1b[?1049h\x1b[?2004h");
        set_size(&self.line, columns, rows);
    }

    /// The text on the screen.
    pub(crate) fn screen(&self) -> String {
        self.emulator().parser.screen().contents()
    }

    /// What `read` makes of the cells of a line on the screen.
    #[allow(dead_code, reason = "the captures use it, tests look at text")]
    pub(crate) fn cells<T>(&self, row: u16, columns: u16, read: impl FnOnce(&[&vt100::Cell]) -> T) -> T {
        let emulator = self.emulator();
        let cells = (0..columns).filter_map(|column| emulator.parser.screen().cell(row, column));
        read(&cells.collect::<Vec<_>>())
    }

    /// The lines on the screen.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.screen().lines().map(str::to_owned).collect()
    }

    /// Whether the whole screen is the program's, and pastes are bracketed.
    pub(crate) fn is_taken(&self) -> bool {
        let emulator = self.emulator();
        emulator.parser.screen().alternate_screen() && emulator.parser.screen().bracketed_paste()
    }

    /// Whether pastes are bracketed.
    pub(crate) fn brackets_pastes(&self) -> bool {
        self.emulator().parser.screen().bracketed_paste()
    }

    /// Whether lines are edited by the terminal itself, as they are outside the program.
    pub(crate) fn is_plain(&self) -> bool {
        tcgetattr(&self.line).expect("it is a terminal").local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Whether these bytes were written.
    pub(crate) fn has_written(&self, bytes: &str) -> bool {
        let emulator = self.emulator();
        emulator.bytes.windows(bytes.len()).any(|window| window == bytes.as_bytes())
    }

    /// Waits until `text` is on the screen, and gives the screen.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) -> String {
        self.wait(&format!("shows {text:?}"), SOON, |terminal| terminal.parser.screen().contents().contains(text))
    }

    /// Waits until `text` is no longer on the screen, and gives the screen.
    #[track_caller]
    pub(crate) fn hides(&self, text: &str) -> String {
        self.wait(&format!("hides {text:?}"), SOON, |terminal| !terminal.parser.screen().contents().contains(text))
    }

    /// Waits until something else is on the screen, and gives that.
    #[track_caller]
    pub(crate) fn changes(&self, screen: &str) -> String {
        self.wait("changes", SOON, |terminal| terminal.parser.screen().contents() != screen)
    }

    /// Waits until these bytes were written.
    #[track_caller]
    pub(crate) fn writes(&self, bytes: &str) {
        self.wait(&format!("writes {bytes:?}"), SOON, |terminal| {
            terminal.bytes.windows(bytes.len()).any(|window| window == bytes.as_bytes())
        });
    }

    #[track_caller]
    fn wait(&self, what: &str, longest: Duration, holds: impl Fn(&Emulator) -> bool) -> String {
        let end = Instant::now() + longest;
        let mut emulator = self.emulator();
        while !holds(&emulator) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the terminal never {what}:\n{}", emulator.parser.screen().contents());
            emulator = self.shared.1.wait_timeout(emulator, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        emulator.parser.screen().contents()
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, signal: Signal) {
        self.handle().signal(signal);
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        assert!(self.handle().wait(SOON), "chat does not end:\n{}", self.screen());
        self.child.wait().expect("chat ends").code()
    }

    fn handle(&self) -> Handle {
        Handle::open(self.pid()).expect("a child that was not waited for has its id")
    }

    fn emulator(&self) -> MutexGuard<'_, Emulator> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TestTerminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the terminal\n{}\n---", self.screen());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parser(columns: u16, rows: u16) -> vt100::Parser {
    let size = |number: u16| std::num::NonZeroU16::new(number).expect("a screen has a size");
    vt100::Parser::new(size(rows), size(columns), 0)
}

fn set_size(line: impl AsFd, columns: u16, rows: u16) {
    tcsetwinsize(line, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
}
