//! `chat deny`: refuses a stranger.

use chat_proto::api::members::KnockAnswer;
use chat_proto::id::KnockId;
use clap::Args;

use super::knocks;
use crate::client::Client;
use crate::error::CommandError;

/// Arguments of `chat deny`.
#[derive(Debug, Args)]
pub(crate) struct DenyArgs {
    /// The number that 'chat knocks' shows
    #[arg(value_name = "ID")]
    id: KnockId,
}

/// Refuses the stranger.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: DenyArgs, client: &mut Client) -> Result<(), CommandError> {
    knocks::answer(client, args.id, KnockAnswer { admit: false }).await
}
