//! The daemon's process, from its first line of log to its exit code.
//!
//! [`run`] is called on the main thread by `chatd start --foreground` and by the process that `chatd start` leaves in the
//! background. In order: it builds the runtime, acquires the home (or reports the daemon that already uses it), opens the
//! log, installs the handlers of panics and signals, and starts a thread on which [`services`] runs everything else.
//!
//! The main thread then only waits, so that it can end the process even if that thread hangs: `shutdown` sets the
//! deadline. The home's lock is kept until the process has ended, because other processes take its release for the end.
//!
//! A daemon that stops because a task panicked or a part failed exits with an error, so that a supervisor restarts it;
//! one that was asked to stop exits with 0. Whatever fails before the daemon is ready is reported to the process that
//! waits for it ([`StartReporter`]) as well as returned.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use chat_proto::api::members::{JoinRequest, Joined};
use tokio::runtime::{Builder, Runtime};

use crate::app::api;
use crate::app::home::acquire_home::{self, HomeAccess};
use crate::app::home::lock::HomeLock;
use crate::app::report::exit_error::ExitError;
use crate::app::report::logging::{self, Streams};
use crate::app::report::readiness::StartReporter;
use crate::app::report::startup_report::Started;
use crate::app::run::join::{self, HomeRoom, JoinDecision, Occupancy};
use crate::app::run::services;
use crate::app::run::shutdown::{StopHandle, StopReason};
use crate::app::settings::start_options::{RoomDescription, StartOptions};

/// Number of threads that run tasks: one for the room, one for the rest. The store has threads of its own.
const WORKERS: usize = 2;

/// Timeout for tasks that are left over to notice the shutdown.
const TASKS_MAX: Duration = Duration::from_millis(500);

/// Why the daemon did not start, or stopped. What was stored is safe; a retry may help.
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
    /// A task panicked or a part failed.
    #[error("a part of the daemon failed, so it stopped: see '{0}'")]
    Broken(String),
}

/// Runs the daemon to its end, or reports the one that is already running. Must be called on the main thread.
///
/// # Errors
/// What it failed with; everything it opened is closed.
pub(crate) fn run(plan: StartOptions, reporter: StartReporter) -> Result<(), ExitError> {
    // Files that libraries create are private, too.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = runtime()?;
    let lock = match runtime.block_on(acquire_home::acquire(&plan.home)) {
        Ok(HomeAccess::Ours(lock)) => lock,
        Ok(HomeAccess::Theirs(started)) => return found(&plan, *started, &runtime, reporter),
        Err(error) => return fail(ExitError::refused(&error), reporter),
    };
    if let Err(failure) = log(&plan, &reporter) {
        return fail(failure, reporter);
    }
    let (stop, milestones) = StopHandle::new();
    stop.on_panic();
    let run_and_end = move || {
        let result = runtime.block_on(run_services(&plan, lock, reporter, &stop));
        runtime.shutdown_timeout(TASKS_MAX);
        stop.ended(result);
    };
    let spawned = std::thread::Builder::new().name("chatd-run".into()).spawn(run_and_end);
    spawned.map_err(|error| ExitError::refused(&DaemonError::System(error)))?;
    // The main thread stays free to end the process should that thread hang.
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

fn log(plan: &StartOptions, reporter: &StartReporter) -> Result<(), ExitError> {
    match reporter {
        StartReporter::Terminal { .. } => logging::log_to_stderr(&plan.settings.log),
        StartReporter::Parent { .. } => {
            let path = plan.home.log();
            logging::log_to_file(&plan.settings.log, &path, Streams::FollowLog)
                .map_err(|source| ExitError::refused(&DaemonError::Log { path, source }))?;
        }
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), home = %plan.home.root().display(), "starting");
    Ok(())
}

fn fail(failure: ExitError, reporter: StartReporter) -> Result<(), ExitError> {
    reporter.failed(&failure);
    Err(failure)
}

/// Reports the daemon that already uses the home: a success, unless another room was asked for and it cannot move there.
fn found(
    plan: &StartOptions,
    mut started: Started,
    runtime: &Runtime,
    reporter: StartReporter,
) -> Result<(), ExitError> {
    if let Some(target) = &plan.join {
        let occupancy = if started.members > 1 { Occupancy::Shared } else { Occupancy::Alone };
        let room = HomeRoom { id: started.room.id, name: started.room.name.clone(), occupancy };
        match join::check(target, &room, &plan.home) {
            Ok(JoinDecision::Stays(note)) => started.notes.extend(note),
            Ok(JoinDecision::Moves) => {
                let request = JoinRequest { target: target.as_given(), name: plan.rename.clone() };
                let client = api::client(&plan.home);
                match runtime.block_on(client.join_with_words(&request, |words| reporter.knocking(words))) {
                    Ok(Joined { room: there }) => {
                        started.notes.push(join::moved_from(&started.room.name));
                        started.room = there;
                    }
                    Err(error) => return fail(error.into(), reporter),
                }
            }
            Err(error) => return fail(ExitError::refused(&error), reporter),
        }
    }
    if plan.describes_room == RoomDescription::Yes {
        started.notes.push(format!(
            "the room '{}' already exists: --room and --open apply to a new room only",
            started.room.name
        ));
    }
    if let Some(name) = plan.rename.as_ref().filter(|name| **name != started.peer.name) {
        let rename = plan.home.command(&format!("chat name {name}"));
        started.notes.push(format!("this peer is called '{}': rename it with '{rename}'", started.peer.name));
    }
    reporter.ready(started, &plan.home);
    Ok(())
}

/// Runs the services until they end, then decides how the process ends.
async fn run_services(
    plan: &StartOptions,
    mut lock: HomeLock,
    reporter: StartReporter,
    stop: &StopHandle,
) -> Result<(), ExitError> {
    let result = match stop.on_signals() {
        Ok(()) => services::run(plan, &mut lock, reporter, stop).await,
        Err(error) => fail(ExitError::refused(&DaemonError::System(error)), reporter),
    };
    lock.keep();
    match stop.reason() {
        // An error, so that a supervisor restarts the process.
        Some(StopReason::Panic | StopReason::PartEnded) => {
            result.and(Err(ExitError::refused(&DaemonError::Broken(plan.home.command("chatd logs")))))
        }
        Some(StopReason::Asked | StopReason::Left | StopReason::ParentGone | StopReason::Signal) | None => result,
    }
}
