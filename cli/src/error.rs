//! How commands fail: one line of what, one of what to do, and the exit code.

use std::error::Error;
use std::io;
use std::time::Duration;

use chat_proto::cursor::ParseCursorError;
use chat_proto::error::Exit;
use chat_proto::text::{TextError, printable};

use crate::client::CallError;
use crate::home::HomeError;
use crate::sse::SseError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The environment does not say where the daemon is.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A call of the daemon failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The connection broke while a message was being sent, and did not come back. It may be stored or not.
    #[error("it is not known whether the message was stored")]
    Unsure {
        /// The key under which it can be sent again safely.
        key: String,
        /// What ended the connection.
        source: CallError,
    },
    /// The message is stored; what was waited for has not come.
    #[error("the wait ran out after {} with {reached}: the message is kept and still travels", crate::text::render::span(*after))]
    WaitRanOut {
        /// How long was waited.
        after: Duration,
        /// How far the message has come, in words.
        reached: String,
    },
    /// The message or name cannot be sent.
    #[error(transparent)]
    Text(#[from] TextError),
    /// There is nothing to send, and nobody pipes anything in.
    #[error("there is nothing to send: give the text, or pipe it in")]
    NothingToSend,
    /// Copies are counted for `replicated` alone.
    #[error("--copies goes with --wait replicated alone")]
    CopiesWithoutReplicated,
    /// More on standard input than fits a message.
    #[error("standard input holds more than the {max} bytes that fit one message, send it in parts", max = chat_proto::TEXT_BYTES_MAX)]
    InputTooLong,
    /// Standard input is not text.
    #[error("standard input is not UTF-8 text")]
    InputNotText,
    /// Standard input cannot be read.
    #[error("standard input cannot be read")]
    Input(#[source] io::Error),
    /// Standard output is closed or its disk is full.
    #[error("standard output cannot be written")]
    Output(#[from] io::Error),
    /// The system gives this process no event loop.
    #[error("the process cannot wait for events")]
    Runtime(#[source] io::Error),
    /// The terminal cannot be used for typing.
    #[error("the terminal cannot be used")]
    Terminal(#[source] rustyline::error::ReadlineError),
    /// Somebody types, and the messages go to a file or a pipe.
    #[error("standard output is not a terminal: read with 'chat tail', write with 'chat send'")]
    NotATerminal,
    /// The daemon's event stream cannot be read.
    #[error(transparent)]
    Stream(#[from] SseError),
    /// An event's place cannot be read.
    #[error("the daemon's event stream holds a strange cursor")]
    Cursor(#[from] ParseCursorError),
    /// Nobody goes by that name, tag or key.
    #[error("no member is called '{}'", printable(.0))]
    UnknownMember(String),
    /// Several go by that name.
    #[error("several members could be meant by '{}'", printable(.0))]
    AmbiguousMember(String),
    /// No invite begins like that.
    #[error("no invite has an id that begins with '{}'", printable(.0))]
    UnknownInvite(String),
    /// Several invites begin like that.
    #[error("several invites have ids that begin with '{}'", printable(.0))]
    AmbiguousInvite(String),
    /// No such command.
    #[error("there is no command '{}'", printable(.0))]
    UnknownCommand(String),
}

impl CommandError {
    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Call(error) => call_exit(error),
            Self::Unsure { .. } => Exit::NoDaemon,
            Self::WaitRanOut { .. } => Exit::WaitRanOut,
            Self::NothingToSend
            | Self::CopiesWithoutReplicated
            | Self::NotATerminal
            | Self::UnknownCommand(_)
            | Self::Home(_) => Exit::Usage,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Text(_)
            | Self::InputTooLong
            | Self::InputNotText
            | Self::Input(_)
            | Self::Output(_)
            | Self::Terminal(_)
            | Self::Runtime(_)
            | Self::Stream(_)
            | Self::Cursor(_)
            | Self::UnknownMember(_)
            | Self::AmbiguousMember(_)
            | Self::UnknownInvite(_)
            | Self::AmbiguousInvite(_) => Exit::Refused,
        }
    }

    /// What to do next, where there is something.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Call(CallError::Refused(problem)) => problem.hint.clone(),
            Self::Call(CallError::TimedOut { .. }) => Some("'chatd logs' says what it is busy with".into()),
            Self::Call(CallError::Strange { .. }) => Some("'chat --version' and 'chatd --version' should agree".into()),
            Self::Unsure { key, .. } => Some(format!("send it again with --key {key}: it is posted once")),
            Self::UnknownMember(_) => Some("'chat peers' lists the members".into()),
            Self::AmbiguousMember(_) => Some("say which by its tag, as 'chat peers' shows it".into()),
            Self::UnknownInvite(_) | Self::AmbiguousInvite(_) => Some("'chat invites' lists the ids".into()),
            Self::Call(_)
            | Self::Home(_)
            | Self::WaitRanOut { .. }
            | Self::Text(_)
            | Self::NothingToSend
            | Self::CopiesWithoutReplicated
            | Self::InputTooLong
            | Self::InputNotText
            | Self::Input(_)
            | Self::Output(_)
            | Self::Terminal(_)
            | Self::Runtime(_)
            | Self::NotATerminal
            | Self::Stream(_)
            | Self::Cursor(_)
            | Self::UnknownCommand(_) => None,
        }
    }

    /// What is said about it: `chat: …`, and a line `hint: …` where there is one.
    pub(crate) fn lines(&self) -> String {
        let mut line = format!("chat: {self}");
        let mut source = self.source();
        while let Some(cause) = source {
            line += &format!(": {cause}");
            source = cause.source();
        }
        if let Self::Call(CallError::NoDaemon { start, .. }) = self {
            let next = match start {
                Some(start) => format!("start one with '{start}'"),
                None => "CHATD_URL names that place, 'chatd env' prints where it runs".into(),
            };
            line = format!("chat: {self}: {next}");
        }
        let line = one_line(&line);
        match self.hint() {
            Some(hint) => format!("{line}\nhint: {}", one_line(&hint)),
            None => line,
        }
    }
}

fn call_exit(error: &CallError) -> Exit {
    match error {
        CallError::NoDaemon { .. } | CallError::Broken { .. } | CallError::TimedOut { .. } => Exit::NoDaemon,
        CallError::NotYours { .. } => Exit::NotAllowed,
        CallError::Refused(problem) => problem.code.exit(),
        CallError::Strange { .. } | CallError::TooLong | CallError::Request { .. } => Exit::Refused,
    }
}

/// Details may quote what others wrote.
fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use chat_proto::error::{ErrorCode, Problem};

    use super::*;

    fn refused(code: ErrorCode) -> CommandError {
        let problem = Problem::new(code, "no member is called 'b\x1bb'").with_hint("look\nthere");
        CallError::Refused(Box::new(problem)).into()
    }

    #[test]
    fn a_problem_is_one_line_and_one_hint() {
        let lines = refused(ErrorCode::UnknownMember).lines();
        assert_eq!(lines, "chat: no member is called 'b\u{FFFD}b'\nhint: look there");
    }

    #[test]
    fn a_missing_daemon_is_one_line_that_says_what_to_do() {
        let failure: CommandError = CallError::NoDaemon {
            place: "/h/run".into(),
            start: Some("chatd start --home /h".into()),
            source: io::ErrorKind::NotFound.into(),
        }
        .into();
        assert_eq!(failure.lines(), "chat: no daemon answers at /h/run: start one with 'chatd start --home /h'");
        assert_eq!(failure.exit(), Exit::NoDaemon);
    }

    #[test]
    fn exit_codes_follow_the_kind() {
        assert_eq!(refused(ErrorCode::UnknownMember).exit(), Exit::Refused);
        assert_eq!(refused(ErrorCode::Unauthorized).exit(), Exit::NotAllowed);
        assert_eq!(CommandError::NothingToSend.exit(), Exit::Usage);
        assert_eq!(CommandError::Output(io::ErrorKind::BrokenPipe.into()).exit(), Exit::Done);
        assert_eq!(CommandError::Output(io::ErrorKind::StorageFull.into()).exit(), Exit::Refused);
    }

    #[test]
    fn causes_are_printed_once() {
        let failure = CommandError::Input(io::Error::other("gone"));
        assert_eq!(failure.lines(), "chat: standard input cannot be read: gone");
    }
}
