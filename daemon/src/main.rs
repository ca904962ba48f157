//! `chatd`: the chatroom daemon and the commands that start, stop and ask it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(chatd::app::run(std::env::args_os()) as u8)
}
