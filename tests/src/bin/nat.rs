//! `cargo run --release -p chat-tests --bin nat`: peers behind NATs in network namespaces: who reaches whom by which path,
//! how soon they talk, and how long a message takes while the peer that relays for
//! them is killed, or its cable is pulled (`--end silent`). With `--trouble udp-lost` and others, what happens to the path
//! between two talkers instead, `--rounds` times. It takes root.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use chat_proto::api::peers::PathView;
use chat_tests::netns::Nat;
use chat_tests::scenarios::nat::{HolderLoss, NatScene, Site, Trouble};
use clap::Parser;

/// Pause between two troubles.
const SETTLE: Duration = Duration::from_secs(8);

/// Where the two talkers are.
const CASES: [[Site; 2]; 7] = [
    [Site::Public, Site::Home(Nat::Keeping)],
    [Site::Public, Site::Home(Nat::Random)],
    [Site::Home(Nat::Keeping), Site::Home(Nat::Keeping)],
    [Site::Home(Nat::Keeping), Site::Home(Nat::Random)],
    [Site::Home(Nat::Random), Site::Home(Nat::Random)],
    [Site::Home(Nat::Keeping), Site::TcpOnly],
    [Site::TcpOnly, Site::TcpOnly],
];

const HEAD: &str = "one                other              one→other  other→one  first message  longest message    lost  repeated  strays
                                                                         after the start  while the relay's
                                                                                          peer goes away";

/// Peers behind NATs: who reaches whom by which path, and how they go on when the relay's peer goes away.
#[derive(Debug, Parser)]
struct NatArgs {
    /// How the holder, whose relay is used, goes away
    #[arg(long, value_enum, default_value_t = HolderLoss::Killed)]
    end: HolderLoss,
    /// What happens to the path between two talkers behind routers, in the middle of a talk; nothing else is tried then
    #[arg(long, value_enum)]
    trouble: Option<Trouble>,
    /// With '--trouble': how often
    #[arg(long, default_value_t = 20)]
    rounds: u32,
}

fn main() -> io::Result<ExitCode> {
    let NatArgs { end, trouble, rounds } = NatArgs::parse();
    if let Some(trouble) = trouble {
        return again_and_again(trouble, rounds);
    }
    let mut out = io::stdout().lock();
    for (number, sites) in CASES.into_iter().enumerate() {
        let Some(mut scene) = NatScene::new(sites) else { return Ok(ExitCode::FAILURE) };
        if sites.contains(&Site::TcpOnly) {
            scene.reached_by(PathView::Relayed);
        }
        scene.ranked();
        let [there, back] = scene.paths();
        let flow = scene.lose_holder(end);
        if number == 0 {
            writeln!(out, "{HEAD}")?;
        }
        writeln!(
            out,
            "{:<18} {:<18} {:<10} {:<10} {:>11.3} s {:>14.3} s {:>8} {:>9} {:>7}",
            sites[0],
            sites[1],
            name(there),
            name(back),
            scene.first_message.as_secs_f64(),
            flow.longest().as_secs_f64(),
            flow.lost(),
            flow.repeated(),
            scene.network.strays(),
        )?;
        out.flush()?;
    }
    writeln!(
        out,
        "\nEach is a room of four: a holder and a standby at public addresses, and two who talk, every 20 ms each. The holder,
whose relay is used, goes away: {}. Strays are packets to anybody who is not on this internet.",
        match end {
            HolderLoss::Killed => "it is killed with SIGKILL",
            HolderLoss::Silent => "its cable is pulled",
        }
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Two talkers behind routers that keep ports lose their direct path, and find it again.
fn again_and_again(trouble: Trouble, rounds: u32) -> io::Result<ExitCode> {
    let Some(scene) = NatScene::new([Site::Home(Nat::Keeping); 2]) else { return Ok(ExitCode::FAILURE) };
    let mut out = io::stdout().lock();
    scene.reached_by(PathView::Direct);
    scene.ranked();
    thread::sleep(SETTLE);
    writeln!(out, "{trouble}\nround   longest message    lost  repeated   direct again after")?;
    let mut all = Vec::new();
    for round in 1..=rounds {
        let flow = scene.suffer(trouble);
        let back = scene.recover();
        let longest = flow.longest().as_secs_f64();
        let (lost, repeated) = (flow.lost(), flow.repeated());
        writeln!(out, "{round:>5} {longest:>15.3} s {lost:>7} {repeated:>9} {:>18.3} s", back.as_secs_f64())?;
        out.flush()?;
        all.push(flow.longest());
        // A connection is young for five seconds, and waits longer for answers then.
        thread::sleep(SETTLE);
    }
    all.sort_unstable();
    if let (Some(middle), Some(most)) = (all.get(all.len() / 2), all.last()) {
        writeln!(out, "longest message: p50 {:.3} s, max {:.3} s", middle.as_secs_f64(), most.as_secs_f64())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn name(path: PathView) -> &'static str {
    match path {
        PathView::Direct => "direct",
        PathView::Relayed => "relayed",
        PathView::None => "none",
    }
}
