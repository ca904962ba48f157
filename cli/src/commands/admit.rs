//! `chat admit`: lets a stranger in.

use chat_proto::api::members::KnockAnswer;
use chat_proto::id::KnockId;
use clap::Args;

use super::knocks;
use crate::client::Client;
use crate::error::CommandError;

/// Arguments of `chat admit`.
#[derive(Debug, Args)]
pub(crate) struct AdmitArgs {
    /// The number that 'chat knocks' shows
    #[arg(value_name = "ID")]
    id: KnockId,
}

/// Lets the stranger in.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: AdmitArgs, client: &mut Client) -> Result<(), CommandError> {
    knocks::answer(client, args.id, KnockAnswer { admit: true }).await
}
