//! Problem documents (RFC 9457): the one place where errors become answers.
//!
//! A handler returns a [`Refusal`]; every error type that a handler meets has a `From` here, which chooses the stable code
//! that clients match, takes the error's own message as the detail, and adds a hint what to do next. The status follows
//! from the code. Internal errors are logged with all their causes and answered without any of them.
//!
//! Details quote what the caller sent, so they are cut to one line of bounded length without control characters.
//!
//! Callers: all of `http::handlers`, and the extractors for what cannot be read. Invariants: 5xx bodies name no file, table
//! or peer; a code, once published, keeps its meaning, since clients match on it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chat_core::admission::codec::DenyReason;
use chat_core::input::PersistError;
use chat_core::membership::roster::ResolveError;
use chat_core::output::CommandError;
use chat_proto::api::RangeError;
use chat_proto::api::peers::PeerRef;
use chat_proto::cursor::ParseCursorError;
use chat_proto::error::{ErrorCode, NameCandidate, Problem, with_causes};
use chat_proto::id::ParseIdError;
use chat_proto::text::{TextError, printable};
use chat_proto::time::ParseTimeError;

use crate::http::access_tokens::TokenError;
use crate::http::api_state::NoRoom;
use crate::http::daemon_control::{LeaveError, MoveError};
use crate::net::JoinError;
use crate::net::ParseTargetError;
use crate::send::{NameMoved, SendError};
use crate::store::error::{ReadError, SealError};

/// Maximum length of a detail, in characters: details quote what was sent.
const DETAIL_CHARS_MAX: usize = 400;

/// A rejected request: the problem document that the caller receives.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Problem>);

impl Refusal {
    /// A problem with this code and detail.
    pub(crate) fn new(code: ErrorCode, detail: impl AsRef<str>) -> Self {
        Self(Box::new(Problem::new(code, one_line(detail.as_ref()))))
    }

    /// A malformed request.
    pub(crate) fn bad(detail: impl AsRef<str>) -> Self {
        Self::new(ErrorCode::BadRequest, detail)
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.0.hint = Some(one_line(hint.as_ref()));
        self
    }

    /// An internal error: logged with its causes, and hidden from the caller.
    pub(crate) fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = with_causes(error), "a call of the local API failed");
        Self::new(ErrorCode::Internal, "an internal error of the daemon").hint("'chatd logs' shows the cause")
    }

    /// The room answered another question than the one that was asked.
    pub(crate) fn strange_reply() -> Self {
        tracing::error!("the room answered another question than the one that was asked");
        Self::new(ErrorCode::Internal, "an internal error of the daemon").hint("'chatd logs' shows the cause")
    }

    /// The only admin would give the role up.
    pub(crate) fn last_admin(detail: impl AsRef<str>) -> Self {
        Self::new(ErrorCode::LastAdmin, detail).hint("'chat role NAME admin' appoints another admin")
    }

    /// The document, for an answer that is a part of another one.
    pub(crate) fn into_problem(self) -> Problem {
        *self.0
    }

    /// The document.
    #[cfg(test)]
    pub(crate) fn problem(&self) -> &Problem {
        &self.0
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        let code = error.code();
        let hint = match error {
            CommandError::Text(error) => return error.into(),
            CommandError::Resolve(error) => return error.into(),
            CommandError::StoreFailed => {
                tracing::error!(error = with_causes(&error), "a call of the local API failed");
                "retry with the same Idempotency-Key: the message is then posted once; 'chatd logs' shows the cause"
            }
            CommandError::NotMember => {
                "after a removal, ask an admin and knock at its address with 'chat join HOST:PORT'; after leaving, a ticket will do"
            }
            CommandError::Arriving => "try again in a moment",
            CommandError::NotAdmin | CommandError::Removed | CommandError::NotThisDoor => {
                "'chat peers' shows who is an admin"
            }
            CommandError::RanksAbove(_) => {
                "the founder ranks first, then the admins in the order in which they became admins"
            }
            CommandError::UnknownInvite => "'chat invites' lists the invites",
            CommandError::UnknownKnock => "'chat knocks' lists the peers that wait",
            CommandError::TooLong => "send it to fewer members at a time",
            CommandError::Busy => "try again in a moment; with the same key a message is posted once",
            CommandError::DiskFull => "free some space and send again",
            CommandError::Stopping => "'chatd start' starts it again; then retry",
        };
        Self::new(code, error.to_string()).hint(hint)
    }
}

impl From<NoRoom> for Refusal {
    fn from(error: NoRoom) -> Self {
        let (code, hint) = match error {
            NoRoom::Starting => (ErrorCode::Starting, "try again in a moment"),
            NoRoom::Joining => (
                ErrorCode::Joining,
                "a member sees it with 'chat knocks' and admits it with 'chat admit'; 'chat leave' gives up",
            ),
            NoRoom::Stopping => return CommandError::Stopping.into(),
        };
        Self::new(code, error.to_string()).hint(hint)
    }
}

impl From<ResolveError> for Refusal {
    fn from(error: ResolveError) -> Self {
        let hint = match error {
            ResolveError::Unknown(_) => "'chat peers' lists the members",
            ResolveError::Gone(_) => {
                "a member that left comes back with a ticket, one that was removed only by the word of an admin"
            }
            ResolveError::Ambiguous { .. } => "write name~tag, or the tag alone",
        };
        Self::new(ErrorCode::UnknownMember, error.to_string()).hint(hint)
    }
}

impl From<TextError> for Refusal {
    fn from(error: TextError) -> Self {
        let code = match error {
            TextError::Empty(_) => ErrorCode::Empty,
            TextError::TextTooLong { .. } | TextError::NameTooLong { .. } => ErrorCode::TooLong,
            TextError::NameCharacter { .. } | TextError::NameReserved { .. } => ErrorCode::BadRequest,
        };
        Self::new(code, error.to_string())
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        let (code, hint) = match error {
            TokenError::Name(error) => return error.into(),
            TokenError::File(source) if source.kind() == io::ErrorKind::StorageFull => {
                return CommandError::DiskFull.into();
            }
            TokenError::File(_) => return Self::internal(&error),
            TokenError::Unknown(_) => (ErrorCode::NotFound, "'chatd token list' lists the tokens"),
            TokenError::Taken(_) => (ErrorCode::BadRequest, "choose another name, or rotate that token"),
            TokenError::Own => (ErrorCode::BadRequest, "'chatd token rotate default' gives it a new secret"),
            TokenError::Session(_) => {
                (ErrorCode::BadRequest, "'chatd token revoke NAME' ends it, and 'chat web' opens another")
            }
            TokenError::TooMany => (ErrorCode::BadRequest, "'chatd token revoke NAME' revokes one"),
        };
        Self::new(code, error.to_string()).hint(hint)
    }
}

impl From<RangeError> for Refusal {
    fn from(error: RangeError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<ParseIdError> for Refusal {
    fn from(error: ParseIdError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<ParseTimeError> for Refusal {
    fn from(error: ParseTimeError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<ParseCursorError> for Refusal {
    fn from(error: ParseCursorError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<ParseTargetError> for Refusal {
    fn from(error: ParseTargetError) -> Self {
        let code = match error {
            ParseTargetError::Ticket(_) => ErrorCode::BadTicket,
            ParseTargetError::Address { .. } => ErrorCode::BadRequest,
        };
        Self::new(code, error.to_string()).hint("'chat invite' on a member's machine prints a ticket")
    }
}

impl From<MoveError> for Refusal {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::AlreadyInRoom => Self::new(ErrorCode::AlreadyInRoom, error.to_string())
                .hint("'chat leave' first, or start a second daemon with --home"),
            MoveError::Moving => Self::new(ErrorCode::Busy, error.to_string()).hint("wait for it to end, or cancel it"),
            MoveError::Join(error) => error.into(),
            MoveError::Room(error) => error.into(),
            MoveError::NoRoom(error) => error.into(),
            MoveError::Failed(source) => Self::internal(source.as_ref()),
        }
    }
}

impl From<LeaveError> for Refusal {
    fn from(error: LeaveError) -> Self {
        match error {
            LeaveError::LastAdmin => Self::last_admin(error.to_string())
                .hint("'chat role NAME admin' appoints another admin; 'chat leave --yes' leaves all the same"),
            LeaveError::Room(error) => error.into(),
            LeaveError::NoRoom(error) => error.into(),
        }
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        let (code, hint) = match &error {
            JoinError::Stopping => return CommandError::Stopping.into(),
            JoinError::Denied(reason) => denied(*reason),
            JoinError::SeveralRooms { .. } => (ErrorCode::BadRequest, "'chat rooms' lists them"),
            JoinError::UnknownHost { .. } | JoinError::UnknownRoom { .. } => {
                (ErrorCode::Unreachable, "'chat rooms' lists rooms on the local network")
            }
            JoinError::Unreachable { .. } | JoinError::NotChatd { .. } | JoinError::NoRoom { .. } => {
                (ErrorCode::Unreachable, "is chatd running there, and does the firewall allow its port?")
            }
            JoinError::NoUdp { .. } => (ErrorCode::Unreachable, "does a firewall on either side block UDP?"),
            JoinError::TimedOut { .. } | JoinError::Broken { .. } => (ErrorCode::Unreachable, "try again"),
            JoinError::Itself { .. } => (ErrorCode::BadRequest, "give the address of another peer"),
        };
        Self::new(code, error.to_string()).hint(hint)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        (&error).into()
    }
}

impl From<&ReadError> for Refusal {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::UnknownMessage(_) => Self::new(ErrorCode::NotFound, error.to_string())
                .hint("'chat log --json' lists the stored messages with their ids"),
            ReadError::Index(reason) => persist(*reason, error),
            ReadError::Database(_) => Self::internal(error),
            ReadError::Closed(_) => CommandError::Stopping.into(),
        }
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        (&error).into()
    }
}

impl From<Arc<SendError>> for Refusal {
    fn from(error: Arc<SendError>) -> Self {
        (&*error).into()
    }
}

impl From<&SendError> for Refusal {
    fn from(error: &SendError) -> Self {
        let (code, hint) = match error {
            SendError::Text(error) => return error.clone().into(),
            SendError::Range(error) => return error.clone().into(),
            SendError::Resolve(error) => return error.clone().into(),
            SendError::NameMoved(moved) => return moved.as_ref().into(),
            SendError::Pins(source) if source.kind() == io::ErrorKind::StorageFull => {
                return CommandError::DiskFull.into();
            }
            SendError::Pins(_) => return Self::internal(error),
            SendError::Room(error) => return error.clone().into(),
            SendError::Seal(error) => return error.into(),
            SendError::Read(error) => return error.into(),
            SendError::UnexpectedReply => return Self::strange_reply(),
            SendError::CopiesWithoutReplicated => return Self::bad(error.to_string()),
            SendError::TooManyRecipients(_) => (ErrorCode::TooLong, "send it to the whole room instead"),
            SendError::InvalidKey => (ErrorCode::BadRequest, "a random UUID is a good key"),
            SendError::KeyReused => {
                (ErrorCode::KeyReused, "use a new key for each message, and the same key only to retry")
            }
            SendError::NoKeys(_) => {
                (ErrorCode::NoKeys, "its keys come with its first entries: retry when it has been online")
            }
        };
        Self::new(code, error.to_string()).hint(hint)
    }
}

impl From<&NameMoved> for Refusal {
    fn from(moved: &NameMoved) -> Self {
        let mut refusal = Self::new(ErrorCode::NameMoved, moved.to_string()).hint(moved.hint());
        let candidate = |peer: &PeerRef, before| NameCandidate { peer: peer.clone(), before };
        refusal.0.candidates = vec![candidate(&moved.now, false), candidate(&moved.before, true)];
        refusal
    }
}

impl From<&SealError> for Refusal {
    fn from(error: &SealError) -> Self {
        match error {
            SealError::Recipients | SealError::TooLong => Self::new(ErrorCode::TooLong, error.to_string()),
            SealError::Text(error) => error.clone().into(),
            SealError::BadKeys(_) => Self::new(ErrorCode::NoKeys, error.to_string()),
            SealError::NoRoom => CommandError::NotMember.into(),
            SealError::Disk(reason) => persist(*reason, error),
            SealError::Busy => CommandError::Busy.into(),
            SealError::Closed(_) => CommandError::Stopping.into(),
        }
    }
}

fn persist(reason: PersistError, error: &(dyn Error + 'static)) -> Refusal {
    match reason {
        PersistError::DiskFull => CommandError::DiskFull.into(),
        PersistError::Failed => Refusal::internal(error),
    }
}

const fn denied(reason: DenyReason) -> (ErrorCode, &'static str) {
    match reason {
        DenyReason::OtherRoom
        | DenyReason::UnknownInvite
        | DenyReason::Expired
        | DenyReason::Revoked
        | DenyReason::UsedUp => (ErrorCode::BadTicket, "'chat invite' on a member's machine prints a new one"),
        DenyReason::Removed => (ErrorCode::Denied, "ask an admin, then knock at its address: 'chat join HOST:PORT'"),
        DenyReason::Refused | DenyReason::TimedOut => {
            (ErrorCode::Denied, "ask a member for a ticket: 'chat invite' prints one")
        }
        DenyReason::BadName => (ErrorCode::BadRequest, "try another name"),
        DenyReason::Busy | DenyReason::NotReady => (ErrorCode::Busy, "try again in a moment"),
    }
}

/// A text in one line, of bounded length and without control characters: details quote what was sent.
fn one_line(text: &str) -> String {
    let safe = printable(text).replace(['\n', '\t'], " ");
    let mut short: String = safe.chars().take(DETAIL_CHARS_MAX).collect();
    if short.len() < safe.len() {
        short.push('…');
    }
    short
}
