//! The commands of `chatd`, one file each, and their dispatch.

mod check;
mod completions;
mod env;
mod export;
mod logs;
mod man;
mod rooms;
mod service;
mod start;
mod status;
mod stop;
mod token;
mod verify;

use std::io;

use chat_client::home::environment;
use tokio::runtime::Runtime;

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::settings::args::{ChatdArgs, ChatdCommand};

/// The system refuses what a command needs.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for input and output")]
struct RuntimeError(#[source] io::Error);

/// Runs the command of a command line.
pub(crate) fn run(ChatdArgs { home, command }: ChatdArgs) -> Result<(), ExitError> {
    let find = || Home::locate(home.as_deref(), environment).map_err(|error| ExitError::refused(&error));
    let follow = || find().map(Home::follow);
    match command {
        ChatdCommand::Start(args) => start::run(*args, find()?),
        ChatdCommand::Stop(args) => stop::run(args, &follow()?),
        ChatdCommand::Status(args) => status::run(args, &follow()?),
        ChatdCommand::Rooms(args) => rooms::run(args),
        ChatdCommand::Token { action, output } => token::run(action, output, &follow()?),
        ChatdCommand::Env(args) => env::run(args, &follow()?),
        ChatdCommand::Check(args) => check::run(args, &follow()?),
        ChatdCommand::Export(args) => export::run(&args, &find()?),
        ChatdCommand::Verify(args) => verify::run(&args),
        ChatdCommand::Logs(args) => logs::run(args, &find()?),
        ChatdCommand::Service { action } => service::run(action, &find()?),
        ChatdCommand::Completions { shell } => completions::run(shell),
        ChatdCommand::Man { command } => man::run(command),
    }
}

/// A runtime for a command that calls the daemon.
pub(crate) fn runtime() -> Result<Runtime, ExitError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ExitError::refused(&RuntimeError(error)))
}
