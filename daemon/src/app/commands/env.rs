//! `chatd env`: the variables with which scripts reach the API.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use chat_client::ClientError;
use chat_client::client::announced;
use chat_client::home::quote;
use serde::Serialize;

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::{print, print_json};
use crate::app::settings::args::EnvArgs;

/// Why there are no variables to print.
#[derive(Debug, thiserror::Error)]
enum EnvError {
    /// The API is on the Unix socket only.
    #[error("the daemon offers its API only on the socket {0}: start it without --no-tcp, or use the socket")]
    NoTcp(String),
    /// The token cannot be read.
    #[error("cannot read the token {path}")]
    Token {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The variables; their names are those of the fields.
#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Variables {
    chatd_url: String,
    chatd_token: String,
}

/// Prints the variables of a running daemon.
pub(crate) fn run(args: EnvArgs, home: &Home) -> Result<(), ExitError> {
    let api = announced(home)?;
    // The files of a daemon that was killed would only mislead scripts.
    if let Err(source) = UnixStream::connect(&api.socket) {
        let (place, start) = (home.run().display().to_string(), Some(home.command("chatd start")));
        return Err(ClientError::NoDaemon { place, start, source }.into());
    }
    let Some(chatd_url) = api.url else {
        return Err(ExitError::refused(&EnvError::NoTcp(api.socket)));
    };
    let path = home.token();
    let token = fs::read_to_string(&path).map_err(|source| ExitError::refused(&EnvError::Token { path, source }))?;
    let variables = Variables { chatd_url, chatd_token: token.trim().to_owned() };
    if args.json {
        print_json(&variables)?;
    } else if args.curl {
        print(&format!("header = \"Authorization: Bearer {}\"\n", variables.chatd_token))?;
    } else {
        let Variables { chatd_url, chatd_token } = variables;
        print(&format!("CHATD_URL={}\nCHATD_TOKEN={}\n", quote(&chatd_url), quote(&chatd_token)))?;
    }
    Ok(())
}
