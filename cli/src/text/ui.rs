//! Standard output for data, standard error for messages to the person, and whether output is coloured.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use crate::error::CliError;
use crate::text::wrap::fold;

/// Bytes of output that are buffered, unless they are flushed earlier.
const BUFFER_BYTES: usize = 64 * 1024;

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// With escape sequences.
    On,
    /// Plain.
    Off,
}

impl Colour {
    /// For an output: `NO_COLOR` turns it off, else `FORCE_COLOR` on; else it follows the terminal.
    pub(crate) fn choose(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let forced = variable("FORCE_COLOR").is_some_and(|value| !value.is_empty() && value != "0");
        let capable = terminal && variable("TERM").is_none_or(|term| term != "dumb");
        if set("NO_COLOR") || !(forced || capable) { Self::Off } else { Self::On }
    }

    /// `text` in the colours of `sgr` (parameters of the "select graphic rendition" sequence).
    pub(crate) fn paint(self, sgr: &str, text: &str) -> String {
        match self {
            Self::On if !text.is_empty() => format!("\x1b[{sgr}m{text}\x1b[0m"),
            Self::On | Self::Off => text.to_owned(),
        }
    }
}

/// The two outputs of a command.
pub(crate) struct Ui {
    out: BufWriter<Stdout>,
    /// Colours on standard output.
    pub(crate) colour: Colour,
}

impl Ui {
    /// The outputs of this process.
    pub(crate) fn new() -> Self {
        let colour = Colour::choose(io::stdout().is_terminal(), |name| std::env::var_os(name));
        Self { out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout()), colour }
    }

    /// Writes data and a line end to the buffer; [`Ui::flush`] writes it out.
    ///
    /// # Errors
    /// When standard output is closed or full.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Writes one JSON object as a line.
    ///
    /// # Errors
    /// When standard output is closed or full.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).expect("answers have string keys and finite numbers");
        self.line(&shown_json(&text))
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When standard output is closed or full.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes out everything buffered so far.
    ///
    /// # Errors
    /// When standard output is closed or full.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.out.flush()?)
    }
}

/// Waits until the reader of standard output, a pipe, has gone; for ever where that cannot be detected.
pub(crate) async fn reader_gone() {
    // Watched only: it remains a blocking pipe, which is written elsewhere. A file cannot be watched, and need not be.
    let watched = io::stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    if let Ok(pipe) = watched {
        while let Ok(ready) = pipe.ready(Interest::ERROR).await {
            if ready.is_error() || ready.is_write_closed() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    std::future::pending().await
}

/// Columns of the terminal on standard output, if it is one.
pub(crate) fn columns() -> Option<usize> {
    columns_of(io::stdout())
}

fn columns_of(output: impl AsFd + IsTerminal) -> Option<usize> {
    let size = tcgetwinsize(&output).ok().filter(|_| output.is_terminal())?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Prints a message for the person on standard error, wrapped at words where that is a terminal. A closed standard error is
/// ignored.
pub(crate) fn say(text: &str) {
    let text = columns_of(io::stderr()).map_or_else(|| text.to_owned(), |width| fold(text, width, 0).join("\n"));
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether there is a person to ask: scripts have no terminal on standard input, and are not asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks whether to go on, on standard error.
///
/// # Errors
/// [`CliError::Declined`] unless the answer is yes.
pub(crate) fn confirm(question: &str) -> Result<(), CliError> {
    // A closed standard error shows no question; the answer counts all the same.
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::Input)?;
    let yes = ["y", "yes"].contains(&answer.trim().to_lowercase().as_str());
    if yes { Ok(()) } else { Err(CliError::Declined) }
}

/// JSON text on one line whose strings hold no character that a terminal would act on: those are escaped, which changes
/// no value.
pub(crate) fn shown_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ' '..='~' => text.push(c),
            // Between tokens only: inside a string JSON has it escaped.
            '\n' | '\r' | '\t' => text.push(' '),
            c if acts(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            c => text.push(c),
        }
    }
    text
}

fn acts(c: char) -> bool {
    let mut buffer = [0; 4];
    let text: &str = c.encode_utf8(&mut buffer);
    chat_proto::text::printable(text) != text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choose(terminal: bool, variables: &[(&str, &str)]) -> Colour {
        Colour::choose(terminal, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn colour_follows_terminal_and_environment() {
        assert_eq!(choose(true, &[]), Colour::On);
        assert_eq!(choose(false, &[]), Colour::Off);
        assert_eq!(choose(true, &[("TERM", "dumb")]), Colour::Off);
        assert_eq!(choose(true, &[("NO_COLOR", "1")]), Colour::Off);
        assert_eq!(choose(true, &[("NO_COLOR", "")]), Colour::On);
        assert_eq!(choose(false, &[("FORCE_COLOR", "1")]), Colour::On);
        assert_eq!(choose(false, &[("FORCE_COLOR", "0")]), Colour::Off);
        assert_eq!(choose(false, &[("FORCE_COLOR", "1"), ("NO_COLOR", "1")]), Colour::Off);
    }

    #[test]
    fn json_cannot_drive_a_terminal() {
        assert_eq!(shown_json("\"\u{e0041}\u{200d}\""), "\"\\udb40\\udc41\\u200d\"");
        assert_eq!(shown_json("{\"a\":\n\"\u{9b}2J\u{202e}\u{7f}ü\"}"), "{\"a\": \"\\u009b2J\\u202e\\u007fü\"}");
    }

    proptest! {
        #[test]
        fn json_keeps_its_value(text: String) {
            let json = serde_json::to_string(&text).expect("a string");
            let shown = shown_json(&json);
            prop_assert_eq!(serde_json::from_str::<String>(&shown).ok(), Some(text));
            prop_assert_eq!(chat_proto::text::printable(&shown), shown);
        }
    }
}
