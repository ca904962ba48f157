//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::commands::{
    admit::AdmitArgs, completions::CompletionsArgs, deny::DenyArgs, invite::InviteArgs, invites::InvitesArgs,
    join::JoinArgs, knocks::KnocksArgs, log::LogArgs, man::ManArgs, name::NameArgs, peers::PeersArgs,
    remove::RemoveArgs, revoke::RevokeArgs, role::RoleArgs, rooms::RoomsArgs, send::SendArgs, status::StatusArgs,
    tail::TailArgs, why::WhyArgs,
};

/// What stands below the help.
const AFTER_HELP: &str = "\
Without a command, chat opens the room to type in: plain text to all, '@name text' to one, Tab completes names,
'exit', 'quit' or Ctrl-D leaves. With standard input from a file or a pipe, each of its lines is sent.

Exit codes: 0 done, 1 refused, 2 usage, 3 no daemon, 4 not allowed, 5 the wait ran out (the message still travels).";

/// Talk in a room without a server; the daemon 'chatd' keeps the room.
#[derive(Debug, Parser)]
#[command(name = "chat", version, after_help = AFTER_HELP, max_term_width = 110)]
pub(crate) struct Args {
    /// Home of the daemon [default: $CHATD_HOME, else $XDG_DATA_HOME/chatd]; CHATD_URL and CHATD_TOKEN reach one over TCP
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,

    /// What to do; nothing opens the room.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// With a daemon
    #[command(flatten)]
    Verb(Verb),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

/// What to do with a daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Say something to the room, or to some of its members
    Send(SendArgs),
    /// Show the last messages and follow the conversation
    Tail(TailArgs),
    /// Look up the history, oldest first, in the order that is the same at every member
    Log(LogArgs),
    /// List the members and how they are reached
    Peers(PeersArgs),
    /// Say how the daemon, its peer and its room stand
    Status(StatusArgs),
    /// Explain who holds the rendezvous role, who would follow, and why
    Why(WhyArgs),
    /// Print a ticket that lets newcomers in
    Invite(InviteArgs),
    /// List the invites
    Invites(InvitesArgs),
    /// Revoke an invite
    Revoke(RevokeArgs),
    /// Move to another room: with a ticket, or by knocking at a member's address
    Join(JoinArgs),
    /// List strangers that ask to be let in
    Knocks(KnocksArgs),
    /// Let a stranger in
    Admit(AdmitArgs),
    /// Refuse a stranger
    Deny(DenyArgs),
    /// Remove a member from the room
    Remove(RemoveArgs),
    /// Make a member an admin, who may remove others, or no longer one
    Role(RoleArgs),
    /// Go by another name
    Name(NameArgs),
    /// List rooms on the local network
    Rooms(RoomsArgs),
    /// Leave the room for good
    Leave,
}

/// A span such as `90s`, for clap.
pub(crate) fn span(text: &str) -> Result<Duration, chat_proto::time::ParseTimeError> {
    chat_proto::time::parse_duration(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_may_follow_the_text() {
        let args = Args::try_parse_from(["chat", "send", "@bob", "hi", "there", "--wait", "delivered", "--home", "/h"]);
        let args = args.expect("flags are recognised behind the text");
        assert_eq!(args.home, Some(PathBuf::from("/h")));
        assert!(matches!(args.command, Some(Command::Verb(Verb::Send(send))) if send.text == ["@bob", "hi", "there"]));
    }
}
