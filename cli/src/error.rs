//! How commands fail: what happened, what to do next, and the exit code.

use std::io;
use std::time::Duration;

use chat_client::ClientError;
use chat_client::chat_settings::ChatSettingsError;
use chat_client::home::LocateError;
use chat_proto::error::{Exit, with_causes};
use chat_proto::text::{TextError, printable};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The environment does not say where the daemon is.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The settings of the screen cannot be used.
    #[error(transparent)]
    Settings(#[from] ChatSettingsError),
    /// A call of the daemon failed.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The connection broke or the disk failed while a message was being sent. It may be stored or not.
    #[error("it is not known whether the message was stored")]
    Unsure {
        /// The key under which it can be sent again safely.
        key: String,
        /// What happened.
        source: ClientError,
    },
    /// The same of several messages on one connection.
    #[error("it is not known whether {word}s {first} to {last} were stored; no later {word} was sent")]
    ManyUnsure {
        /// What a message is called: a line, a part.
        word: &'static str,
        /// Number of the first.
        first: u64,
        /// Number of the last.
        last: u64,
        /// What happened.
        source: ClientError,
    },
    /// The message is stored; what was waited for has not come.
    #[error("the wait ran out after {}, held by {reached}: the message is stored and still travels", chat_client::display::span(*after))]
    WaitRanOut {
        /// How long was waited.
        after: Duration,
        /// How far the message has come, in words.
        reached: String,
    },
    /// The message or name cannot be sent.
    #[error(transparent)]
    Text(#[from] TextError),
    /// No text was given, and standard input is a terminal.
    #[error("there is nothing to send: give the text, or pipe it in")]
    NothingToSend,
    /// The person did not answer yes.
    #[error("nothing was done")]
    Declined,
    /// Copies are counted for `replicated` alone.
    #[error("--copies can be used with --wait replicated only")]
    CopiesWithoutReplicated,
    /// More on standard input than fits a message.
    #[error("standard input has more than the {max} bytes that fit one message", max = chat_proto::TEXT_BYTES_MAX)]
    InputTooLong,
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
    /// The terminal cannot be drawn on.
    #[error("the terminal cannot be used")]
    Screen(#[source] io::Error),
    /// Input comes from a terminal, and the messages go to a file or a pipe.
    #[error("standard output is not a terminal: read with 'chat tail', write with 'chat send'")]
    NotATerminal,
    /// The ticket does not fit a QR code.
    #[error("the ticket is too long for a QR code: 'chat invite --link' prints the link")]
    QrCode,
    /// No such command.
    #[error("there is no command '{}'", printable(.0))]
    UnknownCommand(String),
}

impl CliError {
    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Call(error) => call_exit(error),
            Self::Unsure { source: ClientError::Refused(_), .. }
            | Self::ManyUnsure { source: ClientError::Refused(_), .. } => Exit::Refused,
            Self::Unsure { .. } | Self::ManyUnsure { .. } => Exit::NoDaemon,
            Self::WaitRanOut { .. } => Exit::WaitRanOut,
            Self::NothingToSend
            | Self::CopiesWithoutReplicated
            | Self::NotATerminal
            | Self::UnknownCommand(_)
            | Self::Settings(_)
            | Self::Locate(_) => Exit::Usage,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Text(_)
            | Self::InputTooLong
            | Self::Input(_)
            | Self::Output(_)
            | Self::Terminal(_)
            | Self::Screen(_)
            | Self::Runtime(_)
            | Self::QrCode
            | Self::Declined => Exit::Refused,
        }
    }

    /// What to do next, where there is something.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Call(error) => error.hint(),
            Self::Unsure { key, .. } => Some(format!("send it again with --key {key}: it is posted once")),
            Self::ManyUnsure { word, .. } => Some(format!(
                "'chat log -n 5' shows which were, once the daemon runs: send the {word}s after the last of them"
            )),
            Self::InputTooLong => Some(
                "'chat send --tail' sends the last part that fits, 'chat send --split' sends several messages".into(),
            ),
            Self::Locate(_)
            | Self::Settings(_)
            | Self::WaitRanOut { .. }
            | Self::Text(_)
            | Self::NothingToSend
            | Self::Declined
            | Self::CopiesWithoutReplicated
            | Self::Input(_)
            | Self::Output(_)
            | Self::Terminal(_)
            | Self::Screen(_)
            | Self::Runtime(_)
            | Self::NotATerminal
            | Self::QrCode
            | Self::UnknownCommand(_) => None,
        }
    }

    /// What is printed: `chat: …`, and a line `hint: …` where there is one.
    pub(crate) fn lines(&self) -> String {
        let hint = self.hint();
        // Without a daemon the way out is part of the line, and the system's reason tells nothing more.
        if let (Self::Call(ClientError::NoDaemon { .. }), Some(hint)) = (self, &hint) {
            return one_line(&format!("chat: {self}: {hint}"));
        }
        let line = format!("chat: {}", with_causes(self));
        match hint {
            Some(hint) => format!("{}\nhint: {}", one_line(&line), one_line(&hint)),
            None => one_line(&line),
        }
    }
}

fn call_exit(error: &ClientError) -> Exit {
    match error {
        ClientError::NoDaemon { .. } | ClientError::Broken { .. } | ClientError::TimedOut { .. } => Exit::NoDaemon,
        ClientError::NotYours { .. } => Exit::NotAllowed,
        ClientError::Refused(problem) => problem.code.exit(),
        ClientError::WaitRanOut(_) => Exit::WaitRanOut,
        ClientError::Unexpected { .. }
        | ClientError::TooLong
        | ClientError::Request { .. }
        | ClientError::File { .. } => Exit::Refused,
    }
}

/// Details may quote other members.
fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use chat_proto::error::{ErrorCode, Problem};

    use super::*;

    fn refused(code: ErrorCode) -> CliError {
        let problem = Problem::new(code, "no member is called 'b\x07b'").with_hint("look\nthere");
        ClientError::Refused(Box::new(problem)).into()
    }

    #[test]
    fn problem_is_one_line_and_one_hint() {
        let lines = refused(ErrorCode::UnknownMember).lines();
        assert_eq!(lines, "chat: no member is called 'b\u{FFFD}b'\nhint: look there");
    }

    #[test]
    fn missing_daemon_is_one_line_that_names_the_command() {
        let failure: CliError = ClientError::NoDaemon {
            place: "/h/run".into(),
            start: Some("chatd start --home /h".into()),
            source: io::ErrorKind::NotFound.into(),
        }
        .into();
        assert_eq!(failure.lines(), "chat: no daemon answers at /h/run: start one with 'chatd start --home /h'");
        assert_eq!(failure.exit(), Exit::NoDaemon);
    }

    #[test]
    fn exit_code_follows_the_kind_of_error() {
        assert_eq!(refused(ErrorCode::UnknownMember).exit(), Exit::Refused);
        assert_eq!(refused(ErrorCode::Unauthorized).exit(), Exit::NotAllowed);
        assert_eq!(CliError::NothingToSend.exit(), Exit::Usage);
        assert_eq!(CliError::Output(io::ErrorKind::BrokenPipe.into()).exit(), Exit::Done);
        assert_eq!(CliError::Output(io::ErrorKind::StorageFull.into()).exit(), Exit::Refused);
    }

    #[test]
    fn cause_is_printed_once() {
        let failure = CliError::Input(io::Error::other("gone"));
        assert_eq!(failure.lines(), "chat: standard input cannot be read: gone");
    }
}
