//! `chat admit`: admits a newcomer.

use chat_client::Client;
use chat_proto::api::members::KnockAnswer;
use chat_proto::id::KnockId;
use clap::Args;

use crate::commands::completions;
use crate::error::CliError;

/// Arguments of `chat admit`.
#[derive(Debug, Args)]
pub(crate) struct AdmitArgs {
    /// The number that 'chat knocks' shows
    #[arg(value_name = "ID", add = completions::knocks())]
    id: KnockId,
}

/// Admits the newcomer.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: AdmitArgs, client: &Client) -> Result<(), CliError> {
    Ok(client.answer_knock(args.id, KnockAnswer { admit: true }).await?)
}
