//! `chat revoke`: ends an invite before its time.

use chat_client::Client;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::completions;
use crate::error::CliError;
use crate::text::render::label;
use crate::text::ui;

/// Arguments of `chat revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The invite's id, or its first digits
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new(), add = completions::invites())]
    id: String,
}

/// Revokes the invite.
///
/// # Errors
/// Says how the call failed, or that no single invite has that id.
pub(crate) async fn run(args: RevokeArgs, client: &Client) -> Result<(), CliError> {
    client.revoke(&args.id).await?;
    ui::say(&format!("revoked {}: its ticket no longer admits anyone", label(&args.id)));
    Ok(())
}
