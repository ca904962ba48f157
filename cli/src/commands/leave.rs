//! `chat leave`: leaves the room for good.

use chat_client::Client;

use crate::error::CommandError;
use crate::text::ui;

/// Leaves the room.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(client: &Client) -> Result<(), CommandError> {
    client.leave().await?;
    ui::say("left the room");
    Ok(())
}
