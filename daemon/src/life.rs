//! The life of the process: arguments, configuration, identity, start, stop.
//!
//! `chatd start` checks what it was given and starts the same program again in the background ([`background`]), which
//! takes the home ([`takeover`], [`lock`]), opens network, database and API ([`shell`]), enters its room ([`enter`],
//! [`room`]) and tells the waiting parent that it is ready ([`voice`], [`report`]). It works until somebody asks it to
//! stop ([`shutdown`]). All other commands ask the running daemon or its files ([`commands`]).

mod api;
mod args;
mod background;
mod client;
mod commands;
mod config_file;
mod daemon;
mod enter;
mod failure;
mod home;
mod identity;
mod join;
mod leave;
mod lock;
mod names;
mod plan;
mod private_file;
mod process;
mod relocate;
mod report;
mod room;
mod settings;
mod shell;
mod shutdown;
mod takeover;
mod telemetry;
mod voice;

use std::ffi::OsString;

use chat_proto::error::Exit;

use crate::life::args::{ChatdArgs, Verb};
use crate::life::failure::Failure;
use crate::life::home::Home;
use crate::life::report::talk;

/// Carries out a command line, the program's name first, and says how the process shall end. What went wrong has been
/// printed then.
pub fn run(words: impl IntoIterator<Item = OsString>) -> Exit {
    let args = match ChatdArgs::read(words) {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output; nobody reading them is not an error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    match carry_out(args) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            if failure.exit() != Exit::Done {
                talk(&format!("chatd: {}\n", failure.message));
            }
            failure.exit()
        }
    }
}

fn carry_out(ChatdArgs { home, command }: ChatdArgs) -> Result<(), Failure> {
    let find =
        || Home::locate(home.as_deref(), |name| std::env::var_os(name)).map_err(|error| Failure::refused(&error));
    let follow = || find().map(lock::follow);
    match command {
        Verb::Start(args) => commands::start::run(*args, find()?),
        Verb::Stop(args) => commands::stop::run(args, &follow()?),
        Verb::Status(args) => commands::status::run(args, &follow()?),
        Verb::Env(args) => commands::env::run(args, &follow()?),
        Verb::Logs(args) => commands::logs::run(args, &find()?),
        Verb::Service { action } => commands::service::run(action, &find()?),
        Verb::Completions { shell } => commands::completions::run(shell),
        Verb::Man { command } => commands::man::run(command),
    }
}
