//! `cargo run --release -p chat-tests --bin idle -- --peers 30`: what a quiet room costs each of its members. It takes root.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use chat_tests::scenarios::idle::run;
use clap::Parser;

/// Counts packets, bytes, processor time and memory of each member of a quiet room.
#[derive(Debug, Parser)]
struct IdleArgs {
    /// Peers in the room, 2 to 100
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=100))]
    peers: u8,
    /// For how long it settles before it is watched, in seconds
    #[arg(long, default_value_t = 30)]
    settle: u64,
    /// For how long it is watched, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Limit of the link of the founder, who holds the role, while it is watched, in kbit/s each way
    #[arg(long)]
    kbit: Option<u32>,
}

fn main() -> io::Result<ExitCode> {
    let IdleArgs { peers, settle, seconds, kbit } = IdleArgs::parse();
    match run(peers.into(), Duration::from_secs(settle), Duration::from_secs(seconds), kbit)? {
        Some(report) => write!(io::stdout(), "{report}").map(|()| ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}
