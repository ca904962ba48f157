//! `chat role`: grants or revokes a member's admin rights.

use chat_client::Client;
use chat_proto::api::peers::MemberRole;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use crate::commands::completions;
use crate::error::CliError;
use crate::text::render::label;
use crate::text::ui;

/// Arguments of `chat role`.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// The member: name, tag or key
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), add = completions::members())]
    name: String,
    /// The role
    #[arg(value_name = "ROLE")]
    role: RoleArg,
}

/// The roles of a member.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    /// Talks, invites, admits; removes members and grants roles
    Admin,
    /// Talks, invites, admits
    Member,
}

/// Sets the role.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: RoleArgs, client: &Client) -> Result<(), CliError> {
    let (role, result) = match args.role {
        RoleArg::Admin => (MemberRole::Admin, "is now an admin"),
        RoleArg::Member => (MemberRole::Member, "is no longer an admin"),
    };
    client.set_role(&args.name, role).await?;
    ui::say(&format!("{} {result}", label(&args.name)));
    Ok(())
}
