//! The handle through which API, network and life of the process reach the room.

use std::sync::Arc;

use chat_core::input::Command;
use chat_core::membership::roster::Roster;
use chat_core::output::{CommandError, Reply};
use tokio::sync::{mpsc, oneshot, watch};

use crate::store::tables::models::Idempotency;

/// Most commands that wait for the driver. Beyond, callers are told to try again: memory stays bounded whatever clients
/// do.
pub const COMMANDS_MAX: usize = 1024;

/// A command on its way to the driver.
#[derive(Debug)]
pub struct Request {
    /// What is wanted.
    pub command: Command,
    /// With a post: the key under which a retry finds it again.
    pub idempotency: Option<Idempotency>,
    /// Where the answer goes; nobody listening is not an error.
    pub reply: oneshot::Sender<Result<Reply, CommandError>>,
}

/// Reaches the room. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    commands: mpsc::Sender<Request>,
    roster: watch::Receiver<Arc<Roster>>,
}

impl NodeHandle {
    /// A handle and the driver's end of it.
    pub fn new(roster: watch::Receiver<Arc<Roster>>) -> (Self, mpsc::Receiver<Request>) {
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        (Self { commands, roster }, requests)
    }

    /// Gives a command and waits for its answer. Cancel safe: a command that was given is carried out whether or not
    /// somebody waits.
    ///
    /// # Errors
    /// What the room answers; [`CommandError::Busy`] when too many commands wait, [`CommandError::Stopping`] when the
    /// driver has ended.
    pub async fn command(&self, command: Command) -> Result<Reply, CommandError> {
        self.request(command, None).await
    }

    /// The same for a post that may be retried under a key.
    ///
    /// # Errors
    /// As [`NodeHandle::command`].
    pub async fn request(&self, command: Command, idempotency: Option<Idempotency>) -> Result<Reply, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Request { command, idempotency, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Stopping,
        })?;
        answer.await.unwrap_or(Err(CommandError::Stopping))
    }

    /// The newest roster: who is a member, how everybody is called.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.borrow().clone()
    }

    /// Watches the roster: notified of each new one.
    pub fn watch_roster(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster.clone()
    }
}
