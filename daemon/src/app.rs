//! The process of `chatd`: command line, settings, home, start in the background, the running daemon, orderly end.
//!
//! `chatd start` checks its options ([`settings`]) and starts the same program again in the background
//! ([`run::background`]). That process acquires the home ([`home::acquire_home`], [`home::lock`]), opens network,
//! database and API (`run::services`), opens its room (`run::open_room`, `run::running_room`) and reports to the
//! waiting parent that it is ready ([`report::readiness`], [`report::startup_report`]). It works until it is asked to
//! stop ([`run::shutdown`]). All other commands ask the running daemon or its files ([`commands`]); exports
//! have a format of their own ([`archive`]).

mod api;
mod archive;
mod commands;
mod home;
mod report;
mod run;
pub(crate) mod settings;

use std::ffi::OsString;

use chat_proto::error::Exit;

use crate::app::report::startup_report::talk;
use crate::app::settings::args::ChatdArgs;

/// Carries out a command line, the program's name first, and returns how the process must end. What went wrong has been
/// printed then.
pub fn run(words: impl IntoIterator<Item = OsString>) -> Exit {
    let args = match ChatdArgs::read(words) {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output; a closed output is not an error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    match commands::run(args) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            if failure.exit() != Exit::Done {
                talk(&format!("chatd: {}\n", failure.message));
            }
            failure.exit()
        }
    }
}
