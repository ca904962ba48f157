//! `cargo bench -p chat-tests`: what a daemon's promises cost, as ratios against a bare server, the disk alone and a room of one
//! in the same run. `tests/benches/room/reference.txt` is what it printed on an idle machine.

#[path = "room/bare.rs"]
mod bare;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chat_tests::cluster::TestRoom;
use chat_tests::load::{PostTimes, StreamReaders, post, post_stream};
use chat_tests::process::binaries::binaries;
use chat_tests::usage::{self, resident_kib};

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
const READERS: [usize; 3] = [100, 250, 1000];

/// Events to all readers together, a round.
const EVENTS: usize = 200_000;

/// Messages of a stream on one connection, a round.
const STREAMED: usize = 20_000;

/// Messages that are posted one after the other, each when all show the one before.
const IN_TURN: usize = 1_000;

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
    let directory = alone.peers[0].home().path();
    let disk = [("chatd", socket.as_path()), ("disk", directory)];
    let in_turn =
        turns(disk, |side| if side == socket { post(side, 1, 1000, TEXT_BYTES).rate() } else { appends(side) });
    tell(&mut out, "durable posts/s, 1 connection", "append and fdatasync", in_turn)?;
    let api = alone.peers[0].api();
    let streamed = turns(disk, |side| match side == socket {
        true => per_second(STREAMED, post_stream(&api, STREAMED, TEXT_BYTES)),
        false => appends(side),
    });
    tell(&mut out, "durable messages/s of a stream, 1 connection", "append and fdatasync", streamed)?;
    for readers in READERS {
        let fanned = turns(sides, |socket| fan_out(socket, readers));
        tell(&mut out, &format!("events/s to {readers} readers together, posted live"), "axum's Sse", fanned)?;
    }

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
        streams_in(&mut out, &room)?;
    }
    Ok(())
}

/// Tells how fast a stream of messages reaches a whole room, what that costs it, and how long single messages take.
fn streams_in(out: &mut impl Write, room: &TestRoom) -> io::Result<()> {
    let count = room.peers.len();
    let readers: Vec<StreamReaders> =
        room.peers.iter().map(|peer| StreamReaders::open(&peer.home().socket(), 1)).collect();
    let cpu =
        || room.peers.iter().map(|peer| usage::of(peer.pid()).map(|usage| usage.cpu)).sum::<io::Result<Duration>>();
    let (api, mut seen) = (room.peers[0].api(), 0);
    let mut rounds: Vec<(f64, f64)> = Vec::new();
    for _ in 0..ROUNDS {
        let (before, begun) = (cpu()?, Instant::now());
        post_stream(&api, STREAMED, TEXT_BYTES);
        seen += STREAMED;
        readers.iter().for_each(|reader| reader.wait_for(seen));
        let rate = per_second(STREAMED, begun.elapsed());
        let deliveries = STREAMED * (count - 1);
        rounds.push((rate, cpu()?.saturating_sub(before).as_secs_f64() * 1e5 / deliveries as f64));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (rate, cost) = rounds[ROUNDS / 2];
    writeln!(
        out,
        "messages/s of a stream until all {count} show them: {rate:.0}; CPU s of the room for 100,000 deliveries: {cost:.2}"
    )?;
    let mut times: Vec<Duration> = (0..IN_TURN)
        .map(|_| {
            let begun = Instant::now();
            post(&room.peers[0].home().socket(), 1, 1, TEXT_BYTES);
            seen += 1;
            readers.iter().for_each(|reader| reader.wait_for(seen));
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |share: f64| times[(share * (IN_TURN - 1) as f64) as usize].as_secs_f64() * 1e3;
    writeln!(
        out,
        "ms until all {count} show one message, in turn: p50 {:.2}, p99 {:.2}, max {:.2}",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// Appends of a message's bytes a second, each flushed.
fn appends(directory: &Path) -> f64 {
    const APPENDS: usize = 1000;
    let path = directory.join("appended");
    let mut file = File::create(&path).expect("the directory is ours");
    let begun = Instant::now();
    for _ in 0..APPENDS {
        file.write_all(&[b'x'; 2 * TEXT_BYTES]).and_then(|()| file.sync_data()).expect("there is space");
    }
    let rate = per_second(APPENDS, begun.elapsed());
    std::fs::remove_file(path).expect("it is ours");
    rate
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
fn fan_out(socket: &Path, count: usize) -> f64 {
    let readers = StreamReaders::open(socket, count);
    let begun = Instant::now();
    let messages = (EVENTS / count).next_multiple_of(CONNECTIONS);
    post(socket, CONNECTIONS, messages / CONNECTIONS, TEXT_BYTES);
    readers.wait_for(messages * count);
    per_second(messages * count, begun.elapsed())
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
