//! How a call fails: one enum, its variants by what the caller can do about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use chat_proto::api::messages::SentMessage;
use chat_proto::cursor::ParseCursorError;
use chat_proto::error::{ErrorCode, Problem};

use crate::client::ANSWER_BYTES_MAX;
use crate::sse::SseError;

/// How a call of the local API failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens there. Nothing was done; the call passes once a daemon runs.
    #[error("no daemon answers at {place}")]
    NoDaemon {
        /// Where one was looked for.
        place: String,
        /// The command that starts one there; unknown where a URL was given.
        start: Option<String>,
        /// Why the connection failed.
        source: io::Error,
    },
    /// The socket belongs to another user. Nothing was done, and a retry fails again.
    #[error("the daemon at {place} belongs to another user")]
    NotYours {
        /// The socket.
        place: String,
        /// Why the connection failed.
        source: io::Error,
    },
    /// The connection ended before the answer. Whether the daemon acted is not known; a message can be sent again with the
    /// same key.
    #[error("the connection to the daemon ended before it answered")]
    Broken {
        /// What ended it, where that is known.
        source: Option<io::Error>,
    },
    /// No answer came in time. Whether the daemon acted is not known; a message can be sent again with the same key.
    #[error("the daemon did not answer within {} s", after.as_secs())]
    TimedOut {
        /// How long was waited.
        after: Duration,
        /// The command that shows the daemon's log.
        logs: String,
    },
    /// The daemon refused; nothing was done, unless the code is [`ErrorCode::OutcomeUnknown`]. The problem's code shows whether a retry helps, its hint what to do.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The message is stored and still travels; what was waited for has not come in time. Not to be sent again.
    #[error("the wait ran out: the message is stored and still travels")]
    WaitRanOut(Box<SentMessage>),
    /// The answer is not one of chatd's, or of another version. A retry fails again.
    #[error("unexpected answer from chatd to {call}")]
    Unexpected {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        source: UnexpectedAnswer,
    },
    /// The answer is longer than [`ANSWER_BYTES_MAX`]; less has to be asked for at once.
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes: ask for less at once")]
    TooLong,
    /// The request cannot be written as HTTP: an idempotency key with characters that a header cannot have, say.
    #[error("the request cannot be written")]
    Request {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A file that says how to reach the daemon cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub enum UnexpectedAnswer {
    /// The JSON is not what the contract has.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// An event has a cursor that cannot be read.
    #[error(transparent)]
    Cursor(#[from] ParseCursorError),
    /// The event stream breaks a bound.
    #[error(transparent)]
    Sse(#[from] SseError),
}

impl ClientError {
    /// What to do next, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoDaemon { start: Some(start), .. } => Some(format!("start one with '{start}'")),
            Self::NoDaemon { start: None, .. } => {
                Some("CHATD_URL selects that address; 'chatd env' prints the address of a running daemon".into())
            }
            Self::TimedOut { logs, .. } => Some(format!("'{logs}' shows what it is busy with")),
            Self::Refused(problem) => problem.hint.clone(),
            Self::Unexpected { .. } => Some("'chat --version' and 'chatd --version' should agree".into()),
            Self::NotYours { .. }
            | Self::Broken { .. }
            | Self::WaitRanOut(_)
            | Self::TooLong
            | Self::Request { .. }
            | Self::File { .. } => None,
        }
    }

    /// Whether the same call may pass in a moment, when the daemon is back or has less to do.
    pub fn passes_later(&self) -> bool {
        match self {
            Self::NoDaemon { .. } | Self::Broken { .. } | Self::TimedOut { .. } => true,
            Self::Refused(problem) => {
                matches!(
                    problem.code,
                    ErrorCode::Starting | ErrorCode::OutcomeUnknown | ErrorCode::ShuttingDown | ErrorCode::Busy
                )
            }
            Self::NotYours { .. }
            | Self::WaitRanOut(_)
            | Self::Unexpected { .. }
            | Self::TooLong
            | Self::Request { .. }
            | Self::File { .. } => false,
        }
    }

    /// Whether the daemon may have acted or not.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::TimedOut { .. } => true,
            Self::Refused(problem) => problem.code == ErrorCode::OutcomeUnknown,
            Self::NoDaemon { .. }
            | Self::NotYours { .. }
            | Self::WaitRanOut(_)
            | Self::Unexpected { .. }
            | Self::TooLong
            | Self::Request { .. }
            | Self::File { .. } => false,
        }
    }

    /// Whether the daemon has not loaded its room yet. Nothing was done, so any call may be made again.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.code == ErrorCode::Starting)
    }

    /// Whether a daemon that has just started may answer so, for a while.
    pub(crate) fn is_of_a_restart(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status >= 500 || problem.code == ErrorCode::NotInRoom)
    }

    /// The connection ended by what reqwest reports; only its innermost cause is of use to a reader.
    pub(crate) fn broken(error: &reqwest::Error) -> Self {
        let mut cause: &dyn Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self::Broken { source: Some(io::Error::other(cause.to_string())) }
    }
}
