//! Runs commands as a person would, with a deadline, and processes that go on until they are ended.

pub mod binaries;
pub mod browser;
pub mod disk_shim;

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
pub use rustix::process::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::runtime;
use crate::eventually::SOON;

/// Timeout for a command: far more than any takes.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// How long the rest of what an ended process wrote may need through the pipe. Waited for in full only when something
/// that it left behind holds the pipe open.
const PIPE_MAX: Duration = Duration::from_secs(5);

/// Variables of this process that a command inherits: where programs and temporary files are.
const KEPT_VARIABLES: [&str; 3] = ["PATH", "TMPDIR", "TERM"];

/// A command to run.
pub struct TestCommand {
    inner: std::process::Command,
    words: Vec<String>,
    input: Vec<u8>,
}

impl TestCommand {
    /// `program` with these arguments and an empty environment, apart from [`KEPT_VARIABLES`] and UTC.
    pub fn new<S: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = S>) -> Self {
        heed_interrupts();
        let mut inner = std::process::Command::new(program);
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut words = vec![name];
        for arg in args {
            words.push(arg.as_ref().to_string_lossy().into_owned());
            inner.arg(arg);
        }
        inner.env_clear().envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        inner.env("TZ", "UTC");
        Self { inner, words, input: Vec::new() }
    }

    /// The same with an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// The same without an environment variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.inner.env_remove(name);
        self
    }

    /// The same with this on its standard input, which is empty otherwise.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// The same in this directory.
    #[must_use]
    pub fn directory(mut self, path: &Path) -> Self {
        self.inner.current_dir(path);
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started, or does not end in a minute.
    #[track_caller]
    pub fn run(mut self) -> Finished {
        let line = self.line();
        self.inner.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.inner.spawn().unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = self.input;
        thread::spawn(move || {
            // A command that does not read its input is free to close it.
            let _ = stdin.write_all(&input);
        });
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let begun = Instant::now();
        let handle = Handle::open(child.id()).unwrap_or_else(|error| panic!("cannot watch {line}: {error}"));
        if !handle.wait(COMMAND_MAX) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{line} did not end in {COMMAND_MAX:?}");
        }
        let status = child.wait().expect("a child can be waited for");
        // What it left in the background may hold the pipes: what it wrote itself is there already.
        let text = |output: Receiver<Vec<u8>>| {
            let mut bytes = Vec::new();
            while let Ok(part) = output.recv_timeout(PIPE_MAX) {
                bytes.extend(part);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Finished { line, status, stdout: text(stdout), stderr: text(stderr), took: begun.elapsed() }
    }

    /// Starts it and lets it run.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let line = self.line();
        self.inner.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.inner.spawn().unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Running { line, child, stdout, stderr, seen: Vec::new() }
    }

    /// The command as the standard library has it.
    pub fn into_inner(self) -> std::process::Command {
        self.inner
    }

    /// As it would be typed.
    pub fn line(&self) -> String {
        let word = |word: &String| {
            let bare = |c: char| c.is_alphanumeric() || "_-./:=@%+,".contains(c);
            if word.chars().all(bare) && !word.is_empty() { word.clone() } else { format!("'{word}'") }
        };
        self.words.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Has commands end at Ctrl-C, also where this process ignores it because a shell started it in the background. What is
/// ignored stays ignored in a child; what is handled is back at its default there.
fn heed_interrupts() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored =
            status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
        if ignored.is_some_and(|signals| signals & (1 << (Signal::INT.as_raw() - 1)) != 0) {
            let _runtime = runtime().enter();
            // The handler stays when this is dropped.
            drop(signal(SignalKind::interrupt()).expect("the handler can be set"));
        }
    });
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// As it would be typed.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Finished {
    /// Its exit code; a signal is -1.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// What it printed, when it succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout
    }

    /// What it printed, a JSON object a line, when it succeeded.
    ///
    /// # Panics
    /// When it did not, or a line is something else.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(self) -> Vec<T> {
        let line = self.line.clone();
        let read = |text: &str| match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => panic!("'{line}' printed {text}: {error}"),
        };
        self.ok().lines().map(read).collect()
    }

    /// What it said, when it failed with this code: to people, never a panic.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code(), code, "{self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
        self.stderr
    }

    /// What it said, when it failed with this code and nothing but one line, with perhaps one more of what to do next.
    ///
    /// # Panics
    /// When it ended otherwise, or said more.
    #[track_caller]
    pub fn refuses(self, code: i32) -> String {
        let told = self.to_string();
        let said = self.fails(code);
        let lines: Vec<&str> = said.lines().collect();
        let fits = match lines.as_slice() {
            [_] => true,
            [_, hint] => hint.starts_with("hint: "),
            _ => false,
        };
        assert!(fits, "an error is one line and perhaps a hint, not {told}");
        said
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' ended with {}\nstdout: {}\nstderr: {}", self.line, self.status, self.stdout, self.stderr)
    }
}

/// A process that runs until it ends or this is dropped.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output that passes `wanted`, and gives it.
    ///
    /// # Panics
    /// When none comes in time, or the output ends.
    #[track_caller]
    pub fn line(&mut self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> String {
        match self.try_line(deadline, wanted) {
            Ok(line) => line,
            Err(why) => panic!("'{}' did not print what was waited for ({why}); it printed {:?}", self.line, self.seen),
        }
    }

    /// The same, saying whether the time ran out or the output ended.
    ///
    /// # Errors
    /// As said.
    pub fn try_line(&mut self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, RecvTimeoutError> {
        let end = Instant::now() + deadline;
        loop {
            let line = self.stdout.recv_timeout(end.saturating_duration_since(Instant::now()))?;
            if wanted(&line) {
                return Ok(line);
            }
            self.seen.push(line);
        }
    }

    /// Every line on standard output until it ends.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn lines_to_end(&mut self, deadline: Duration) -> Vec<String> {
        let end = Instant::now() + deadline;
        let mut lines = Vec::new();
        loop {
            match self.stdout.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("'{}' did not end in {deadline:?}", self.line),
            }
        }
    }

    /// Waits for the next line on standard output.
    ///
    /// # Panics
    /// When none comes in time, or the output ends.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        self.line(SOON, |_| true)
    }

    /// Waits for the next line on standard error.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn next_said(&self) -> String {
        self.says(SOON, |_| true)
    }

    /// The lines on standard error that were not taken yet, of a process that has ended.
    pub fn said(&self) -> Vec<String> {
        std::iter::from_fn(|| self.stderr.recv_timeout(PIPE_MAX).ok()).collect()
    }

    /// Waits for a line on standard error that passes `wanted`, and gives it.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn says(&self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + deadline;
        let mut seen = Vec::new();
        loop {
            match self.stderr.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(why) => panic!("'{}' did not say what was waited for ({why}); it said {seen:?}", self.line),
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = pid(self.child.id()) {
            // One that has ended has no use for it.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits until it ends, and says how.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let handle = Handle::open(self.child.id()).expect("a child that was not waited for has its id");
        assert!(handle.wait(deadline), "'{}' did not end in {deadline:?}", self.line);
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that need not be a child of this one, without the danger that its id is given to another.
#[derive(Debug)]
pub struct Handle {
    pid: u32,
    fd: OwnedFd,
}

impl Handle {
    /// The process that has this id now.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(id: u32) -> io::Result<Self> {
        let pid = pid(id).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { pid: id, fd: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; one that has ended does not get it.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.fd, signal);
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits until it has ended; false when the time ran out.
    pub fn wait(&self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).expect("a deadline of seconds");
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                // A signal came: look again.
                Err(_) => continue,
            }
        }
    }
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

/// Reads a pipe on a thread, in parts: its other end may outlive the process that is waited for.
fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The lines that a pipe brings, read on a thread of its own.
pub fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
