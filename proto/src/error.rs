//! Stable error codes, problem documents (RFC 9457) and exit codes.

use serde::{Deserialize, Serialize};

/// What went wrong, in a word that clients may match on. New codes may be added; a code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request cannot be read: JSON, a parameter, an id.
    BadRequest,
    /// Message, name or recipient list is empty or too long.
    TooLong,
    /// No token, or a wrong one.
    Unauthorized,
    /// Host or Origin is foreign, or the role does not allow it.
    Forbidden,
    /// No such call, message, invite or knock.
    NotFound,
    /// The call exists with another method.
    MethodNotAllowed,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// No member has that name, or several could be meant.
    UnknownMember,
    /// The member has not published its keys yet, so nothing can be sealed for it.
    NoKeys,
    /// The ticket is mistyped, expired, revoked or used up.
    BadTicket,
    /// Nobody could be reached at the addresses that were given.
    Unreachable,
    /// A member refused to let this peer in.
    Denied,
    /// This daemon is in a room already.
    AlreadyInRoom,
    /// This daemon is in no room yet (it waits to be let in), or is no longer a member.
    NotInRoom,
    /// The same `Idempotency-Key` was used with another body.
    KeyReused,
    /// Too many requests, knocks or messages are waiting; a retry later will pass.
    Busy,
    /// The disk is full; nothing was lost, and nothing was accepted.
    DiskFull,
    /// The daemon is shutting down; a retry after its restart will pass.
    ShuttingDown,
    /// Something failed inside; the log of the daemon says what.
    Internal,
    /// A code of a newer daemon.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadTicket => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::Denied => 403,
            Self::NotFound | Self::UnknownMember => 404,
            Self::MethodNotAllowed => 405,
            Self::KeyReused | Self::AlreadyInRoom | Self::NotInRoom | Self::NoKeys => 409,
            Self::TooLong => 413,
            Self::UnsupportedMediaType => 415,
            Self::Busy => 429,
            Self::Internal | Self::Unknown => 500,
            Self::Unreachable => 502,
            Self::ShuttingDown => 503,
            Self::DiskFull => 507,
        }
    }

    /// The exit code of a command that was answered with this code.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Unauthorized | Self::Forbidden | Self::Denied => Exit::NotAllowed,
            Self::BadRequest
            | Self::TooLong
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::UnsupportedMediaType
            | Self::UnknownMember
            | Self::NoKeys
            | Self::BadTicket
            | Self::Unreachable
            | Self::AlreadyInRoom
            | Self::NotInRoom
            | Self::KeyReused
            | Self::Busy
            | Self::DiskFull
            | Self::ShuttingDown
            | Self::Internal
            | Self::Unknown => Exit::Refused,
        }
    }
}

/// How a command of `chat` or `chatd` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Refused, with the reason on standard error.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No daemon answers.
    NoDaemon = 3,
    /// Not allowed.
    NotAllowed = 4,
    /// The wait ran out; the message is kept and still travels.
    WaitRanOut = 5,
}

/// A problem document: the body of every answer that is not a success, `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: the code says more than a link.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong; stable.
    pub code: ErrorCode,
    /// What went wrong with the values of this case, in one line.
    pub detail: String,
    /// What to do next, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

fn about_blank() -> String {
    "about:blank".into()
}

impl Problem {
    /// A problem with this code; `title` and `status` follow from it.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let status = code.status();
        Self { kind: about_blank(), title: title(status).into(), status, code, detail: detail.into(), hint: None }
    }

    /// The same with a word on what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

const fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words_and_strange_ones_are_understood() {
        assert_eq!(serde_json::to_string(&ErrorCode::UnknownMember).expect("serialises"), "\"unknown_member\"");
        let strange: ErrorCode = serde_json::from_str("\"from_the_future\"").expect("other");
        assert_eq!(strange, ErrorCode::Unknown);
    }

    #[test]
    fn a_problem_follows_its_code() {
        let problem = Problem::new(ErrorCode::DiskFull, "the disk is full").with_hint("free some space");
        let json = serde_json::to_value(&problem).expect("serialises");
        assert_eq!(json["type"], "about:blank");
        assert_eq!(json["status"], 507);
        assert_eq!(json["title"], "Insufficient Storage");
        assert_eq!(serde_json::from_value::<Problem>(json).expect("back"), problem);
    }
}
