//! The handle through which the API and the process reach the room.
//!
//! [`NodeHandle::command`] sends a command to the driver, which owns the room, and waits for the reply;
//! [`NodeHandle::roster`] reads the newest roster without the driver. The HTTP handlers hold a handle each; the receiving
//! end belongs to the driver.
//!
//! Invariants: a bounded number of commands waits. Above it, callers receive [`CommandError::Busy`] at once and may retry:
//! a slow room costs clients time, never this machine memory. A command that was accepted is carried out even when its
//! caller has gone.

use std::sync::Arc;

use chat_core::input::Command;
use chat_core::membership::roster::Roster;
use chat_core::output::{CommandError, Reply};
use tokio::sync::{mpsc, oneshot, watch};

use crate::store::tables::models::Idempotency;

/// Maximum number of commands that wait for the driver; further ones are refused with [`CommandError::Busy`], so that
/// clients cannot exhaust memory.
pub const COMMANDS_MAX: usize = 1024;

/// A command on its way to the driver.
#[derive(Debug)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// For a post: the key under which a retry finds it.
    pub idempotency: Option<Idempotency>,
    /// Where the reply goes; a receiver that was dropped is not an error.
    pub reply: oneshot::Sender<Result<Reply, CommandError>>,
}

/// Handle to the room. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    commands: mpsc::Sender<Request>,
    roster: watch::Receiver<Arc<Roster>>,
}

impl NodeHandle {
    /// Creates a handle and the driver's end of it.
    pub fn new(roster: watch::Receiver<Arc<Roster>>) -> (Self, mpsc::Receiver<Request>) {
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        (Self { commands, roster }, requests)
    }

    /// Sends a command and waits for the reply. Cancel safe: a command that was accepted is carried out even when the
    /// future is dropped.
    ///
    /// # Errors
    /// The error of the room; [`CommandError::Busy`] when too many commands wait, [`CommandError::Stopping`] when the
    /// driver has ended.
    pub async fn command(&self, command: Command) -> Result<Reply, CommandError> {
        self.request(command, None).await
    }

    /// As [`NodeHandle::command`], for a post that may be retried under a key.
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

    /// The newest roster: the members and their names.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.borrow().clone()
    }

    /// Watches the roster: notified of each new one.
    pub fn watch_roster(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster.clone()
    }
}
