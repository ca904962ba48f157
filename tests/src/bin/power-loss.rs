//! `cargo run -p chat-tests --bin power-loss -- --losses 1000`: the power fails at any write of a daemon's disk.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use chat_tests::scenarios::faults::disk_image::Flushes;
use chat_tests::scenarios::faults::power_loss::{PowerLossPlan, run};
use clap::Parser;

/// Records what a real daemon writes to its disk, lets the power fail at any moment of that, and checks with a real daemon
/// that every acknowledged message is there.
#[derive(Debug, Parser)]
struct PowerLossArgs {
    /// Losses of power
    #[arg(long, default_value_t = 200)]
    losses: usize,
    /// Decides when they are and what they leave
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Messages that the daemon acknowledges while it is recorded
    #[arg(long, default_value_t = 400)]
    messages: usize,
    /// The disk only says that it has flushed: messages must be found missing then
    #[arg(long)]
    lying: bool,
    /// Directory in which homes that fail are kept
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> io::Result<ExitCode> {
    let PowerLossArgs { losses, seed, messages, lying, keep } = PowerLossArgs::parse();
    let flushes = if lying { Flushes::Ignored } else { Flushes::Honest };
    let report = run(&PowerLossPlan { messages, losses, seed, flushes, keep })?;
    writeln!(io::stdout(), "{report}")?;
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
