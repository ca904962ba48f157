//! `chat leave`: leaves the room for good.

use serde_json::json;

use crate::client::{Call, Client};
use crate::error::CommandError;
use crate::text::ui;

/// Leaves the room.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(client: &mut Client) -> Result<(), CommandError> {
    client.call(&Call::post("/v1/leave", &json!({}))).await?;
    ui::say("left the room");
    Ok(())
}
