//! `cargo run -p chat-tests --bin failover -- --rounds 100`: takes the holder of the rendezvous role away while everybody
//! talks, again and again.

use std::io::{self, Write};
use std::time::Duration;

use chat_tests::failover::{Plan, Way, run};
use clap::Parser;

/// Takes the holder away and measures how soon another is known, and what a conversation notices of it.
#[derive(Debug, Parser)]
struct Args {
    /// Peers in the room, 2 to 26
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=26))]
    peers: u8,
    /// How often the holder is taken away
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How it is taken away
    #[arg(long, value_enum, default_value_t = Way::Kill)]
    way: Way,
}

fn main() -> io::Result<()> {
    let Args { peers, rounds, way } = Args::parse();
    let tell = |round: usize, known: Duration, stall: Duration| {
        // Progress only: where nobody listens, the report still counts.
        let _ = writeln!(io::stderr(), "round {round}: known to all after {known:.3?}, longest way {stall:.3?}");
    };
    let report = run(Plan { peers: usize::from(peers), rounds, way }, tell);
    writeln!(io::stdout(), "{report}")
}
