//! What a command says when it fails, and the exit code that goes with it.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use chat_proto::error::Exit;
use serde::{Deserialize, Serialize};

/// A failure as it is told: to people, or to the process that started this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitError {
    /// Which exit code it has.
    pub(crate) kind: ExitKind,
    /// What went wrong and what to do next; one line.
    pub(crate) message: String,
}

/// Kinds of failures, by exit code.
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
    /// Nobody reads what the command prints any more, which is nothing to complain about.
    OutputClosed,
}

impl ExitError {
    /// A failure of this kind; the causes of the error are told after it.
    pub(crate) fn new(kind: ExitKind, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // Writing to a string does not fail.
            let _ = write!(message, ": {error}");
            cause = error.source();
        }
        Self { kind, message }
    }

    /// The usual one: refused, and the error says why.
    pub(crate) fn refused(error: &dyn Error) -> Self {
        Self::new(ExitKind::Refused, error)
    }

    /// How the command ends.
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
    use super::*;

    #[test]
    fn causes_are_told_once_and_in_order() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the key")]
        struct Outer(#[source] io::Error);
        let failure = ExitError::refused(&Outer(io::Error::other("disk on fire")));
        assert_eq!(failure.message, "cannot read the key: disk on fire");
        assert_eq!(failure.exit(), Exit::Refused);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        assert_eq!(ExitError::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit(), Exit::Done);
        assert_eq!(ExitError::from(io::Error::from(io::ErrorKind::StorageFull)).exit(), Exit::Refused);
    }
}
