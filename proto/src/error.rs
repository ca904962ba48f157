//! Stable error codes, problem documents (RFC 9457) and exit codes.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::api::peers::PeerRef;

/// What went wrong; clients may match on it. New codes may be added; a code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = allow_other_codes)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is malformed: JSON, a parameter, an id.
    BadRequest,
    /// The message or name is empty.
    Empty,
    /// The message, name or recipient list is too long.
    TooLong,
    /// The token is missing or wrong.
    Unauthorized,
    /// The `Host` or `Origin` is not this daemon's, or the token's scope or the member's role does not allow the call.
    Forbidden,
    /// There is no such call, message, invite or knock.
    NotFound,
    /// The path does not support this method.
    MethodNotAllowed,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// No member has that name, or several members match it.
    UnknownMember,
    /// Another member bears the name than the one that this peer last wrote to under it; `candidates` has both.
    NameMoved,
    /// The recipient has not published keys for direct messages yet.
    NoKeys,
    /// The ticket is mistyped, expired, revoked or used up.
    BadTicket,
    /// No peer answers at the given addresses.
    Unreachable,
    /// A member denied the request to be admitted.
    Denied,
    /// This daemon is in a room with other members already.
    AlreadyInRoom,
    /// This daemon is in no room and joins none, or is no longer a member of its room.
    NotInRoom,
    /// The member is the only admin: without it no member could remove others or appoint admins.
    LastAdmin,
    /// A member cannot remove itself; it can leave.
    LeaveInstead,
    /// The daemon does not listen on TCP, which a browser needs.
    NoTcp,
    /// The `Idempotency-Key` was used with another text or other recipients.
    KeyReused,
    /// Too many requests, knocks or messages are waiting; retry later.
    Busy,
    /// The disk is full; the request was not accepted, and nothing was lost.
    DiskFull,
    /// The disk failed while the message was written: it may be stored or not. A retry with the same `Idempotency-Key` posts
    /// it once.
    OutcomeUnknown,
    /// The daemon has started and its room is not loaded yet; nothing was done, retry in a moment.
    Starting,
    /// The daemon waits to be admitted to a room; nothing was done, retry when a member has admitted it.
    Joining,
    /// The daemon is shutting down; retry after its restart.
    ShuttingDown,
    /// An internal error; the daemon's log has the details.
    Internal,
    /// A code of a newer daemon.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Lets clients that check answers against the schema accept codes of newer daemons.
fn allow_other_codes(schema: &mut Schema) {
    if let Some(serde_json::Value::Array(mut codes)) = schema.remove("oneOf") {
        codes.push(serde_json::json!({"type": "string", "description": "A code of a newer daemon."}));
        schema.insert("anyOf".into(), codes.into());
    }
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::Empty | Self::BadTicket => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::Denied => 403,
            Self::NotFound | Self::UnknownMember => 404,
            Self::MethodNotAllowed => 405,
            Self::KeyReused
            | Self::AlreadyInRoom
            | Self::NotInRoom
            | Self::NameMoved
            | Self::NoKeys
            | Self::LastAdmin
            | Self::LeaveInstead
            | Self::NoTcp => 409,
            Self::TooLong => 413,
            Self::UnsupportedMediaType => 415,
            Self::Busy => 429,
            Self::OutcomeUnknown | Self::Internal | Self::Unknown => 500,
            Self::Unreachable => 502,
            Self::Starting | Self::Joining | Self::ShuttingDown => 503,
            Self::DiskFull => 507,
        }
    }

    /// The exit code of a command that was answered with this code.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Unauthorized | Self::Forbidden | Self::Denied => Exit::NotAllowed,
            Self::BadRequest
            | Self::Empty
            | Self::TooLong
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::UnsupportedMediaType
            | Self::UnknownMember
            | Self::NameMoved
            | Self::NoKeys
            | Self::BadTicket
            | Self::Unreachable
            | Self::AlreadyInRoom
            | Self::NotInRoom
            | Self::LastAdmin
            | Self::LeaveInstead
            | Self::NoTcp
            | Self::KeyReused
            | Self::Busy
            | Self::DiskFull
            | Self::OutcomeUnknown
            | Self::Starting
            | Self::Joining
            | Self::ShuttingDown
            | Self::Internal
            | Self::Unknown => Exit::Refused,
        }
    }
}

/// Exit code of `chat` and `chatd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Done = 0,
    /// Refused; the reason is on standard error.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The daemon does not answer.
    NoDaemon = 3,
    /// Not allowed.
    NotAllowed = 4,
    /// The wait timed out; the message is stored and still being delivered.
    WaitRanOut = 5,
}

/// A problem document (RFC 9457): the body of every answer that is not a success, `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Always `about:blank`: the code identifies the problem.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// Name of the HTTP status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong; match on this.
    pub code: ErrorCode,
    /// What went wrong, with the values of this case, in one line.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The members that may be meant, where a name has moved from one to another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<NameCandidate>,
}

/// A member that may be meant by a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameCandidate {
    /// The member or former member.
    #[serde(flatten)]
    pub peer: PeerRef,
    /// Whether it bore the name when this peer last wrote to the name; the other one bears it now.
    pub before: bool,
}

fn about_blank() -> String {
    "about:blank".into()
}

impl Problem {
    /// A problem with this code; `title` and `status` follow from it.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let status = code.status();
        Self {
            kind: about_blank(),
            title: title(status).into(),
            status,
            code,
            detail: detail.into(),
            hint: None,
            candidates: Vec::new(),
        }
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

/// An error and its causes in one line, without causes that say nothing new.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) && !said.contains(&last) {
            text = format!("{text}: {said}");
            last = said;
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_a_newer_daemon_parses_as_unknown() {
        assert_eq!(serde_json::to_string(&ErrorCode::UnknownMember).expect("serialises"), "\"unknown_member\"");
        let strange: ErrorCode = serde_json::from_str("\"from_the_future\"").expect("other");
        assert_eq!(strange, ErrorCode::Unknown);
    }

    #[test]
    fn problem_takes_status_and_title_from_its_code() {
        let problem = Problem::new(ErrorCode::DiskFull, "the disk is full").with_hint("free some space");
        let json = serde_json::to_value(&problem).expect("serialises");
        assert_eq!(json["type"], "about:blank");
        assert_eq!(json["status"], 507);
        assert_eq!(json["title"], "Insufficient Storage");
        assert_eq!(serde_json::from_value::<Problem>(json).expect("back"), problem);
    }
}
