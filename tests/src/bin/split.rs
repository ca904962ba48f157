//! `cargo run --release -p chat-tests --bin split -- --seconds 60`: a room is cut in two, both halves talk, and it heals. It
//! takes root.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use chat_tests::scenarios::split::run;
use clap::Parser;

/// Between two rounds of messages.
const PAUSE: Duration = Duration::from_millis(100);

/// Cuts a room of five in two, lets both halves talk, heals it, and measures how soon it is one room again.
#[derive(Debug, Parser)]
struct SplitArgs {
    /// For how long both halves talk, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
}

fn main() -> io::Result<ExitCode> {
    let SplitArgs { seconds } = SplitArgs::parse();
    match run(usize::from(seconds) * 10, PAUSE) {
        Some(report) => write!(io::stdout(), "{report}").map(|()| ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}
