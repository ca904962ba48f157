//! Starts, stops, kills and suspends real daemons.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::api::DaemonApi;
use crate::eventually::SOON;
use crate::home::TestHome;
use crate::netns::Space;
use crate::process::{Finished, Handle, Running};

/// Bytes of what a daemon said that are printed when it does not start.
const SAID_BYTES_MAX: u64 = 16 * 1024;

/// What a daemon is started with.
#[derive(Debug)]
pub struct StartDaemon {
    name: String,
    args: Vec<String>,
    home: TestHome,
}

impl StartDaemon {
    /// A peer that founds a room.
    pub fn found(name: &str) -> Self {
        Self { name: name.into(), args: Vec::new(), home: TestHome::new() }
    }

    /// A peer that joins a room: a ticket, or an address.
    pub fn join(name: &str, target: &str) -> Self {
        Self::found(name).args(&["--join", target])
    }

    /// The same with further arguments of `chatd start`.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// The same in this home.
    #[must_use]
    pub fn home(mut self, home: TestHome) -> Self {
        self.home = home;
        self
    }

    /// The same on a machine of its own.
    #[must_use]
    pub fn inside(mut self, space: &Arc<Space>) -> Self {
        self.home = self.home.inside(space);
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn start(self) -> Daemon {
        let mut args = vec!["--name".to_owned(), self.name.clone()];
        args.extend(self.args);
        let (child, handle) = spawn(&self.home, &args).unwrap_or_else(|why| panic!("{why}"));
        Daemon { name: self.name, home: self.home, child: Some(child), handle }
    }
}

/// A daemon, which may be down. It is killed, and its home removed, when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    home: TestHome,
    /// The child, if this process started it itself; one in the background has no parent.
    child: Option<Child>,
    handle: Handle,
}

impl Daemon {
    /// Starts the daemon of a home that has one already.
    ///
    /// # Errors
    /// What it said instead of becoming ready.
    pub fn returning(name: &str, home: TestHome) -> Result<Self, String> {
        let (child, handle) = spawn(&home, &[])?;
        Ok(Self { name: name.into(), home, child: Some(child), handle })
    }

    /// The daemon that 'chatd start' has left in the background of this home.
    ///
    /// # Panics
    /// When none runs there.
    #[track_caller]
    pub fn adopt(name: &str, home: TestHome) -> Self {
        let pid = home.api_file().expect("a daemon that runs says how it is reached").pid;
        let handle = Handle::open(pid).expect("it runs");
        Self { name: name.into(), home, child: None, handle }
    }

    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its home.
    pub fn home(&self) -> &TestHome {
        &self.home
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.handle.pid()
    }

    /// Whether its process is there.
    pub fn runs(&self) -> bool {
        !self.handle.has_ended()
    }

    /// The end of what it said on standard error.
    pub fn said(&self) -> String {
        said(&self.home)
    }

    /// Runs `chat` on it.
    ///
    /// # Panics
    /// When that does not end.
    #[track_caller]
    pub fn chat(&self, args: &[&str]) -> Finished {
        self.home.chat(args).run()
    }

    /// Runs `chatd` in its home.
    ///
    /// # Panics
    /// When that does not end.
    #[track_caller]
    pub fn chatd(&self, args: &[&str]) -> Finished {
        self.home.chatd(args).run()
    }

    /// Runs `chat` on it and lets it go on.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn chat_on(&self, args: &[&str]) -> Running {
        self.home.chat(args).spawn()
    }

    /// Its API on the Unix socket.
    pub fn api(&self) -> DaemonApi {
        self.home.api()
    }

    /// Its API over TCP, with its token.
    ///
    /// # Panics
    /// When it has none there.
    #[track_caller]
    pub fn tcp(&self) -> DaemonApi {
        DaemonApi::tcp(&self.url(), Some(&self.home.token()))
    }

    /// The URL of its API.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn url(&self) -> String {
        self.home.api_file().and_then(|file| file.url).expect("the API is offered over TCP")
    }

    /// A new ticket from it.
    ///
    /// # Panics
    /// When it gives none.
    #[track_caller]
    pub fn ticket(&self) -> String {
        self.home.ticket()
    }

    /// Ends it without any warning, as a power cut would, and waits until it is gone.
    ///
    /// # Panics
    /// When it stays.
    #[track_caller]
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Ends it with a signal, and waits until it is gone.
    ///
    /// # Panics
    /// When it stays.
    #[track_caller]
    pub fn end(&mut self, signal: Signal) {
        self.handle.signal(signal);
        self.gone();
    }

    /// Stops it in an orderly way.
    ///
    /// # Panics
    /// When it stays.
    #[track_caller]
    pub fn stop(&mut self) {
        self.chatd(&["stop"]).ok();
        self.gone();
    }

    /// Suspends its process: it falls silent while its connections stay open.
    pub fn suspend(&self) {
        self.handle.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.handle.signal(Signal::CONT);
    }

    /// Starts it again in the same home; nothing is said to it about the room.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.try_start_again().unwrap_or_else(|why| panic!("{why}"));
    }

    /// The same where it may fail.
    ///
    /// # Errors
    /// What it said instead of becoming ready.
    ///
    /// # Panics
    /// When it still runs.
    #[track_caller]
    pub fn try_start_again(&mut self) -> Result<(), String> {
        assert!(!self.runs(), "{} still runs", self.name);
        let (child, handle) = spawn(&self.home, &[])?;
        self.child = Some(child);
        self.handle = handle;
        Ok(())
    }

    /// Waits for a process that has ended by itself.
    pub fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
            self.home.forget_clock(child.id());
        }
    }

    /// Gives it another address for its next start.
    pub fn move_away(&mut self) {
        self.home.renumber();
    }

    #[track_caller]
    fn gone(&mut self) {
        assert!(self.handle.wait(SOON), "{} (pid {}) does not end", self.name, self.pid());
        // So that no zombie is left; how it ended is not asked here.
        self.reap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- end of what {} said\n{}\n---", self.name, said(&self.home));
        }
        self.handle.signal(Signal::KILL);
        self.handle.wait(Duration::from_secs(10));
        self.reap();
    }
}

/// Starts `chatd` in the foreground, so that it belongs to this process, and waits for the line that says it is ready. An
/// error is what it said instead.
fn spawn(home: &TestHome, args: &[String]) -> Result<(Child, Handle), String> {
    let mut words = vec!["start", "--foreground", "--json"];
    words.extend(args.iter().map(String::as_str));
    let mut command = home.chatd(&words).into_inner();
    let stderr = File::options().create(true).append(true).open(said_path(home)).expect("the directory is ours");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().expect("chatd was built");
    let handle = Handle::open(child.id()).expect("a child that was not waited for has its id");
    let stdout = child.stdout.take().expect("piped");
    let (sender, first) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        if let Some(line) = lines.next() {
            // The receiver is gone after the deadline.
            let _ = sender.send(line);
        }
        // A closed pipe would end the daemon at its next line.
        lines.for_each(drop);
    });
    if let Ok(line) = first.recv_timeout(SOON) {
        let ready: serde_json::Value = serde_json::from_str(&line).expect("--json prints JSON");
        assert_eq!(ready["pid"], child.id(), "{line}");
        return Ok((child, handle));
    }
    handle.signal(Signal::KILL);
    let status = child.wait().expect("a child can be waited for");
    Err(format!("chatd did not become ready ({status}); it said:\n{}\n{}", said(home), home.log_tail()))
}

fn said_path(home: &TestHome) -> PathBuf {
    home.path().with_file_name("stderr")
}

/// The end of what daemons of this home said on standard error.
fn said(home: &TestHome) -> String {
    let Ok(mut file) = File::open(said_path(home)) else { return String::new() };
    let length = fs::metadata(said_path(home)).map_or(0, |meta| meta.len());
    let mut text = Vec::new();
    let from = std::io::SeekFrom::Start(length.saturating_sub(SAID_BYTES_MAX));
    // What cannot be read is not told.
    let _ = std::io::Seek::seek(&mut file, from).and_then(|_| file.read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}
