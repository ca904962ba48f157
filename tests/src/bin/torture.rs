//! `cargo run -p chat-tests --bin torture -- --minutes 30 --seed 1`: real daemons under every fault at once.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use chat_tests::scenarios::faults::torture::{TorturePlan, run};
use clap::Parser;

/// Lets five daemons talk while they are killed, stopped and rolled back, their disks fill up and fail, and their clocks
/// jump; then compares what they hold with what was acknowledged.
#[derive(Debug, Parser)]
struct TortureArgs {
    /// For how long faults come, in minutes
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Decides which fault comes when
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> io::Result<ExitCode> {
    let TortureArgs { minutes, seed } = TortureArgs::parse();
    let report = run(TorturePlan { span: Duration::from_secs_f64(minutes * 60.0), seed });
    writeln!(io::stdout(), "{report}")?;
    Ok(if report.verdict.is_good() && report.settled.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
