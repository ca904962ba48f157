//! `cargo demo` runs its story, checks it, and leaves no process and no file behind, also when it is interrupted.

use std::fs;
use std::path::Path;
use std::time::Duration;

use chat_tests::eventually::{SOON, eventually};
use chat_tests::process::binaries::{BINARIES_VARIABLE, binaries};
use chat_tests::process::{Signal, TestCommand};

/// Processes that say this directory's name in their command line or environment.
fn processes_with(directory: &Path) -> Vec<String> {
    let name = directory.to_str().expect("text").as_bytes().to_vec();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("Linux").filter_map(Result::ok) {
        let told = ["cmdline", "environ"].map(|file| fs::read(entry.path().join(file)).unwrap_or_default());
        if told.iter().any(|text| text.windows(name.len()).any(|part| part == name)) {
            found.push(String::from_utf8_lossy(&told[0]).replace('\0', " "));
        }
    }
    found
}

fn demo(directory: &Path) -> TestCommand {
    // Built before, so that the story's time is its own.
    let binaries = &binaries().directory;
    TestCommand::new(Path::new(env!("CARGO_BIN_EXE_demo")), [""; 0])
        .env("TMPDIR", directory)
        .env(BINARIES_VARIABLE, binaries)
}

#[track_caller]
fn nothing_is_left(directory: &Path) {
    assert_eq!(fs::read_dir(directory).expect("our own").count(), 0, "files are left");
    eventually(SOON, "no process is left", || match processes_with(directory) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:#?}")),
    });
}

#[test]
fn demo_runs_its_story() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let told = demo(directory.path()).run().ok();
    for expected in [
        "1. Alice opens a room",
        "chatd start --name bob --join chat1",
        "✓ bob reads it, carol does not",
        "is the rendezvous now",
        "Done: ",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    assert!(!told.contains('✗') && !told.contains('\x1b'), "{told}");
    nothing_is_left(directory.path());
}

#[test]
fn interrupted_demo_ends_all_that_it_started() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut running = demo(directory.path()).spawn();
    running.line(Duration::from_secs(60), |line| line.starts_with("2. "));
    running.signal(Signal::INT);
    assert_eq!(running.wait(Duration::from_secs(60)).code(), Some(1));
    nothing_is_left(directory.path());
}
