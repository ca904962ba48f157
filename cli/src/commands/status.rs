//! `chat status`: the state of the daemon, its peer and its room.

use chat_client::Client;
use chat_client::status::status_lines;
use clap::Args;

use crate::error::CliError;
use crate::text::render;
use crate::text::ui::Ui;

/// Arguments of `chat status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Prints the status.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: StatusArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let status = client.status().await?;
    if args.json {
        return ui.json(&status);
    }
    let colour = ui.colour;
    let lines = status_lines(&status, &client.api_place(), render::now(), |label| colour.paint("1", label));
    lines.iter().try_for_each(|line| ui.line(line))
}
