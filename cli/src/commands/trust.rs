//! `chat trust`: accepts the member to which a name has moved.

use chat_client::Client;
use chat_proto::api::peers::PeerRef;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::completions;
use crate::error::CliError;
use crate::text::render::label;
use crate::text::ui;

/// Arguments of `chat trust`.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// The member: name, tag or key
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), add = completions::members())]
    name: String,
}

/// Accepts the member.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: TrustArgs, client: &Client) -> Result<(), CliError> {
    ui::say(&trusted(&client.trust(&args.name).await?));
    Ok(())
}

/// What follows once a member was accepted under its name.
pub(crate) fn trusted(peer: &PeerRef) -> String {
    let name = label(&peer.name);
    format!("'@{name}' now writes to the member with the tag {}: 'chat verify {name}' shows words to compare", peer.tag)
}
