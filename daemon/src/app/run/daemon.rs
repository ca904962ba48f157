//! The daemon's process: takes the home, logs, runs on threads of its own, and ends when its life does or its time is
//! over.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::app::home::acquire_home::{self, HomeAccess};
use crate::app::home::lock::HomeLock;
use crate::app::report::exit_error::ExitError;
use crate::app::report::logging::{self, Streams};
use crate::app::report::readiness::StartReporter;
use crate::app::report::startup_report::Started;
use crate::app::run::join::{self, HomeRoom, Occupancy};
use crate::app::run::services;
use crate::app::run::shutdown::{StopHandle, StopReason};
use crate::app::settings::start_options::{RoomDescription, StartOptions};

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
pub(crate) fn run(plan: StartOptions, voice: StartReporter) -> Result<(), ExitError> {
    // What libraries create is private as well.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = runtime()?;
    let lock = match runtime.block_on(acquire_home::acquire(&plan.home)) {
        Ok(HomeAccess::Ours(lock)) => lock,
        Ok(HomeAccess::Theirs(started)) => return found(&plan, *started, voice),
        Err(error) => return fail(ExitError::refused(&error), voice),
    };
    if let Err(failure) = log(&plan, &voice) {
        return fail(failure, voice);
    }
    let (stop, milestones) = StopHandle::new();
    stop.on_panic();
    let live_and_end = move || {
        let result = runtime.block_on(live(&plan, lock, voice, &stop));
        runtime.shutdown_timeout(TASKS_MAX);
        stop.ended(result);
    };
    let spawned = std::thread::Builder::new().name("chatd-life".into()).spawn(live_and_end);
    spawned.map_err(|error| ExitError::refused(&DaemonError::System(error)))?;
    // The main thread is free to end the process should that thread hang.
    let result = milestones.wait();
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(failure) => tracing::error!("{}", failure.message),
    }
    result
}

fn runtime() -> Result<Runtime, ExitError> {
    let built = Builder::new_multi_thread().worker_threads(WORKERS).thread_name("chatd").enable_all().build();
    built.map_err(|error| ExitError::refused(&DaemonError::System(error)))
}

fn log(plan: &StartOptions, voice: &StartReporter) -> Result<(), ExitError> {
    match voice {
        StartReporter::People { .. } => logging::log_to_stderr(&plan.settings.log),
        StartReporter::Parent { .. } => {
            let path = plan.home.log();
            logging::log_to_file(&plan.settings.log, &path, Streams::FollowLog)
                .map_err(|source| ExitError::refused(&DaemonError::Log { path, source }))?;
        }
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), home = %plan.home.root().display(), "starting");
    Ok(())
}

fn fail(failure: ExitError, voice: StartReporter) -> Result<(), ExitError> {
    voice.failed(&failure);
    Err(failure)
}

/// Another daemon has the home and runs well: that is what was wanted, unless another room was.
fn found(plan: &StartOptions, mut started: Started, voice: StartReporter) -> Result<(), ExitError> {
    if let Some(target) = &plan.join {
        let company = if started.members > 1 { Occupancy::Others } else { Occupancy::Alone };
        let room = HomeRoom { id: started.room.id, name: started.room.name.clone(), company };
        match join::check(target, &room, &plan.home) {
            Ok(note) => started.notes.extend(note),
            Err(error) => return fail(ExitError::refused(&error), voice),
        }
    }
    if plan.describes_room == RoomDescription::Yes {
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
async fn live(
    plan: &StartOptions,
    mut lock: HomeLock,
    voice: StartReporter,
    stop: &StopHandle,
) -> Result<(), ExitError> {
    let result = match stop.on_signals() {
        Ok(()) => services::live(plan, &mut lock, voice, stop).await,
        Err(error) => fail(ExitError::refused(&DaemonError::System(error)), voice),
    };
    lock.keep();
    match stop.reason() {
        // Whoever watches the process starts it again.
        Some(StopReason::Panic | StopReason::PartEnded) => {
            result.and(Err(ExitError::refused(&DaemonError::Broken(plan.home.command("chatd logs")))))
        }
        Some(StopReason::Asked | StopReason::Left | StopReason::ParentGone | StopReason::Signal) | None => result,
    }
}
