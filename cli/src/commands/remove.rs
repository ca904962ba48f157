//! `chat remove`: puts a member out of the room.

use clap::Args;
use serde_json::json;

use crate::client::{Call, Client, segment};
use crate::error::CommandError;
use crate::text::render::label;
use crate::text::ui;

/// Arguments of `chat remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The member: name, tag or key
    #[arg(value_name = "NAME")]
    name: String,
}

/// Removes the member.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: RemoveArgs, client: &mut Client) -> Result<(), CommandError> {
    let name = args.name.strip_prefix('@').unwrap_or(&args.name);
    client.call(&Call::post(format!("/v1/members/{}/remove", segment(name)), &json!({}))).await?;
    ui::say(&format!("removed {}: out everywhere as soon as this has reached everybody", label(name)));
    Ok(())
}
