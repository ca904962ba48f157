//! A member that posts as fast as its daemon takes it, while the others talk now and then: what the others notice of it.

use std::fmt;
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chat_proto::id::MessageId;

use crate::cluster::TestRoom;
use crate::daemon::Daemon;
use crate::load;
use crate::process::binaries::binaries;
use crate::scenarios::failover::line;
use crate::usage::anonymous_kib;

/// Interval at which each of the others posts.
const POST_EVERY: Duration = Duration::from_millis(400);

/// Interval at which a message is looked for at the others.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a message is looked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a member floods the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodWay {
    /// One stream of lines.
    Stream,
    /// This number of connections that each post one message after the other.
    Connections(usize),
    /// Not at all, to compare.
    None,
}

/// What is played.
#[derive(Clone, Copy, Debug)]
pub struct FloodPlan {
    /// Members besides the one that floods.
    pub others: usize,
    /// For how long.
    pub span: Duration,
    /// How the room is flooded.
    pub way: FloodWay,
    /// Length of each text of the flood, in bytes.
    pub text_bytes: usize,
}

/// What the others noticed.
#[derive(Clone, Debug)]
pub struct FloodReport {
    plan: FloodPlan,
    /// From the request to post until the sender's own daemon has stored it.
    pub stored: Vec<Duration>,
    /// From the request to post until another member shows it.
    pub shown: Vec<Duration>,
    /// Messages of the flood that its author's daemon took.
    pub flood: u64,
    /// Messages that each of the others held at the end of the flood.
    pub held: Vec<u64>,
    /// Until all held the whole flood after it had ended.
    pub caught_up: Duration,
    /// Heap of each of the others in KiB: before, the most meanwhile, and when all was held.
    pub memory: Vec<[u64; 3]>,
}

impl FloodReport {
    /// The longest time from a post to where another member shows it.
    pub fn longest(&self) -> Duration {
        self.shown.iter().copied().max().unwrap_or_default()
    }
}

/// Plays a flood in a room of real daemons.
///
/// # Errors
/// When a daemon ends meanwhile.
///
/// # Panics
/// When they do not meet, or a message is lost.
pub fn run(plan: FloodPlan) -> io::Result<FloodReport> {
    let names: Vec<String> = (0..=plan.others).map(|number| format!("peer-{number}")).collect();
    let room = TestRoom::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (flooder, others) = room.peers.split_last().expect("a room has members");
    let memory =
        |others: &[Daemon]| others.iter().map(|peer| anonymous_kib(peer.pid())).collect::<io::Result<Vec<_>>>();
    let before = memory(others)?;
    let messages = flooder.api().status().messages;
    let over = AtomicBool::new(false);
    let (talk, most) = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(flooder, plan));
        let watch = scope.spawn(|| watch(others, &before, &over));
        let talkers: Vec<_> = (0..others.len()).map(|me| scope.spawn(move || talk(others, me, plan.span))).collect();
        flood.join().expect("the flood ends");
        let talk: Vec<_> = talkers.into_iter().map(|talker| talker.join().expect("it talks")).collect();
        over.store(true, Ordering::Release);
        (talk, watch.join().expect("it watches"))
    });
    let flood = flooder.api().status().messages - messages;
    let held = others.iter().map(|peer| peer.api().status().messages).collect();
    let ended = Instant::now();
    let all = flooder.api().status().messages;
    while others.iter().any(|peer| peer.api().status().messages < all) {
        assert!(ended.elapsed() < PATIENCE * 10, "the flood is lost");
        thread::sleep(LOOK_EVERY * 10);
    }
    let caught_up = ended.elapsed();
    let after = memory(others)?;
    let memory = before.iter().zip(most).zip(after).map(|((before, most), after)| [*before, most, after]).collect();
    let (stored, shown): (Vec<_>, Vec<_>) = talk.into_iter().unzip();
    Ok(FloodReport { plan, stored: stored.concat(), shown: shown.concat(), flood, held, caught_up, memory })
}

/// Posts without a pause.
fn flood(flooder: &Daemon, plan: FloodPlan) {
    match plan.way {
        FloodWay::None => {}
        FloodWay::Stream => stream_lines(flooder, plan),
        FloodWay::Connections(connections) => {
            let begun = Instant::now();
            while begun.elapsed() < plan.span {
                load::post(&flooder.home().socket(), connections, 20, plan.text_bytes);
            }
        }
    }
}

/// Pipes lines through `chat`.
fn stream_lines(flooder: &Daemon, plan: FloodPlan) {
    let mut command = Command::new(&binaries().chat);
    command.env("CHATD_HOME", flooder.home().path()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut chat: Child = command.spawn().expect("chat starts");
    let mut lines = chat.stdin.take().expect("a pipe");
    let line = format!("{}\n", "x".repeat(plan.text_bytes)).repeat(20);
    let begun = Instant::now();
    while begun.elapsed() < plan.span {
        lines.write_all(line.as_bytes()).expect("chat reads");
    }
    // What was read already is posted still; the rest is of no interest.
    chat.kill().expect("chat runs");
    chat.wait().expect("chat ends");
}

/// Posts now and then, and looks for each message at the others.
fn talk(others: &[Daemon], me: usize, span: Duration) -> (Vec<Duration>, Vec<Duration>) {
    let (mut stored, mut shown) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    thread::sleep(POST_EVERY.mul_f64(me as f64 / others.len() as f64));
    while begun.elapsed() < span {
        let posted = Instant::now();
        let message = others[me].api().send("now and then").message.id;
        stored.push(posted.elapsed());
        shown.extend(others.iter().enumerate().filter(|(number, _)| *number != me).map(|(_, other)| {
            until_shown(other, &message);
            posted.elapsed()
        }));
        thread::sleep(POST_EVERY.saturating_sub(posted.elapsed()));
    }
    (stored, shown)
}

fn until_shown(peer: &Daemon, message: &MessageId) {
    let path = format!("/v1/messages/{message}");
    let begun = Instant::now();
    while peer.api().get(&path).status != 200 {
        assert!(begun.elapsed() < PATIENCE, "{} does not show a message", peer.name());
        thread::sleep(LOOK_EVERY);
    }
}

/// The most memory that each takes until the flood is over.
fn watch(others: &[Daemon], before: &[u64], over: &AtomicBool) -> Vec<u64> {
    let mut most = before.to_vec();
    while !over.load(Ordering::Acquire) {
        for (peer, most) in others.iter().zip(&mut most) {
            *most = anonymous_kib(peer.pid()).unwrap_or_default().max(*most);
        }
        thread::sleep(LOOK_EVERY * 10);
    }
    most
}

impl fmt::Display for FloodReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FloodPlan { others, span, way, text_bytes } = self.plan;
        let span = span.as_secs();
        writeln!(f, "{way:?} of {text_bytes} bytes for {span} s, {others} others post now and then")?;
        writeln!(f, "  messages of the flood: {}, held by the others at its end: {:?}", self.flood, self.held)?;
        writeln!(f, "  all caught up after {:.1} s", self.caught_up.as_secs_f64())?;
        writeln!(f, "  the others' {} posts, stored: {}", self.stored.len(), line(&self.stored))?;
        writeln!(f, "  the others' posts, shown at another: {}", line(&self.shown))?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        for [before, most, after] in &self.memory {
            writeln!(f, "  heap: {:.1} MiB before, {:.1} at most, {:.1} after", mib(*before), mib(*most), mib(*after))?;
        }
        Ok(())
    }
}
