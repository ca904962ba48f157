//! `cargo bench -p chat-tests`: what a daemon's promises cost, as ratios against a bare server and against a room of one
//! in the same run.

#[path = "room/bare.rs"]
mod bare;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chat_tests::cluster::TestRoom;
use chat_tests::load::{PostTimes, StreamReaders, post};
use chat_tests::process::binaries::binaries;
use chat_tests::usage::resident_kib;

use bare::Bare;

/// Rounds of each comparison; the median is reported. The two sides take turns, so that a noisy minute meets both.
const ROUNDS: usize = 5;

/// Messages a round.
const MESSAGES: usize = 8_000;

/// Bytes of a message's text.
const TEXT_BYTES: usize = 200;

/// Connections that post at once.
const CONNECTIONS: usize = 16;

/// Commands that send a message, a round.
const COMMANDS: usize = 41;

/// Readers of the event stream.
const READERS: usize = 100;

fn main() -> io::Result<()> {
    bare::serve_if_asked();
    let mut out = io::stdout();
    let bare = Bare::start();
    let alone = TestRoom::of(&["alice"]);
    let socket = alone.peers[0].home().socket();
    writeln!(out, "memory of an idle daemon / of a bare server: {}", memory(alone.peers[0].pid(), bare.pid())?)?;
    let sides: [(&str, &Path); 2] = [("chatd", &socket), ("bare", bare.socket())];

    let rates = turns(sides, |socket| post(socket, CONNECTIONS, MESSAGES / CONNECTIONS, TEXT_BYTES).rate());
    tell(&mut out, &format!("durable posts/s, {CONNECTIONS} connections"), "bare axum", rates)?;
    let latency = |posted: PostTimes| posted.median().as_secs_f64() * 1e6;
    let latencies = turns(sides, |socket| latency(post(socket, 1, 1000, TEXT_BYTES)));
    tell(&mut out, "µs a durable post, 1 connection", "bare axum", latencies)?;
    let fanned = turns(sides, |socket| fan_out(socket) as f64);
    tell(&mut out, &format!("events/s to {READERS} readers together, posted live"), "axum's Sse", fanned)?;

    let home = alone.peers[0].home();
    let commands = [("chat send", binaries().chat.as_path()), ("minimal", &binaries().directory.join("minimal_send"))];
    let arguments = |program: &Path| match program == commands[0].1 {
        true => vec!["send".into(), "hello".into()],
        false => vec![socket.clone().into_os_string(), "hello".into()],
    };
    let took = turns(commands, |program| command_us(home.path(), program, &arguments(program)));
    tell(&mut out, "µs a command that sends a message", "clap and reqwest", took)?;

    for others in [2, 7] {
        let names: Vec<String> = (0..=others).map(|number| format!("peer-{number}")).collect();
        let room = TestRoom::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let sockets = [room.peers[0].home().socket(), socket.clone()];
        let peers: Vec<_> = room.peers.iter().map(|peer| peer.home().socket()).collect();
        let sides = [("room", sockets[0].as_path()), ("alone", sockets[1].as_path())];
        let spread = turns(sides, |side| spread(side, if side == sockets[0] { &peers } else { &sockets[1..] }));
        tell(&mut out, &format!("messages/s until all {} show them", others + 1), "room of one", spread)?;
    }
    Ok(())
}

/// Median time from the start of a command to its end, in microseconds.
fn command_us(home: &Path, program: &Path, arguments: &[OsString]) -> f64 {
    let mut times: Vec<Duration> = (0..COMMANDS)
        .map(|_| {
            let mut command = Command::new(program);
            command.args(arguments).env("CHATD_HOME", home).stdin(Stdio::null()).stdout(Stdio::null());
            let begun = Instant::now();
            let status = command.status().expect("it starts");
            assert!(status.success(), "{} sends", program.display());
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[COMMANDS / 2].as_secs_f64() * 1e6
}

/// Messages a second, times readers, until every reader has seen every one.
fn fan_out(socket: &Path) -> u64 {
    let readers = StreamReaders::open(socket, READERS);
    let begun = Instant::now();
    let messages = MESSAGES / 4;
    post(socket, CONNECTIONS, messages / CONNECTIONS, TEXT_BYTES);
    readers.wait_for(messages * READERS);
    per_second(messages * READERS, begun.elapsed()) as u64
}

/// Messages a second that one peer posts, until the event stream of every peer has shown every one.
fn spread<S: AsRef<Path>>(socket: &Path, peers: &[S]) -> f64 {
    let readers: Vec<StreamReaders> = peers.iter().map(|peer| StreamReaders::open(peer.as_ref(), 1)).collect();
    let begun = Instant::now();
    post(socket, CONNECTIONS, MESSAGES / CONNECTIONS, TEXT_BYTES);
    readers.iter().for_each(|reader| reader.wait_for(MESSAGES));
    per_second(MESSAGES, begun.elapsed())
}

fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Measures both sides in turns; gives the medians.
fn turns(sides: [(&str, &Path); 2], measure: impl Fn(&Path) -> f64) -> [f64; 2] {
    let mut measured = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (side, measured) in sides.iter().zip(&mut measured) {
            measured.push(measure(side.1));
        }
    }
    measured.map(|mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

fn tell(out: &mut impl Write, what: &str, against: &str, [ours, theirs]: [f64; 2]) -> io::Result<()> {
    writeln!(out, "{what}: {ours:.0}; {against}: {theirs:.0}; ratio {:.2}", ours / theirs)
}

/// Resident memory of both, and their ratio.
fn memory(ours: u32, theirs: u32) -> io::Result<String> {
    let [ours, theirs] = [resident_kib(ours)? as f64, resident_kib(theirs)? as f64];
    Ok(format!("{:.1} MiB / {:.1} MiB; ratio {:.2}", ours / 1024.0, theirs / 1024.0, ours / theirs))
}
