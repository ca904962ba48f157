//! `cargo run -p chat-tests --bin crash -- --messages 10000`: kill -9 in the middle of a conversation, at any size.

use std::io::{self, Write};

use chat_tests::scenarios::crash::{CrashPlan, run};
use clap::Parser;

/// Kills daemons in the middle of a conversation of three and checks that every log holds every acknowledged message,
/// once, in the same order.
#[derive(Debug, Parser)]
struct CrashArgs {
    /// Messages in all
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// How often a daemon is killed meanwhile
    #[arg(long, default_value_t = 6)]
    kills: usize,
}

fn main() -> io::Result<()> {
    let CrashArgs { messages, kills } = CrashArgs::parse();
    let report = run(CrashPlan { messages, kills });
    writeln!(io::stdout(), "{report}")
}
