//! `chatd stop`: ends the daemon and waits until it is gone.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
#[cfg(target_os = "linux")]
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{PidfdFlags, pidfd_open},
};
use serde::Serialize;

use crate::life::args::OutputArgs;
use crate::life::client::{Client, ClientError};
use crate::life::commands::runtime;
use crate::life::failure::{Failure, Kind};
use crate::life::home::Home;
use crate::life::lock::{self, Holder, Holding, LockError};
use crate::life::report::{print, print_json};
use crate::life::shutdown::SHUTDOWN_MAX;

/// How long the process may take to be gone: its own deadline, and time for a busy machine.
const GONE_MAX: Duration = SHUTDOWN_MAX.saturating_add(Duration::from_secs(3));

/// Why the daemon is still there.
#[derive(Debug, thiserror::Error)]
enum StopError {
    /// It does not end.
    #[error("the daemon (pid {pid}) does not end: run 'kill -9 {pid}'; no stored message is lost by that")]
    Hangs {
        /// Its process.
        pid: u32,
    },
    /// Somebody holds the home who does not say who it is.
    #[error("a daemon holds {home} and does not answer: find it with 'fuser {home}/lock' and end it")]
    Unknown {
        /// The home.
        home: String,
    },
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Stopped {
    /// Whether a daemon ran before.
    was_running: bool,
    /// Its process id.
    pid: Option<u32>,
}

/// Stops the daemon of a home; one that does not run is stopped already.
pub(crate) fn run(args: OutputArgs, home: &Home) -> Result<(), Failure> {
    let stopped = match lock::holder(home).map_err(refused)? {
        Holding::Free => Stopped { was_running: false, pid: None },
        Holding::Held(holder) => stop(home, holder.as_ref())?,
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

fn stop(home: &Home, holder: Option<&Holder>) -> Result<Stopped, Failure> {
    let process = holder.and_then(process).and_then(Watched::open);
    ask(home, holder)?;
    let pid = holder.map(|holder| holder.pid);
    match (lock::wait_until_free(home, GONE_MAX).map_err(refused)?, pid) {
        (Holding::Free, pid) => {
            // Its files are closed a moment before it is gone.
            if let Some(process) = process {
                process.wait();
            }
            Ok(Stopped { was_running: true, pid })
        }
        (Holding::Held(_), Some(pid)) => Err(Failure::refused(&StopError::Hangs { pid })),
        (Holding::Held(_), None) => Err(unknown(home)),
    }
}

/// Over the API or, where that does not answer (yet, or any more), by a signal to the process that holds the lock.
fn ask(home: &Home, holder: Option<&Holder>) -> Result<(), Failure> {
    let asked = Client::of(home).and_then(|client| match runtime() {
        Ok(runtime) => runtime.block_on(client.shutdown()),
        Err(_) => Err(ClientError::NoDaemon { home: home.clone() }),
    });
    let Err(error) = asked else {
        return Ok(());
    };
    let failure = Failure::from(error);
    if failure.kind == Kind::NotAllowed {
        return Err(failure);
    }
    let pid = holder.and_then(process).ok_or_else(|| unknown(home))?;
    // A process that has just ended is what was wanted.
    let _ = kill_process(pid, Signal::TERM);
    Ok(())
}

fn process(holder: &Holder) -> Option<Pid> {
    Pid::from_raw(i32::try_from(holder.pid).ok()?)
}

/// A process whose end can be waited for.
#[cfg(target_os = "linux")]
struct Watched(OwnedFd);

#[cfg(target_os = "linux")]
impl Watched {
    fn open(pid: Pid) -> Option<Self> {
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    fn wait(self) {
        let at_most = Timespec { tv_sec: 1, tv_nsec: 0 };
        // It has let go of its locks, so that it will end is certain.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&at_most));
    }
}

/// Elsewhere the end of its locks is all that can be waited for.
#[cfg(not(target_os = "linux"))]
struct Watched;

#[cfg(not(target_os = "linux"))]
impl Watched {
    fn open(_pid: Pid) -> Option<Self> {
        None
    }

    fn wait(self) {}
}

fn unknown(home: &Home) -> Failure {
    Failure::refused(&StopError::Unknown { home: home.root().display().to_string() })
}

fn refused(error: LockError) -> Failure {
    Failure::refused(&error)
}
