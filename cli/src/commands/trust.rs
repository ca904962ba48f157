//! `chat trust`: accepts the member to which a name has moved.

use chat_client::Client;
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
    let peer = client.trust(&args.name).await?;
    let name = label(&peer.name);
    ui::say(&format!(
        "'@{name}' now writes to the member with the tag {}: 'chat verify {name}' shows words to compare",
        peer.tag
    ));
    Ok(())
}
