//! `cargo run -p chat-tests --bin soak -- --messages 100000`: what a long conversation costs its daemons.

use std::io::{self, Write};
use std::process::ExitCode;

use chat_tests::scenarios::faults::soak::{SoakPlan, run};
use clap::Parser;

/// Posts messages in a room of two and looks at memory and write-ahead log of both daemons again and again.
#[derive(Debug, Parser)]
struct SoakArgs {
    /// Messages in all
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// Messages between two looks
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Connections that post at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    connections: u8,
    /// Growth of a daemon's memory after the first look that is too much, in KiB
    #[arg(long, default_value_t = 4096)]
    growth: u64,
    /// Length of a write-ahead log that is too much, in KiB
    #[arg(long, default_value_t = 65_536)]
    wal: u64,
}

fn main() -> io::Result<ExitCode> {
    let SoakArgs { messages, every, connections, growth, wal } = SoakArgs::parse();
    let report = run(SoakPlan { messages, every: every as usize, connections: connections.into() })?;
    writeln!(io::stdout(), "{report}")?;
    let within = report.growth_kib() <= growth && report.wal_kib() <= wal;
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
