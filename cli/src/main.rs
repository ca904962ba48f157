//! `chat`: the thin controller of chatd. It calls the local API, renders, and exits.

mod address;
mod args;
mod client;
mod commands;
mod error;
mod feed;
mod history;
mod home;
mod input;
mod interactive;
mod members;
mod render;
mod shown;
mod sse;
mod ui;
mod when;

use std::process::ExitCode;

use chat_proto::error::Exit;
use clap::Parser;

use crate::args::{Args, Command};
use crate::client::Client;
use crate::error::Failure;
use crate::home::Target;
use crate::ui::Ui;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers, on standard output; nobody can be told when that is closed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit() as u8)
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let mut ui = Ui::new();
    let verb = match args.command {
        Some(Command::Completions(args)) => return commands::completions::run(args, &mut ui),
        Some(Command::Man(args)) => return commands::man::run(args, &mut ui),
        Some(Command::Verb(verb)) => Some(verb),
        None => None,
    };
    let target = Target::locate(args.home.as_deref(), |name| std::env::var_os(name))?;
    let mut client = Client::new(target);
    // One thread: nearly every command makes one call and ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(commands::run(verb, &mut client, &mut ui))
}
