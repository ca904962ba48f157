//! `chat role`: says what a member may do.

use chat_proto::api::members::RoleRequest;
use chat_proto::api::peers::MemberRole;
use clap::{Args, ValueEnum};

use crate::client::{Call, Client, segment};
use crate::error::CommandError;
use crate::text::render::label;
use crate::text::ui;

/// Arguments of `chat role`.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// The member: name, tag or key
    #[arg(value_name = "NAME")]
    name: String,
    /// What it may do
    #[arg(value_name = "ROLE")]
    role: Role,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Talks, invites, admits; removes others and makes admins
    Admin,
    /// Talks, invites, admits
    Member,
}

/// Gives the role.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: RoleArgs, client: &mut Client) -> Result<(), CommandError> {
    let name = args.name.strip_prefix('@').unwrap_or(&args.name);
    let (role, said) = match args.role {
        Role::Admin => (MemberRole::Admin, "is an admin now"),
        Role::Member => (MemberRole::Member, "is no admin now"),
    };
    client.call(&Call::put(format!("/v1/members/{}/role", segment(name)), &RoleRequest { role })).await?;
    ui::say(&format!("{} {said}", label(name)));
    Ok(())
}
