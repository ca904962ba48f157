//! `chat`: the command-line client of chatd. It calls the local API through `chat-client`, renders the answer, and exits.

mod args;
mod commands;
mod dedup;
mod error;
mod interactive;
mod text;

use std::process::ExitCode;

use chat_client::home::environment;
use chat_client::{Client, DaemonAddr};
use chat_proto::error::Exit;
use clap::{CommandFactory, Parser};

use crate::args::{ChatArgs, ChatCommand};
use crate::error::CliError;
use crate::text::ui::{self, Ui};

fn main() -> ExitCode {
    let args = match ChatArgs::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers, on standard output; when that is closed there is nowhere left to report it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A reader of standard output that has gone needs no message.
            if failure.exit() != Exit::Done {
                ui::say(&failure.lines());
            }
            ExitCode::from(failure.exit() as u8)
        }
    }
}

fn run(args: ChatArgs) -> Result<(), CliError> {
    let mut ui = Ui::new();
    let verb = match args.command {
        Some(ChatCommand::Completions(args)) => return commands::completions::run(args, ChatArgs::command(), &mut ui),
        Some(ChatCommand::Man(args)) => return commands::man::run(args, ChatArgs::command(), &mut ui),
        Some(ChatCommand::Room(verb)) => Some(verb),
        None => None,
    };
    let client = Client::new(DaemonAddr::locate(args.home.as_deref(), environment)?);
    // One thread: nearly every command makes one call and ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(commands::run(verb, &client, &mut ui))
}
