//! `chat leave`: leaves the room for good.

use chat_client::Client;
use clap::Args;

use crate::error::CliError;
use crate::text::render::label;
use crate::text::ui;

/// Arguments of `chat leave`.
#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    /// Do not ask, and leave even as the only admin
    #[arg(long)]
    yes: bool,
}

/// Leaves the room.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: LeaveArgs, client: &Client) -> Result<(), CliError> {
    if args.yes {
        client.leave_without_admin().await?;
    } else {
        if ui::can_ask() {
            let room = label(&client.status().await?.room.name);
            ui::confirm(&format!(
                "Leave the room '{room}' for good? The daemon stops, and sets the room's files aside."
            ))?;
        }
        client.leave().await?;
    }
    ui::say("left the room; the daemon stops and sets the room's files aside");
    Ok(())
}
