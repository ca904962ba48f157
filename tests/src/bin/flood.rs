//! `cargo run --release -p chat-tests --bin flood -- --seconds 60`: one member posts as fast as its daemon takes it, and the
//! others talk now and then.

use std::io::{self, Write};
use std::time::Duration;

use chat_tests::scenarios::flood::{FloodPlan, FloodWay, run};
use clap::Parser;

/// Measures what a member that posts without a pause costs the others: delays and memory.
#[derive(Debug, Parser)]
struct FloodArgs {
    /// Members that post now and then, 2 to 25
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=25))]
    others: u8,
    /// For how long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Post over this number of connections instead of one stream of lines
    #[arg(long)]
    connections: Option<usize>,
    /// Length of each text, in bytes
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// Do not flood, to compare
    #[arg(long)]
    quiet: bool,
}

fn main() -> io::Result<()> {
    let FloodArgs { others, seconds, connections, bytes, quiet } = FloodArgs::parse();
    let way = connections.map_or(FloodWay::Stream, FloodWay::Connections);
    let way = if quiet { FloodWay::None } else { way };
    let report = run(FloodPlan { others: others.into(), span: Duration::from_secs(seconds), way, text_bytes: bytes })?;
    write!(io::stdout(), "{report}")
}
