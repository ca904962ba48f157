//! Takes a home for this daemon, or finds the one that has it.

use std::time::{Duration, Instant};

use crate::app::client::Client;
use crate::app::home::Home;
use crate::app::home::lock::{HomeLock, LockError, LockHolder, StartStage};
use crate::app::report::startup_report::Started;

/// How long a daemon that has the home may take to answer: another one may be starting at the same moment.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Pause between two looks at a home that somebody has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whose a home is.
#[derive(Debug)]
pub(crate) enum HomeAccess {
    /// This process's.
    Ours(HomeLock),
    /// That of a daemon that runs well.
    Theirs(Box<Started>),
}

/// Why a home can neither be taken nor asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcquireHomeError {
    /// It cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Another start waits for somebody to say `chat admit`.
    #[error("another start (pid {pid}) waits to be let into a room: wait for it, or end it with '{stop}'")]
    Joining {
        /// Its process.
        pid: u32,
        /// The command that ends it.
        stop: String,
    },
    /// The daemon that has it does not answer.
    #[error("a daemon ({holder}) has this home and does not answer: end it with '{stop}', then start again")]
    Hung {
        /// Its process, where it is known.
        holder: String,
        /// The command that ends it.
        stop: String,
    },
}

/// Takes the home if nobody has it; otherwise waits until its daemon answers, or gives it up.
///
/// # Errors
/// When neither happens in time.
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
        if begun.elapsed() > ANSWER_WITHIN {
            let holder = holder.map_or_else(|| "pid unknown".to_owned(), |holder| format!("pid {}", holder.pid));
            return Err(AcquireHomeError::Hung { holder, stop });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The daemon of a home, if it answers.
async fn running(home: &Home) -> Option<Started> {
    let client = Client::of(home).ok()?;
    match client.status().await {
        Ok(status) => Some(Started { already_running: true, ..Started::new(client.api, status) }),
        Err(error) => {
            tracing::debug!(%error, "the daemon that has the home does not answer yet");
            None
        }
    }
}
