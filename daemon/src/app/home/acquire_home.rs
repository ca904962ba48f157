//! Acquires the home for this process, or finds the daemon that already uses it.
//!
//! `chatd start` may be run at any time, also twice at once. This is where the race is decided: the process that takes the
//! home's lock ([`HomeLock`]) becomes the daemon; any other one waits until that daemon answers its API and reports it as
//! already running. The loser never touches the home's files.
//!
//! A holder of the lock that does not answer is one of three: it is starting (wait a little), it is waiting to be admitted
//! to a room (its lock file says so: report it at once, since that takes minutes), or it hangs (give up after
//! [`ANSWER_MAX`]). A daemon that was killed holds no lock, since the kernel releases it.
//!
//! The daemon's process calls [`acquire`] first of all, before it opens its log.

use std::time::{Duration, Instant};

use chat_client::client::announced;

use crate::app::api;
use crate::app::home::Home;
use crate::app::home::lock::{HomeLock, LockError, LockHolder, StartStage};
use crate::app::report::startup_report::Started;

/// Timeout for an answer of the daemon that holds the home; it may have been started at the same moment.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Pause between two attempts while another process holds the home.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// Who uses a home.
#[derive(Debug)]
pub(crate) enum HomeAccess {
    /// This process, which holds its lock.
    Ours(HomeLock),
    /// A daemon that answers.
    Theirs(Box<Started>),
}

/// Why a home cannot be used. Nothing was changed; a retry helps once the other process has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcquireHomeError {
    /// It cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Another start waits until a member runs `chat admit`.
    #[error("another start (pid {pid}) is waiting to be admitted to a room: wait for it, or end it with '{stop}'")]
    Joining {
        /// Its process.
        pid: u32,
        /// The command that ends it.
        stop: String,
    },
    /// The daemon that holds it does not answer.
    #[error("a daemon ({holder}) uses this home and does not answer: end it with '{stop}', then start again")]
    Hung {
        /// Its process, if known.
        holder: String,
        /// The command that ends it.
        stop: String,
    },
}

/// Takes the home if no process holds it; otherwise waits until its daemon answers or ends.
///
/// # Errors
/// [`AcquireHomeError`], when neither happens in time.
pub(crate) async fn acquire(home: &Home) -> Result<HomeAccess, AcquireHomeError> {
    let begun = Instant::now();
    loop {
        let holder = match HomeLock::try_take(home) {
            Ok(lock) => return Ok(HomeAccess::Ours(lock)),
            Err(LockError::Held(holder)) => holder,
            Err(error) => return Err(error.into()),
        };
        let run = holder.as_ref().map_or(home.run(), |holder| &holder.run);
        if let Some(started) = running(&home.clone().with_run(run.to_owned())).await {
            return Ok(HomeAccess::Theirs(Box::new(started)));
        }
        let stop = home.command("chatd stop");
        if let Some(LockHolder { pid, stage: StartStage::Joining, .. }) = holder {
            return Err(AcquireHomeError::Joining { pid, stop });
        }
        if begun.elapsed() > ANSWER_MAX {
            let holder = holder.map_or_else(|| "pid unknown".to_owned(), |holder| format!("pid {}", holder.pid));
            return Err(AcquireHomeError::Hung { holder, stop });
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

/// The daemon of a home, if it answers.
async fn running(home: &Home) -> Option<Started> {
    // Without the file the API does not answer yet.
    let api = announced(home).ok()?;
    match api::client(home).status().await {
        Ok(status) => Some(Started { already_running: true, ..Started::new(api, status) }),
        Err(error) => {
            tracing::debug!(%error, "the daemon that holds the home does not answer yet");
            None
        }
    }
}
