//! `cargo run --release -p chat-tests --bin failover -- --rounds 100`: takes the holder of the rendezvous role away while
//! all peers talk, again and again.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use chat_tests::scenarios::failover::{FailoverPlan, Heard, Way, busy, run};
use clap::{Parser, ValueEnum};

/// Takes the holder away and measures how soon another is known, and what a conversation notices of it.
#[derive(Debug, Parser)]
struct FailoverArgs {
    /// Peers in the room, 2 to 26
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=26))]
    peers: u8,
    /// How often the holder is taken away
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How it is taken away
    #[arg(long, value_enum, default_value_t = WayArg::Kill)]
    way: WayArg,
    /// With '--way busy': for how long, in seconds
    #[arg(long, default_value_t = 300)]
    seconds: u64,
}

/// How the holder is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WayArg {
    /// SIGKILL
    Kill,
    /// SIGSTOP, and SIGCONT after the round
    Suspend,
    /// 'chatd stop'
    Leave,
    /// All its packets are dropped, and pass again after the round; takes root
    Drop,
    /// Not at all: busy loops keep every processor loaded, and the role must stay where it is
    Busy,
}

fn main() -> io::Result<ExitCode> {
    let FailoverArgs { peers, rounds, way, seconds } = FailoverArgs::parse();
    let peers = usize::from(peers);
    let way = match way {
        WayArg::Kill => Way::Kill,
        WayArg::Suspend => Way::Suspend,
        WayArg::Leave => Way::Leave,
        WayArg::Drop => Way::Drop,
        WayArg::Busy => {
            let report = busy::run(peers, Duration::from_secs(seconds));
            let code = if report.changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            return print(&report).map(|()| code);
        }
    };
    let tell = |round: usize, heard: &Heard| {
        // Progress only: a closed output does not void the report.
        let _ = writeln!(io::stderr(), "round {round}: {heard}");
    };
    match run(FailoverPlan { peers, rounds, way }, tell) {
        Ok(report) => print(&report).map(|()| ExitCode::SUCCESS),
        Err(error) => writeln!(io::stderr(), "error: {error}").map(|()| ExitCode::FAILURE),
    }
}

fn print(report: &impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{report}")
}
