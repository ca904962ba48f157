//! The daemon's process: takes the home, logs, runs on threads of its own, and ends when its life does or its time is
//! over.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::life::failure::Failure;
use crate::life::join::{self, Company, HomeRoom};
use crate::life::lock::HomeLock;
use crate::life::plan::{Described, Plan};
use crate::life::report::Started;
use crate::life::shell;
use crate::life::shutdown::{Stop, StopReason};
use crate::life::takeover::{self, Taken};
use crate::life::telemetry::{self, Streams};
use crate::life::voice::Voice;

/// Threads that run tasks: one for the room, one for everybody else. The store has threads of its own.
const WORKERS: usize = 2;

/// How long tasks that are left over may take to notice their end.
const TASKS_MAX: Duration = Duration::from_millis(500);

/// Why a daemon does not work, or no longer.
#[derive(Debug, thiserror::Error)]
enum DaemonError {
    /// The log cannot be written.
    #[error("cannot write the log {path}")]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system refuses threads, timers or signals.
    #[error("the system gives this process no threads, timers or signals")]
    System(#[source] io::Error),
    /// Something in it broke.
    #[error("a part of the daemon failed, so it stopped: see '{0}'")]
    Broken(String),
}

/// Runs a daemon to its end, or finds that one runs already. For the main thread.
///
/// # Errors
/// What it failed with; what it opened is closed again.
pub(crate) fn run(plan: Plan, voice: Voice) -> Result<(), Failure> {
    // What libraries create is private as well.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = runtime()?;
    let lock = match runtime.block_on(takeover::take(&plan.home)) {
        Ok(Taken::Ours(lock)) => lock,
        Ok(Taken::Theirs(started)) => return found(&plan, *started, voice),
        Err(error) => return fail(Failure::refused(&error), voice),
    };
    if let Err(failure) = log(&plan, &voice) {
        return fail(failure, voice);
    }
    let (stop, milestones) = Stop::new();
    stop.on_panic();
    let live_and_end = move || {
        let result = runtime.block_on(live(&plan, lock, voice, &stop));
        runtime.shutdown_timeout(TASKS_MAX);
        stop.ended(result);
    };
    let spawned = std::thread::Builder::new().name("chatd-life".into()).spawn(live_and_end);
    spawned.map_err(|error| Failure::refused(&DaemonError::System(error)))?;
    // The main thread is free to end the process should that thread hang.
    let result = milestones.wait();
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(failure) => tracing::error!("{}", failure.message),
    }
    result
}

fn runtime() -> Result<Runtime, Failure> {
    let built = Builder::new_multi_thread().worker_threads(WORKERS).thread_name("chatd").enable_all().build();
    built.map_err(|error| Failure::refused(&DaemonError::System(error)))
}

fn log(plan: &Plan, voice: &Voice) -> Result<(), Failure> {
    match voice {
        Voice::People { .. } => telemetry::log_to_stderr(&plan.settings.log),
        Voice::Parent { .. } => {
            let path = plan.home.log();
            telemetry::log_to_file(&plan.settings.log, &path, Streams::FollowLog)
                .map_err(|source| Failure::refused(&DaemonError::Log { path, source }))?;
        }
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), home = %plan.home.root().display(), "starting");
    Ok(())
}

fn fail(failure: Failure, voice: Voice) -> Result<(), Failure> {
    voice.failed(&failure);
    Err(failure)
}

/// Another daemon has the home and runs well: that is what was wanted, unless another room was.
fn found(plan: &Plan, mut started: Started, voice: Voice) -> Result<(), Failure> {
    if let Some(target) = &plan.join {
        let company = if started.members > 1 { Company::Others } else { Company::Alone };
        let room = HomeRoom { id: started.room.id, name: started.room.name.clone(), company };
        match join::check(target, &room, &plan.home) {
            Ok(note) => started.notes.extend(note),
            Err(error) => return fail(Failure::refused(&error), voice),
        }
    }
    if plan.describes_room == Described::Yes {
        started
            .notes
            .push(format!("the room '{}' exists already: --room and --open are for new ones", started.room.name));
    }
    if let Some(name) = plan.rename.as_ref().filter(|name| **name != started.peer.name) {
        let rename = plan.home.command(&format!("chat name {name}"));
        started.notes.push(format!("this peer goes by '{}': '{rename}' changes that", started.peer.name));
    }
    voice.ready(started, &plan.home);
    Ok(())
}

/// The daemon's life, from the lock on.
async fn live(plan: &Plan, mut lock: HomeLock, voice: Voice, stop: &Stop) -> Result<(), Failure> {
    let result = match stop.on_signals() {
        Ok(()) => shell::live(plan, &mut lock, voice, stop).await,
        Err(error) => fail(Failure::refused(&DaemonError::System(error)), voice),
    };
    lock.keep();
    match stop.reason() {
        // Whoever watches the process starts it again.
        Some(StopReason::Panic | StopReason::PartEnded) => {
            result.and(Err(Failure::refused(&DaemonError::Broken(plan.home.command("chatd logs")))))
        }
        Some(StopReason::Asked | StopReason::Left | StopReason::ParentGone | StopReason::Signal) | None => result,
    }
}
