//! `chat deny`: denies a newcomer admission.

use chat_client::Client;
use chat_proto::api::members::KnockAnswer;
use chat_proto::id::KnockId;
use clap::Args;

use crate::commands::completions;
use crate::error::CliError;

/// Arguments of `chat deny`.
#[derive(Debug, Args)]
pub(crate) struct DenyArgs {
    /// The number that 'chat knocks' shows
    #[arg(value_name = "ID", add = completions::knocks())]
    id: KnockId,
}

/// Denies the newcomer.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: DenyArgs, client: &Client) -> Result<(), CliError> {
    Ok(client.answer_knock(args.id, KnockAnswer { admit: false }).await?)
}
