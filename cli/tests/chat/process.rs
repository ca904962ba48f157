//! Runs the real binary: to its end, or line by line as it goes.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::fake::{DEADLINE, Fake};

/// The binary with nothing of this machine's environment.
pub(crate) fn chat(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat"));
    command.env_clear().env("TZ", "UTC").env("CHATD_HOME", home).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("output is UTF-8"),
            err: String::from_utf8(output.stderr).expect("output is UTF-8"),
        }
    }
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command) -> Ended {
    let child = command.spawn().expect("chat runs");
    let _end = end_in_time(&child);
    child.wait_with_output().expect("chat ends").into()
}

/// Kills the child at the deadline, unless what this gives is dropped before; it has no exit code then.
#[must_use]
pub(crate) fn end_in_time(child: &Child) -> Sender<()> {
    let pid = Pid::from_child(child);
    let (sender, receiver) = channel::<()>();
    thread::spawn(move || {
        if receiver.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    sender
}

/// Runs to the end with nothing on standard input.
pub(crate) fn run(fake: &Fake, arguments: &[&str]) -> Ended {
    finish(chat(fake.path(), arguments))
}

/// Runs to the end with this on standard input.
pub(crate) fn run_with_input(fake: &Fake, arguments: &[&str], input: &[u8]) -> Ended {
    let mut child = chat(fake.path(), arguments).stdin(Stdio::piped()).spawn().expect("chat runs");
    let _end = end_in_time(&child);
    // It may end without reading all of it.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("chat ends").into()
}

/// A run that goes on; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    pub(crate) fn start(fake: &Fake, arguments: &[&str]) -> Self {
        let mut child = chat(fake.path(), arguments).spawn().expect("chat runs");
        let out = lines(child.stdout.take().expect("piped"));
        let err = lines(child.stderr.take().expect("piped"));
        Self { child, out, err }
    }

    /// The next line of standard output.
    pub(crate) fn line(&self) -> String {
        self.out.recv_timeout(DEADLINE).expect("a line comes in time")
    }

    /// The next line of standard error.
    pub(crate) fn talk(&self) -> String {
        self.err.recv_timeout(DEADLINE).expect("a line comes in time")
    }

    /// Whether nothing more has been printed.
    pub(crate) fn is_silent(&self) -> bool {
        self.out.recv_timeout(Duration::from_millis(1)).is_err()
    }

    pub(crate) fn exit_code(mut self) -> Option<i32> {
        let _end = end_in_time(&self.child);
        self.child.wait().expect("chat ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
