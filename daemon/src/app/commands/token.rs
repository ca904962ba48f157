//! `chatd token`: secrets for callers over TCP, each with a scope.

use chat_client::display::label;
use chat_proto::api::tokens::{NewToken, TokenRequest};

use crate::app::api;
use crate::app::commands::runtime;
use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::{print, print_json};
use crate::app::settings::args::{OutputArgs, TokenAction};

/// Lists or changes the tokens of the running daemon.
pub(crate) fn run(action: TokenAction, output: OutputArgs, home: &Home) -> Result<(), ExitError> {
    let (runtime, client) = (runtime()?, api::client(home));
    match action {
        TokenAction::List => {
            let tokens = runtime.block_on(client.tokens())?;
            if output.json {
                return Ok(print_json(&tokens)?);
            }
            let lines = tokens.iter().map(|token| format!("{:<5}  {}\n", token.scope.to_string(), label(&token.name)));
            Ok(print(&lines.collect::<String>())?)
        }
        TokenAction::Create { name, scope } => {
            show(&runtime.block_on(client.create_token(&TokenRequest { name, scope }))?, output)
        }
        TokenAction::Rotate { name } => show(&runtime.block_on(client.rotate_token(&name))?, output),
        TokenAction::Revoke { name } => Ok(runtime.block_on(client.revoke_token(&name))?),
    }
}

/// Prints the secret, which cannot be shown again.
fn show(new: &NewToken, output: OutputArgs) -> Result<(), ExitError> {
    let printed = if output.json { print_json(new) } else { print(&format!("{}\n", new.secret)) };
    Ok(printed?)
}
