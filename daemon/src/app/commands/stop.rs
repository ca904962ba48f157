//! `chatd stop`: stops the daemon and waits until its process has ended.

use std::time::Duration;

use chat_client::client::announced;
use rustix::process::{Pid, Signal, kill_process};
#[cfg(target_os = "linux")]
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{PidfdFlags, pidfd_open},
};
use serde::Serialize;

use crate::app::api;
use crate::app::commands::runtime;
use crate::app::home::Home;
use crate::app::home::lock::{self, LockError, LockHolder, LockState};
use crate::app::report::exit_error::{ExitError, ExitKind};
use crate::app::report::startup_report::{print, print_json};
use crate::app::run::shutdown::SHUTDOWN_MAX;
use crate::app::settings::args::OutputArgs;

/// Timeout for the process to end: its own deadline, and time for a busy machine.
const GONE_MAX: Duration = SHUTDOWN_MAX.saturating_add(Duration::from_secs(3));

/// Why the daemon still runs.
#[derive(Debug, thiserror::Error)]
enum StopError {
    /// It does not end.
    #[error("the daemon (pid {pid}) does not end: run 'kill -9 {pid}'; no stored message is lost by that")]
    Hangs {
        /// Its process.
        pid: u32,
    },
    /// The process that holds the home is unknown.
    #[error("a daemon uses {home} and does not answer: find it with 'fuser {home}/lock' and end it")]
    Unknown {
        /// The home.
        home: String,
    },
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Stopped {
    /// Whether a daemon was running.
    was_running: bool,
    /// Its process id.
    pid: Option<u32>,
}

/// Stops the daemon of a home; succeeds if none runs.
pub(crate) fn run(args: OutputArgs, home: &Home) -> Result<(), ExitError> {
    let stopped = match lock::holder(home).map_err(refused)? {
        LockState::Free => Stopped { was_running: false, pid: None },
        LockState::Held(holder) => stop(home, holder.as_ref())?,
    };
    if args.json {
        print_json(&stopped)?;
    } else if stopped.was_running {
        print("chatd has stopped\n")?;
    } else {
        print(&format!("no daemon runs in {}\n", home.root().display()))?;
    }
    Ok(())
}

fn stop(home: &Home, holder: Option<&LockHolder>) -> Result<Stopped, ExitError> {
    let process = holder.and_then(process).and_then(WatchedProcess::open);
    ask(home, holder)?;
    let pid = holder.map(|holder| holder.pid);
    match (lock::wait_until_free(home, GONE_MAX).map_err(refused)?, pid) {
        (LockState::Free, pid) => {
            // Its files are closed a moment before it ends.
            if let Some(process) = process {
                process.wait();
            }
            Ok(Stopped { was_running: true, pid })
        }
        (LockState::Held(_), Some(pid)) => Err(ExitError::refused(&StopError::Hangs { pid })),
        (LockState::Held(_), None) => Err(unknown(home)),
    }
}

/// Requests the stop through the API or, if that does not answer, by a signal to the process that holds the lock.
fn ask(home: &Home, holder: Option<&LockHolder>) -> Result<(), ExitError> {
    // Without api.json the API does not answer yet, and is not waited for.
    let asked = match announced(home) {
        Ok(_) => runtime()?.block_on(api::client(home).shutdown()),
        Err(error) => Err(error),
    };
    let Err(error) = asked else {
        return Ok(());
    };
    let failure = ExitError::from(error);
    if failure.kind == ExitKind::NotAllowed {
        return Err(failure);
    }
    let pid = holder.and_then(process).ok_or_else(|| unknown(home))?;
    // The process may just have ended.
    let _ = kill_process(pid, Signal::TERM);
    Ok(())
}

fn process(holder: &LockHolder) -> Option<Pid> {
    Pid::from_raw(i32::try_from(holder.pid).ok()?)
}

/// A process whose end can be waited for.
#[cfg(target_os = "linux")]
struct WatchedProcess(OwnedFd);

#[cfg(target_os = "linux")]
impl WatchedProcess {
    fn open(pid: Pid) -> Option<Self> {
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    fn wait(self) {
        let at_most = Timespec { tv_sec: 1, tv_nsec: 0 };
        // It has released its locks, so it is certain to end.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&at_most));
    }
}

/// Elsewhere the release of its locks is all that can be waited for.
#[cfg(not(target_os = "linux"))]
struct WatchedProcess;

#[cfg(not(target_os = "linux"))]
impl WatchedProcess {
    fn open(_pid: Pid) -> Option<Self> {
        None
    }

    fn wait(self) {}
}

fn unknown(home: &Home) -> ExitError {
    ExitError::refused(&StopError::Unknown { home: home.root().display().to_string() })
}

fn refused(error: LockError) -> ExitError {
    ExitError::refused(&error)
}
