//! `chat name`: changes this peer's name.

use chat_client::Client;
use chat_proto::text::check_member_name;
use clap::Args;

use crate::error::CliError;

/// Arguments of `chat name`.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The new name: 1 to 32 letters, digits, '-', '_', '.'
    #[arg(value_name = "NEW")]
    name: String,
}

/// Changes the name.
///
/// # Errors
/// Says why the name cannot be taken, or how the call failed.
pub(crate) async fn run(args: NameArgs, client: &Client) -> Result<(), CliError> {
    check_member_name(&args.name)?;
    Ok(client.rename(args.name).await?)
}
