//! Runs the real `chat` on a fake daemon: to its end, or line by line as it goes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use chat_tests::eventually::SOON;
use chat_tests::process::binaries::binaries;
use chat_tests::process::{Finished, Handle, Running, Signal, TestCommand};

use crate::fake::Fake;

/// `chat` in this home.
pub(crate) fn chat(home: &Path, arguments: &[&str]) -> TestCommand {
    TestCommand::new(&binaries().chat, arguments).env("HOME", home).env("CHATD_HOME", home)
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunResult {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Finished> for RunResult {
    fn from(finished: Finished) -> Self {
        Self { code: finished.status.code(), out: finished.stdout, err: finished.stderr }
    }
}

/// Runs to the end with nothing on standard input.
pub(crate) fn run(fake: &Fake, arguments: &[&str]) -> RunResult {
    run_with_input(fake, arguments, b"")
}

/// Runs to the end with this on standard input.
pub(crate) fn run_with_input(fake: &Fake, arguments: &[&str], input: &[u8]) -> RunResult {
    chat(fake.path(), arguments).input(input).run().into()
}

/// A run that goes on; it is killed when this is dropped.
pub(crate) fn spawn(fake: &Fake, arguments: &[&str]) -> Running {
    chat(fake.path(), arguments).spawn()
}

/// Reads this many lines of what a run prints, closes its standard output and waits for its end: the last line, and how it
/// ended.
pub(crate) fn read_and_leave(fake: &Fake, arguments: &[&str], lines: usize) -> (String, RunResult) {
    let mut command = chat(fake.path(), arguments).into_inner();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("chat runs");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let line = output.lines().nth(lines - 1).expect("a line").expect("text");
    (line, finish(child))
}

/// Waits for the end of a process; it is killed at the deadline, and has no exit code then.
pub(crate) fn finish(child: Child) -> RunResult {
    let handle = Handle::open(child.id()).expect("a child that was not waited for has its id");
    if !handle.wait(SOON) {
        handle.signal(Signal::KILL);
    }
    let output = child.wait_with_output().expect("a child can be waited for");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    RunResult { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
