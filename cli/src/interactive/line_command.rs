//! Parses a typed line into a command or a message.

use crate::text::recipients;

/// The commands of the interactive room.
pub(super) const COMMANDS: [&str; 4] = ["/help", "/peers", "/exit", "/quit"];

/// Printed by `/help`.
pub(super) const HELP: &str = "\
plain text goes to all, '@name text' to one (several names are fine), Tab completes names
/peers lists the members; exit, quit or Ctrl-D leaves; a space in front sends a line that begins with @ or / to all";

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineCommand {
    /// White space only.
    Nothing,
    /// End the interactive room; the peer remains a member.
    Leave,
    /// Print the help.
    Help,
    /// List the members.
    Peers,
    /// A command that does not exist.
    Unknown(String),
    /// Names and no text.
    NoText(Vec<String>),
    /// A message.
    Say {
        /// Recipients; empty for the whole room.
        to: Vec<String>,
        /// The text.
        text: String,
    },
}

/// Parses a line.
pub(super) fn parse(line: &str) -> LineCommand {
    let line = line.trim_end();
    match line.trim_start() {
        "" => return LineCommand::Nothing,
        "exit" | "quit" => return LineCommand::Leave,
        _ => {}
    }
    if line.starts_with('/') {
        return match line {
            "/help" | "/?" => LineCommand::Help,
            "/peers" => LineCommand::Peers,
            "/exit" | "/quit" => LineCommand::Leave,
            other => LineCommand::Unknown(other.split_whitespace().next().unwrap_or_default().to_owned()),
        };
    }
    let (to, text) = recipients::split(line);
    if text.is_empty() { LineCommand::NoText(to) } else { LineCommand::Say { to, text: text.to_owned() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(to: &[&str], text: &str) -> LineCommand {
        LineCommand::Say { to: to.iter().map(|name| (*name).to_owned()).collect(), text: text.into() }
    }

    #[test]
    fn line_is_parsed_as_command_or_message() {
        for (line, meaning) in [
            ("  ", LineCommand::Nothing),
            ("exit", LineCommand::Leave),
            (" quit ", LineCommand::Leave),
            ("exit now", say(&[], "exit now")),
            ("/peers", LineCommand::Peers),
            ("/me waves", LineCommand::Unknown("/me".into())),
            (" /etc/hosts is wrong", say(&[], " /etc/hosts is wrong")),
            ("@bob hello", say(&["bob"], "hello")),
            ("@bob", LineCommand::NoText(vec!["bob".into()])),
            ("  indented\n    code  ", say(&[], "  indented\n    code")),
        ] {
            assert_eq!(parse(line), meaning, "{line:?}");
        }
    }
}
