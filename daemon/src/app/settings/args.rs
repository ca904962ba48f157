//! The command line of `chatd`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::{Deserialize, Serialize};

/// Starts, stops and asks the chatroom daemon of this machine. What is said in the room goes through `chat`.
#[derive(Debug, Parser)]
#[command(name = "chatd", version, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "Start a room:     chatd start\n\
                        Join a room:      chatd start --join TICKET   (a ticket comes from 'chat invite')\n\
                        Join by address:  chatd start --join HOST     (a member answers with 'chat admit')\n\n\
                        DaemonSettings: defaults, then config.toml in the home, then CHATD_* variables, then flags.\n\
                        Exit codes: 0 done, 1 refused, 2 wrong usage, 3 no daemon, 4 not allowed.")]
pub(crate) struct ChatdArgs {
    /// Directory with this peer's key, room and settings [default: $CHATD_HOME, else $XDG_DATA_HOME/chatd]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ChatdCommand,
}

/// What `chatd` does.
#[derive(Debug, Subcommand)]
pub(crate) enum ChatdCommand {
    /// Start the daemon in the background and return when it is ready; when it runs already, say so
    Start(Box<StartArgs>),
    /// Stop the daemon: it hands over, tells its neighbours and ends
    Stop(OutputArgs),
    /// Show how the daemon and its room stand
    Status(OutputArgs),
    /// Print CHATD_URL and CHATD_TOKEN for scripts: export $(chatd env)
    Env(OutputArgs),
    /// Show the daemon's log
    Logs(LogsArgs),
    /// Write or remove a systemd user unit, so that the daemon starts with the session
    Service {
        /// What to do with the unit.
        #[command(subcommand)]
        action: ServiceAction,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// The page of this command instead
        command: Option<String>,
    },
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to start with.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
pub(crate) struct StartArgs {
    /// Name to be known by [default: the login name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Join the room of this ticket, or of the member at this address
    #[arg(long, value_name = "TICKET|HOST[:PORT]", conflicts_with_all = ["room", "open"])]
    pub(crate) join: Option<String>,
    /// Found a room that lets everybody in who knocks
    #[arg(long)]
    pub(crate) open: bool,
    /// Name of the room that is founded [default: after the founder]
    #[arg(long, value_name = "NAME")]
    pub(crate) room: Option<String>,
    /// Address for other peers, UDP and TCP [default: every address, port 24283, or a free port if it is taken]
    #[arg(long, value_name = "ADDR[:PORT]|PORT")]
    pub(crate) listen: Option<String>,
    /// Loopback address of the local API [default: 127.0.0.1, port 24284, or the next free one]
    #[arg(long, value_name = "ADDR[:PORT]|PORT", conflicts_with = "no_tcp")]
    pub(crate) api: Option<String>,
    /// Offer the local API on the Unix socket only
    #[arg(long)]
    pub(crate) no_tcp: bool,
    /// Neither announce nor look for rooms on the local network
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Stay in the foreground and log to standard error
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Print one JSON object when it is ready
    #[arg(long)]
    pub(crate) json: bool,
    /// Given by 'chatd start' to the process it leaves in the background, which reads the other arguments from standard
    /// input: a ticket is a secret, and everybody sees the command lines of running processes
    #[arg(long, hide = true, requires = "foreground")]
    pub(crate) background_child: bool,
}

/// Which part of the log is shown.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on with what is written from now on, until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub(crate) lines: usize,
}

/// What to do with the systemd unit.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ServiceAction {
    /// Write the unit and say how to enable it
    Install,
    /// Remove the unit
    Uninstall,
}

impl ChatdArgs {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What clap says to print, which may be the help or the version that was asked for.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(words)
    }

    /// The command line as clap sees it, for completions and the manual.
    pub(crate) fn definition() -> clap::Command {
        Self::command()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<ChatdArgs, clap::Error> {
        ChatdArgs::read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        ChatdArgs::definition().debug_assert();
    }

    #[test]
    fn home_stands_before_or_behind_the_command() {
        for line in ["chatd --home /x status", "chatd status --home /x"] {
            assert_eq!(read(line).expect("valid").home, Some(PathBuf::from("/x")), "{line}");
        }
    }

    #[test]
    fn a_joiner_does_not_name_the_room() {
        for line in [
            "chatd start --join h --room r",
            "chatd start --join h --open",
            "chatd start --api 127.0.0.1 --no-tcp",
            "chatd start --background-child",
            "chatd start extra",
            "chatd frobnicate",
            "chatd logs -n many",
        ] {
            assert_eq!(read(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn no_command_is_wrong_usage_and_help_is_not() {
        assert_eq!(read("chatd").expect_err("help").exit_code(), 2);
        assert_eq!(read("chatd --help").expect_err("help").exit_code(), 0);
        assert_eq!(read("chatd --version").expect_err("version").exit_code(), 0);
    }
}
