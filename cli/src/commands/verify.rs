//! `chat verify`: words to compare with a member over another channel.

use chat_client::Client;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::completions;
use crate::error::CliError;
use crate::text::render::label;
use crate::text::ui::{self, Ui};

/// Arguments of `chat verify`.
#[derive(Debug, Args)]
pub(crate) struct SafetyWordsArgs {
    /// The member: name, tag or key
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), add = completions::members())]
    name: String,
}

/// Prints the words.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: SafetyWordsArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let peer = client.member(&args.name).await?;
    let peers = client.peers().await?;
    let view = peers.into_iter().find(|view| view.peer.id == peer.id);
    let name = label(&peer.name);
    match view.and_then(|view| view.safety_words) {
        Some(words) => {
            ui.line(&label(&words))?;
            ui::say(&format!(
                "compare them with what 'chat verify' shows {name}, in person or over the phone: equal words mean that this is the \
                 same person's key, and that no one else reads what you two send each other"
            ));
        }
        None => ui::say(&format!("{name} is you, or its daemon is too old to know the words")),
    }
    Ok(())
}
