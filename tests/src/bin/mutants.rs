//! `cargo run -p chat-tests --bin mutants`: breaks the source on purpose, one place at a time, and fails unless a test notices.
//!
//! The sources are copied to a temporary directory and each mutant is patched into the copy by exact replacement of a text,
//! which must be there once: a mutant whose text is gone fails, and has to be written anew. Then the test that is to notice it
//! runs against the copy; before that it has to pass on the unchanged copy, or its failure would show nothing. Mutants have a
//! build directory of their own, so that no build of the workspace replaces their test programs while they run.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process_group};

/// How long the tests may take that are to notice a mutant.
const TEST_MAX: Duration = Duration::from_secs(10 * 60);

/// Breaks the source on purpose and runs the test that is to notice it.
#[derive(Debug, Parser)]
struct MutantArgs {
    /// Runs only the mutants whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// Runs at most this number of seeds of a simulation for each mutant, 1 to 10000
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    seeds: u32,
}

/// A defect.
struct Mutant {
    name: &'static str,
    file: &'static str,
    text: &'static str,
    instead: &'static str,
    noticed_by: Noticer,
}

/// The tests that have to fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Noticer {
    /// The simulation of rooms with harsh faults, within the seeds of the command line.
    Simulation,
    /// The same of rooms with hostile members.
    HostileSimulation,
    /// All tests of a package whose names contain a text.
    Tests { package: &'static str, names: &'static str },
}

const MUTANTS: [Mutant; 11] = [
    Mutant {
        name: "acknowledged before it is written",
        file: "daemon/core/src/node/persist.rs",
        text: "        self.cx.push(Output::Persist(batch));\n",
        instead: "        let id = batch.id;\n        self.cx.push(Output::Persist(batch));\n        self.on_persisted(id);\n",
        noticed_by: Noticer::Simulation,
    },
    Mutant {
        name: "dependencies ignored",
        file: "daemon/core/src/log/heads.rs",
        text: "header.deps.iter().find(waited_for)",
        instead: "header.deps.iter().filter(|_| false).find(waited_for)",
        noticed_by: Noticer::Simulation,
    },
    Mutant {
        name: "vector without head hash",
        file: "daemon/core/src/node/frames.rs",
        text: "own.is_some_and(|own| own.seq == head.seq)",
        instead: "own.is_some_and(|_| false)",
        noticed_by: Noticer::Tests { package: "chat-core", names: "node::tests::forks" },
    },
    Mutant {
        name: "fork hides what was shown before it",
        file: "daemon/core/src/log/heads.rs",
        text: "if entry.begins() { parent() } else { None }",
        instead: "if entry.begins() && entry.seq() == Seq::ZERO { parent() } else { None }",
        noticed_by: Noticer::Tests { package: "chat-core", names: "node::tests::forks" },
    },
    Mutant {
        name: "clock taken over",
        file: "daemon/core/src/log/local.rs",
        text: "heads.newest_label(dates_end(now))",
        instead: "heads.newest_label(Hlc(u64::MAX))",
        noticed_by: Noticer::Tests { package: "chat-core", names: "node::tests::clocks" },
    },
    Mutant {
        name: "cut apart from its entry",
        file: "daemon/core/src/log/disk.rs",
        text: "let changes = std::mem::take(&mut self.changes);",
        instead: "let later = own.is_some() || !received.is_empty();\n        \
                  let changes = if later { Changes::default() } else { std::mem::take(&mut self.changes) };",
        noticed_by: Noticer::Simulation,
    },
    Mutant {
        name: "wants of a lost connection not moved to others",
        file: "daemon/core/src/delivery/sync.rs",
        text: "self.sync.wants.iter().filter(|(_, want)| want.peer == *peer).map(|(log, _)| *log).collect();",
        instead: "self.sync.wants.iter().filter(|_| false).map(|(log, _)| *log).collect();",
        noticed_by: Noticer::Tests { package: "chat-core", names: "peer_that_is_lost_is_asked_of_another" },
    },
    Mutant {
        name: "cursor off by one",
        file: "daemon/src/store/tables/events.rs",
        text: "WHERE e.id > ? AND (e.data",
        instead: "WHERE e.id >= ? AND (e.data",
        noticed_by: Noticer::Tests { package: "chatd", names: "store::tests::following" },
    },
    Mutant {
        name: "order used up by one entry",
        file: "daemon/core/src/log/heads.rs",
        text: "> self.order_end() => Fit::Ahead",
        instead: "> Hlc(u64::MAX) => Fit::Ahead",
        noticed_by: Noticer::HostileSimulation,
    },
    Mutant {
        name: "log too many is valid in part",
        file: "daemon/core/src/membership/derive.rs",
        text: "if !counts && (ended || self.is_crowded(&position.log, controls)) {",
        instead: "if !counts && ended {",
        noticed_by: Noticer::Tests { package: "chat-core", names: "what_is_written_in_a_log_too_many" },
    },
    Mutant {
        name: "idempotency key not stored",
        file: "daemon/src/store/tables/entries.rs",
        text: "origin.and_then(|command| keys.get(command)) {",
        instead: "origin.and_then(|command| keys.get(command)).filter(|_| false) {",
        noticed_by: Noticer::Tests { package: "chatd", names: "store::tests::persist" },
    },
];

/// What became of a mutant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A test failed, as it has to.
    Noticed,
    /// All tests passed.
    Survived,
    /// It does not compile.
    Broken,
    /// What it replaces is not in the source, or more than once.
    Gone,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Noticed => "noticed",
            Self::Survived => "SURVIVED: no test notices it",
            Self::Broken => "BROKEN: it does not compile",
            Self::Gone => "GONE: its text is not in the source once, write it anew",
        })
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new(".")).to_owned()
}

/// Where the mutants are built: in the workspace's build directory, unless `CARGO_TARGET_DIR` names another one.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from).join("mutants")
}

/// Copies the files that git knows of.
fn copy_sources(from: &Path, to: &Path) -> io::Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(from).output()?;
    for name in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|name| !name.is_empty()) {
        let (source, copy) = (from.join(name), to.join(name));
        if source.is_file() {
            std::fs::create_dir_all(copy.parent().unwrap_or(to))?;
            std::fs::copy(source, copy)?;
        }
    }
    Ok(())
}

/// What cargo does.
#[derive(Clone, Copy)]
enum CargoStep {
    Build,
    Test,
}

/// Runs cargo on the copy; its output is dropped. A test that does not end fails: a mutant may never come to an end.
fn cargo(copy: &Path, noticer: Noticer, seeds: u32, step: CargoStep) -> io::Result<bool> {
    let (package, names) = match noticer {
        Noticer::Simulation => ("chat-core", "room_with_harsh_faults"),
        Noticer::HostileSimulation => ("chat-core", "room_with_hostile_members"),
        Noticer::Tests { package, names } => (package, names),
    };
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet", "--offline", "--package", package, "--lib"]);
    match step {
        CargoStep::Build => cargo.arg("--no-run"),
        CargoStep::Test => cargo.arg(names),
    };
    cargo.current_dir(copy).env("CARGO_TARGET_DIR", target_dir());
    if matches!(noticer, Noticer::Simulation | Noticer::HostileSimulation) {
        cargo.env("CHAT_SEEDS", seeds.to_string());
    }
    // The group has the test program, too.
    cargo.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (mut cargo, begun) = (cargo.spawn()?, Instant::now());
    loop {
        if let Some(status) = cargo.try_wait()? {
            return Ok(status.success());
        }
        if matches!(step, CargoStep::Test) && begun.elapsed() > TEST_MAX {
            kill_process_group(Pid::from_child(&cargo), Signal::KILL)?;
            return cargo.wait().map(|_| false);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Whether the copy compiles, and whether its tests pass.
fn build_and_test(copy: &Path, noticer: Noticer, seeds: u32) -> io::Result<(bool, bool)> {
    let builds = cargo(copy, noticer, seeds, CargoStep::Build)?;
    Ok((builds, builds && cargo(copy, noticer, seeds, CargoStep::Test)?))
}

fn try_out(mutant: &Mutant, copy: &Path, seeds: u32) -> io::Result<Fate> {
    let file = copy.join(mutant.file);
    let source = std::fs::read_to_string(&file)?;
    if source.matches(mutant.text).count() != 1 {
        return Ok(Fate::Gone);
    }
    std::fs::write(&file, source.replace(mutant.text, mutant.instead))?;
    let (builds, passes) = build_and_test(copy, mutant.noticed_by, seeds)?;
    std::fs::write(&file, source)?;
    Ok(match (builds, passes) {
        (false, _) => Fate::Broken,
        (true, true) => Fate::Survived,
        (true, false) => Fate::Noticed,
    })
}

fn main() -> io::Result<ExitCode> {
    let MutantArgs { only, seeds } = MutantArgs::parse();
    let copy = tempfile::Builder::new().prefix("chat-mutants-").tempdir()?;
    copy_sources(&workspace(), copy.path())?;
    let mut failed = false;
    let mut sound: Vec<Noticer> = Vec::new();
    for mutant in MUTANTS.iter().filter(|mutant| mutant.name.contains(&only)) {
        if !sound.contains(&mutant.noticed_by) {
            if !build_and_test(copy.path(), mutant.noticed_by, seeds)?.1 {
                let reason = format!("the test that is to notice '{}' fails without it", mutant.name);
                return Err(io::Error::other(reason));
            }
            sound.push(mutant.noticed_by);
        }
        let fate = try_out(mutant, copy.path(), seeds)?;
        writeln!(io::stdout(), "{}: {fate}", mutant.name)?;
        failed |= fate != Fate::Noticed;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutant_fits_its_source() {
        for mutant in &MUTANTS {
            let source = std::fs::read_to_string(workspace().join(mutant.file)).expect("the file is there");
            assert_eq!(source.matches(mutant.text).count(), 1, "{}: {}", mutant.name, mutant.file);
        }
    }
}
