//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::RoomCommand;
use crate::commands::completions::CompletionsArgs;
use crate::commands::man::ManArgs;

/// Printed below the help.
const AFTER_HELP: &str = "\
Without a command, chat opens the room on the whole screen: plain text goes to all, '@name text' to one, Tab completes
names, F1 shows the keys, 'exit', 'quit' or Ctrl-D leaves. With standard input from a file or a pipe, each of its lines
is sent.

Exit codes: 0 done, 1 refused, 2 usage, 3 no daemon, 4 not allowed, 5 the wait ran out (the message is stored and
still travels).";

/// Talk in a room without a server; the daemon 'chatd' keeps the room
#[derive(Debug, Parser)]
#[command(name = "chat", version, after_help = AFTER_HELP, max_term_width = 110)]
pub(crate) struct ChatArgs {
    /// Home of the daemon [default: $CHATD_HOME, else $XDG_DATA_HOME/chatd]; CHATD_URL and CHATD_TOKEN select one over TCP
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,

    /// Without a command: print messages line by line instead of drawing the whole screen
    #[arg(long)]
    pub(crate) plain: bool,

    /// The command; without one, the room is opened.
    #[command(subcommand)]
    pub(crate) command: Option<ChatCommand>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ChatCommand {
    /// Those that call the daemon
    #[command(flatten)]
    Room(RoomCommand),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        ChatArgs::command().debug_assert();
    }

    #[test]
    fn flag_after_the_text_is_recognised() {
        let args =
            ChatArgs::try_parse_from(["chat", "send", "@bob", "hi", "there", "--wait", "delivered", "--home", "/h"]);
        let args = args.expect("flags are recognised behind the text");
        assert_eq!(args.home, Some(PathBuf::from("/h")));
        assert!(
            matches!(args.command, Some(ChatCommand::Room(RoomCommand::Send(send))) if send.text == ["@bob", "hi", "there"])
        );
    }
}
