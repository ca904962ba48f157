//! The commands, one module for each verb; this one hands the command line to its verb.

pub(crate) mod admit;
pub(crate) mod completions;
pub(crate) mod deny;
pub(crate) mod invite;
pub(crate) mod invites;
pub(crate) mod join;
pub(crate) mod knocks;
mod leave;
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
pub(crate) mod why;

use crate::args::Verb;
use crate::client::Client;
use crate::error::Failure;
use crate::interactive;
use crate::ui::Ui;

/// Does what the command line says, with a daemon.
///
/// # Errors
/// Says why it was not done.
pub(crate) async fn run(verb: Option<Verb>, client: &mut Client, ui: &mut Ui) -> Result<(), Failure> {
    let Some(verb) = verb else { return interactive::run(client, ui).await };
    match verb {
        Verb::Send(args) => send::run(args, client, ui).await,
        Verb::Tail(args) => tail::run(args, client, ui).await,
        Verb::Log(args) => log::run(args, client, ui).await,
        Verb::Peers(args) => peers::run(args, client, ui).await,
        Verb::Status(args) => status::run(args, client, ui).await,
        Verb::Why(args) => why::run(args, client, ui).await,
        Verb::Invite(args) => invite::run(args, client, ui).await,
        Verb::Invites(args) => invites::run(args, client, ui).await,
        Verb::Revoke(args) => revoke::run(args, client).await,
        Verb::Join(args) => join::run(args, client, ui).await,
        Verb::Knocks(args) => knocks::run(args, client, ui).await,
        Verb::Admit(args) => admit::run(args, client).await,
        Verb::Deny(args) => deny::run(args, client).await,
        Verb::Remove(args) => remove::run(args, client).await,
        Verb::Role(args) => role::run(args, client).await,
        Verb::Name(args) => name::run(args, client).await,
        Verb::Rooms(args) => rooms::run(args, client, ui).await,
        Verb::Leave => leave::run(client).await,
    }?;
    ui.flush()
}
