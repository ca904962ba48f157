//! `chat`: the command-line client of chatd. It calls the local API through `chat-client`, renders the answer, and exits.

mod args;
mod commands;
mod dedup;
mod error;
mod interactive;
mod screen;
mod text;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use chat_client::home::environment;
use chat_client::{Client, DaemonAddr};
use chat_proto::error::Exit;
use clap::{CommandFactory, Parser};

use crate::args::{ChatArgs, ChatCommand};
use crate::error::CliError;
use crate::text::ui::{self, Ui};

fn main() -> ExitCode {
    if commands::completions::answer(ChatArgs::command) {
        return ExitCode::SUCCESS;
    }
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
        Some(ChatCommand::Completions(args)) => return commands::completions::run(args, &mut ui),
        Some(ChatCommand::Man(args)) => return commands::man::run(args, ChatArgs::command(), &mut ui),
        Some(ChatCommand::Room(verb)) => Some(verb),
        None => None,
    };
    let face = if args.plain { Face::Lines } else { Face::of_terminal() };
    let client = Client::new(DaemonAddr::locate(args.home.as_deref(), environment)?);
    // One thread: nearly every command makes one call and ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(async {
        match verb {
            Some(verb) => commands::run(verb, &client, &mut ui).await,
            None => open_room(face, &client, &mut ui).await,
        }
    })
}

/// How the room is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    /// On the whole screen.
    Screen,
    /// Line by line.
    Lines,
}

impl Face {
    /// What this terminal can do. Pipes and terminals that only print get lines.
    fn of_terminal() -> Self {
        let can_draw = environment("TERM").is_some_and(|term| term != "dumb" && term != "unknown");
        if can_draw && io::stdin().is_terminal() && io::stdout().is_terminal() { Self::Screen } else { Self::Lines }
    }
}

async fn open_room(face: Face, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    match face {
        Face::Screen => screen::run(client).await,
        Face::Lines => interactive::run(client, ui).await,
    }
}
