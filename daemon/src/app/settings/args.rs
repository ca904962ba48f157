//! The command line of `chatd`.

use std::ffi::OsString;
use std::path::PathBuf;

use chat_proto::api::tokens::TokenScope;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::{Deserialize, Serialize};

/// Starts, stops and inspects the chatroom daemon of this machine. Messages are sent and read with `chat`.
#[derive(Debug, Parser)]
#[command(name = "chatd", version, arg_required_else_help = true, propagate_version = true)]
#[command(after_help = "Start a room:     chatd start\n\
                        Join a room:      chatd start --join TICKET   (a ticket comes from 'chat invite')\n\
                        Join by address:  chatd start --join HOST     (a member runs 'chat admit')\n\n\
                        Settings: defaults, then config.toml in the home, then CHATD_* variables, then flags.\n\
                        Exit codes: 0 done, 1 refused, 2 wrong usage, 3 no daemon, 4 not allowed.")]
pub(crate) struct ChatdArgs {
    /// Directory with this peer's key, room and settings [default: $CHATD_HOME, else $XDG_DATA_HOME/chatd]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: ChatdCommand,
}

/// The commands of `chatd`.
#[derive(Debug, Subcommand)]
pub(crate) enum ChatdCommand {
    /// Start the daemon in the background and return when it is ready; succeeds when it is already running
    Start(Box<StartArgs>),
    /// Stop the daemon: it hands over its role, notifies its neighbours and exits
    Stop(OutputArgs),
    /// Show the state of the daemon and its room
    Status(OutputArgs),
    /// Print CHATD_URL and CHATD_TOKEN for scripts: export $(chatd env)
    Env(EnvArgs),
    /// List the rooms on the local network; needs no room of one's own and no running daemon
    Rooms(OutputArgs),
    /// Make, list, rotate and revoke tokens for scripts that call over TCP
    Token {
        /// What to do
        #[command(subcommand)]
        action: TokenAction,
        /// How it is printed
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Verify every stored message and membership record; fails if something is damaged
    Check(OutputArgs),
    /// Write the room as JSON lines, signatures included, to standard output
    Export(ExportArgs),
    /// Check an export without a network, and print who said what
    Verify(VerifyArgs),
    /// Show the daemon's log
    Logs(LogsArgs),
    /// Install or remove a systemd user unit that starts the daemon at login
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
        /// Print the page of this command instead
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

/// Options of `chatd start`, which also travel to the process in the background as JSON.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
pub(crate) struct StartArgs {
    /// Name of this peer in the room [default: the login name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Join the room of this ticket, of the member at this address, or of this name on the local network; '-' reads it from
    /// standard input, which keeps a ticket out of the list of processes
    #[arg(long, value_name = "TICKET|HOST[:PORT]|ROOM", conflicts_with_all = ["room", "open"])]
    pub(crate) join: Option<String>,
    /// Found an open room, which admits every knock
    #[arg(long)]
    pub(crate) open: bool,
    /// Name of the room to found [default: derived from the founder's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) room: Option<String>,
    /// Address for other peers, UDP and TCP [default: all addresses, port 24283, or a free port if it is taken]
    #[arg(long, value_name = "ADDR[:PORT]|PORT")]
    pub(crate) listen: Option<String>,
    /// Loopback address of the local API [default: 127.0.0.1, port 24284, or the next free one]
    #[arg(long, value_name = "ADDR[:PORT]|PORT", conflicts_with = "no_tcp")]
    pub(crate) api: Option<String>,
    /// Offer the local API on the Unix socket only
    #[arg(long)]
    pub(crate) no_tcp: bool,
    /// Do not announce or discover rooms on the local network
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Drop the texts of messages that were held for this number of days [default: 0, which keeps all]
    #[arg(long, value_name = "DAYS")]
    pub(crate) retention_days: Option<String>,
    /// Stay in the foreground and log to standard error
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Print one JSON object when it is ready
    #[arg(long)]
    pub(crate) json: bool,
    /// Passed by 'chatd start' to the process it leaves in the background, which reads the other arguments from standard
    /// input: a ticket is a secret, and command lines are visible to every user of the machine
    #[arg(long, hide = true, requires = "foreground")]
    pub(crate) background_child: bool,
}

/// Options of `chatd export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportArgs {
    /// Begin where this earlier export ended
    #[arg(long, value_name = "FILE")]
    pub(crate) after: Option<PathBuf>,
}

/// Options of `chatd verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The export
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print one JSON object for each message
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `chatd env`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct EnvArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Print a configuration of curl that sends the token: curl -K <(chatd env --curl) $CHATD_URL/v1/status; command lines
    /// are visible to every user of the machine
    #[arg(long, conflicts_with = "json")]
    pub(crate) curl: bool,
}

/// What to do with the tokens.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenAction {
    /// Print the tokens and their scopes
    List,
    /// Make a token and print its secret, which is shown only once
    Create {
        /// Its name
        name: String,
        /// What it may be used for: 'read', 'send' (and read), 'admit' (and answer knocks), or 'admin' (everything)
        #[arg(long, default_value = "read")]
        scope: TokenScope,
    },
    /// Give a token a new secret and print it; the old one is void. 'default' is the one that 'chatd env' prints
    Rotate {
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Revoke a token; event streams that were opened with it end
    Revoke {
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
}

/// Options of `chatd logs`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LogsArgs {
    /// Keep printing new lines until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Number of lines to print from the end
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub(crate) lines: usize,
}

/// What to do with the systemd unit.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ServiceAction {
    /// Write the unit and print how to enable it
    Install,
    /// Remove the unit
    Uninstall,
}

impl ChatdArgs {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What to print instead: a usage error, or the requested help or version.
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
    fn command_line_definition_is_consistent() {
        ChatdArgs::definition().debug_assert();
    }

    #[test]
    fn home_option_before_or_after_the_command_is_accepted() {
        for line in ["chatd --home /x status", "chatd status --home /x"] {
            assert_eq!(read(line).expect("valid").home, Some(PathBuf::from("/x")), "{line}");
        }
    }

    #[test]
    fn contradictory_or_unknown_arguments_are_usage_errors() {
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
    fn missing_command_is_a_usage_error_and_help_is_not() {
        assert_eq!(read("chatd").expect_err("help").exit_code(), 2);
        assert_eq!(read("chatd --help").expect_err("help").exit_code(), 0);
        assert_eq!(read("chatd --version").expect_err("version").exit_code(), 0);
    }
}
