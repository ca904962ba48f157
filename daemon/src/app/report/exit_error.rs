//! The error that a command ends with: its message and its exit code.

use std::error::Error;
use std::io;

use chat_client::ClientError;
use chat_proto::error::{Exit, with_causes};
use serde::{Deserialize, Serialize};

/// The error of a command, as printed for people or sent to the parent process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitError {
    /// Determines the exit code.
    pub(crate) kind: ExitKind,
    /// What went wrong and what to do next; one line.
    pub(crate) message: String,
}

/// Kinds of errors, by exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExitKind {
    /// Refused, with the reason.
    Refused,
    /// The command line is wrong.
    Usage,
    /// No daemon answers.
    NoDaemon,
    /// Not allowed.
    NotAllowed,
    /// The reader of standard output is gone, which is not worth a message.
    OutputClosed,
}

impl ExitError {
    /// An error of this kind; its causes follow the message.
    pub(crate) fn new(kind: ExitKind, error: &dyn Error) -> Self {
        Self { kind, message: with_causes(error) }
    }

    /// An error of the usual kind.
    pub(crate) fn refused(error: &dyn Error) -> Self {
        Self::new(ExitKind::Refused, error)
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self.kind {
            ExitKind::Refused => Exit::Refused,
            ExitKind::Usage => Exit::Usage,
            ExitKind::NoDaemon => Exit::NoDaemon,
            ExitKind::NotAllowed => Exit::NotAllowed,
            ExitKind::OutputClosed => Exit::Done,
        }
    }
}

impl From<ClientError> for ExitError {
    /// With the hint at the end of the line.
    fn from(error: ClientError) -> Self {
        let (kind, message) = match &error {
            // The system's reason tells nothing more.
            ClientError::NoDaemon { .. } => (ExitKind::NoDaemon, error.to_string()),
            ClientError::Refused(problem) if problem.code.exit() == Exit::NotAllowed => {
                (ExitKind::NotAllowed, error.to_string())
            }
            ClientError::Refused(_)
            | ClientError::NotYours { .. }
            | ClientError::Broken { .. }
            | ClientError::TimedOut { .. }
            | ClientError::WaitRanOut(_)
            | ClientError::Unexpected { .. }
            | ClientError::TooLong
            | ClientError::Request { .. }
            | ClientError::File { .. } => (ExitKind::Refused, Self::refused(&error).message),
        };
        let hint = error.hint().map_or_else(String::new, |hint| format!(": {hint}"));
        Self { kind, message: message + &hint }
    }
}

/// Standard output cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct OutputError(#[source] io::Error);

impl From<io::Error> for ExitError {
    /// For writing to standard output; nothing else may use `?` on an `io::Error` in a command.
    fn from(error: io::Error) -> Self {
        let kind = if error.kind() == io::ErrorKind::BrokenPipe { ExitKind::OutputClosed } else { ExitKind::Refused };
        Self::new(kind, &OutputError(error))
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::error::{ErrorCode, Problem};

    use super::*;

    #[test]
    fn causes_follow_the_message_once_and_in_order() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the key")]
        struct Outer(#[source] io::Error);
        let failure = ExitError::refused(&Outer(io::Error::other("disk on fire")));
        assert_eq!(failure.message, "cannot read the key: disk on fire");
        let full = rusqlite::ffi::Error { code: rusqlite::ErrorCode::DiskFull, extended_code: 13 };
        let full = rusqlite::Error::SqliteFailure(full, Some("database or disk is full".into()));
        assert_eq!(ExitError::refused(&full).message, "database or disk is full", "its cause says the same");
        assert_eq!(failure.exit(), Exit::Refused);
    }

    #[test]
    fn refusal_keeps_its_hint_and_exit_code() {
        let problem = Problem::new(ErrorCode::Forbidden, "no").with_hint("ask an admin");
        let error = ExitError::from(ClientError::Refused(Box::new(problem)));
        assert_eq!((error.kind, error.message.as_str()), (ExitKind::NotAllowed, "no: ask an admin"));
    }

    #[test]
    fn closed_output_exits_with_success() {
        assert_eq!(ExitError::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit(), Exit::Done);
        assert_eq!(ExitError::from(io::Error::from(io::ErrorKind::StorageFull)).exit(), Exit::Refused);
    }
}
