//! `chat name`: goes by another name.

use chat_proto::api::members::NameRequest;
use chat_proto::text::check_name;
use clap::Args;

use crate::client::{Call, Client};
use crate::error::CommandError;

/// Arguments of `chat name`.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The new name: 1 to 32 letters, digits, '-', '_', '.'
    #[arg(value_name = "NEW")]
    name: String,
}

/// Takes the name.
///
/// # Errors
/// Says why the name cannot be taken, or how the call failed.
pub(crate) async fn run(args: NameArgs, client: &mut Client) -> Result<(), CommandError> {
    check_name("name", &args.name)?;
    client.call(&Call::put("/v1/name", &NameRequest { name: args.name })).await?;
    Ok(())
}
