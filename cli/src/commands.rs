//! The commands, one module for each verb; this one hands the command line to its verb.

pub(crate) mod admit;
pub(crate) mod completions;
pub(crate) mod deny;
pub(crate) mod invite;
pub(crate) mod invites;
pub(crate) mod join;
pub(crate) mod knocks;
pub(crate) mod leave;
pub(crate) mod log;
pub(crate) mod man;
pub(crate) mod name;
pub(crate) mod peers;
pub(crate) mod remove;
pub(crate) mod revoke;
pub(crate) mod role;
pub(crate) mod rooms;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod trust;
pub(crate) mod verify;
pub(crate) mod web;
pub(crate) mod why;

use chat_client::Client;
use clap::Subcommand;

use crate::error::CliError;
use crate::text::ui::Ui;

/// The commands that call the daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum RoomCommand {
    /// Send a message to the room, or to some of its members
    Send(send::SendArgs),
    /// Show the last messages and follow the conversation
    Tail(tail::TailArgs),
    /// Print the history, oldest first, in the order that is the same for every member
    Log(log::LogArgs),
    /// List the members and how they are connected
    Peers(peers::PeersArgs),
    /// Show the status of the daemon, its peer and its room
    Status(status::StatusArgs),
    /// Explain which peer holds the rendezvous role, which would follow, and why
    Why(why::WhyArgs),
    /// Print a one-time link to the room in the browser, and open it
    Web(web::WebArgs),
    /// Print a ticket that admits newcomers
    Invite(invite::InviteArgs),
    /// List the invites
    Invites(invites::InvitesArgs),
    /// Revoke an invite
    Revoke(revoke::RevokeArgs),
    /// Move to another room: with a ticket, or by knocking at a member's address
    Join(join::JoinArgs),
    /// List newcomers that ask for admission
    Knocks(knocks::KnocksArgs),
    /// Admit a newcomer
    Admit(admit::AdmitArgs),
    /// Deny a newcomer admission
    Deny(deny::DenyArgs),
    /// Show words to compare with a member, to see that no one impersonates it
    Verify(verify::SafetyWordsArgs),
    /// Accept the member that bears a name now, where another one bore it when you last wrote to it
    Trust(trust::TrustArgs),
    /// Remove a member from the room
    Remove(remove::RemoveArgs),
    /// Grant or revoke a member's admin rights
    Role(role::RoleArgs),
    /// Change your own name
    Name(name::NameArgs),
    /// List rooms on the local network
    Rooms(rooms::RoomsArgs),
    /// Leave the room for good
    Leave(leave::LeaveArgs),
}

/// Runs a command.
///
/// # Errors
/// Says why the command failed.
pub(crate) async fn run(verb: RoomCommand, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    match verb {
        RoomCommand::Send(args) => send::run(args, client, ui).await,
        RoomCommand::Tail(args) => tail::run(args, client, ui).await,
        RoomCommand::Log(args) => log::run(args, client, ui).await,
        RoomCommand::Peers(args) => peers::run(args, client, ui).await,
        RoomCommand::Status(args) => status::run(args, client, ui).await,
        RoomCommand::Why(args) => why::run(args, client, ui).await,
        RoomCommand::Web(args) => web::run(args, client, ui).await,
        RoomCommand::Invite(args) => invite::run(args, client, ui).await,
        RoomCommand::Invites(args) => invites::run(args, client, ui).await,
        RoomCommand::Revoke(args) => revoke::run(args, client).await,
        RoomCommand::Join(args) => join::run(args, client, ui).await,
        RoomCommand::Knocks(args) => knocks::run(args, client, ui).await,
        RoomCommand::Admit(args) => admit::run(args, client).await,
        RoomCommand::Deny(args) => deny::run(args, client).await,
        RoomCommand::Verify(args) => verify::run(args, client, ui).await,
        RoomCommand::Trust(args) => trust::run(args, client).await,
        RoomCommand::Remove(args) => remove::run(args, client).await,
        RoomCommand::Role(args) => role::run(args, client).await,
        RoomCommand::Name(args) => name::run(args, client).await,
        RoomCommand::Rooms(args) => rooms::run(args, client, ui).await,
        RoomCommand::Leave(args) => leave::run(args, client).await,
    }?;
    ui.flush()
}
