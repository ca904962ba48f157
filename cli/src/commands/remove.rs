//! `chat remove`: removes a member from the room.

use chat_client::Client;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::completions;
use crate::error::CliError;
use crate::text::render::label;
use crate::text::ui;

/// Arguments of `chat remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The member: name, tag or key
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), add = completions::members())]
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Removes the member.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: RemoveArgs, client: &Client) -> Result<(), CliError> {
    if !args.yes && ui::can_ask() {
        ui::confirm(&format!("Remove {} from the room?", label(&args.name)))?;
    }
    client.remove(&args.name).await?;
    ui::say(&format!("removed {}: takes effect at each member once the removal has reached it", label(&args.name)));
    Ok(())
}
