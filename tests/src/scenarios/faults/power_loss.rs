//! Lets the power fail at any moment of a daemon's life and looks at what its disk then holds.
//!
//! A real daemon talks for some seconds while everything that it does to its home is recorded: it founds a room, posts
//! from several connections, receives what others post, falls quiet so that checkpoints run, is killed and started again,
//! stops and starts again. Every acknowledgement is noted in the recording: its own, and those of another member's messages that
//! name its disk as the one that holds a copy. Then, for each loss of power, the home is built as a disk may hold it at that
//! moment ([`Disk::after_loss`]), and a real daemon is started on it: it must start, in the same room, with every message
//! acknowledged until then, once, and with an intact log; a message that is posted again under its key must not be posted twice.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use chat_proto::api::messages::{SendRequest, Wait};
use chat_proto::id::{MessageId, RoomId};

use super::disk_image::{Disk, Flushes, PowerLoss, Recording, mark};
use super::posting::{post, try_post};
use super::random::Random;
use crate::api::DaemonApi;
use crate::daemon::{Daemon, StartDaemon};
use crate::home::TestHome;
use crate::process::disk_shim::DiskShim;

/// Connections that post at once.
const SENDERS: usize = 4;

/// Parts of the conversation; the daemon is quiet, killed or stopped between them.
const PARTS: usize = 4;

/// Numbers of the other member's messages are larger.
const OF_OTHER: u64 = 1 << 32;

/// For how long the daemon is quiet: its store checkpoints meanwhile, and fills its text index.
const QUIET: Duration = Duration::from_millis(600);

/// Losses that are looked at side by side.
const SIDE_BY_SIDE: usize = 2;

/// What happens.
#[derive(Clone, Debug)]
pub struct PowerLossPlan {
    /// Messages that the recorded daemon acknowledges.
    pub messages: usize,
    /// Losses of power.
    pub losses: usize,
    /// Decides when they are and what they leave.
    pub seed: u64,
    /// Whether the disk does what it says.
    pub flushes: Flushes,
    /// Where homes that fail are kept, to look at them.
    pub keep: Option<PathBuf>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct PowerLossReport {
    /// Losses of power.
    pub losses: usize,
    /// Losses at which something of the database was not flushed.
    pub unflushed: usize,
    /// Acknowledged messages that were looked for, over all losses.
    pub messages: usize,
    /// Operations on the recorded disk.
    pub operations: usize,
    /// What does not hold.
    pub failures: Vec<String>,
    /// How long recording took.
    pub recording: Duration,
    /// How long looking took.
    pub looking: Duration,
}

/// An acknowledged message.
#[derive(Clone, Debug)]
struct RecordedMessage {
    id: MessageId,
    request: SendRequest,
}

/// A recorded life.
struct RecordedLife {
    recording: Recording,
    home: PathBuf,
    room: RoomId,
    posted: HashMap<u64, RecordedMessage>,
}

/// A home as a loss of power leaves it.
struct LostPower {
    at: usize,
    loss: PowerLoss,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Numbers of the messages acknowledged by then.
    acknowledged: Vec<u64>,
    founded: bool,
}

/// Runs it.
///
/// # Errors
/// When the recording cannot be read.
///
/// # Panics
/// When a daemon does not do what it must while it is recorded.
pub fn run(plan: &PowerLossPlan) -> io::Result<PowerLossReport> {
    let begun = Instant::now();
    let life = record(plan.messages)?;
    let mut report = PowerLossReport {
        losses: plan.losses,
        operations: life.recording.len(),
        recording: begun.elapsed(),
        ..PowerLossReport::default()
    };
    let begun = Instant::now();
    let failures = Mutex::new(Vec::new());
    let (ready, lost) = mpsc::sync_channel::<LostPower>(SIDE_BY_SIDE);
    let lost = Mutex::new(lost);
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(lost) = next(&lost) {
                    if let Err(why) = look(&life, &lost, plan.keep.as_deref()) {
                        let why = format!("power lost after {} operations ({:?}): {why}", lost.at, lost.loss);
                        failures.lock().expect("no check has panicked").push(why);
                    }
                }
            });
        }
        let marks = life.recording.marks();
        let mut disk = Disk::new(&life.recording, plan.flushes);
        for (at, loss, mut random) in losses(plan, &life.recording) {
            disk.advance_to(at);
            report.unflushed += usize::from(disk.unflushed("room.db") > 0);
            let marked = marks.iter().take_while(|(mark, _)| *mark <= at).map(|(_, number)| *number);
            let (founded, acknowledged): (Vec<u64>, Vec<u64>) = marked.partition(|number| *number == 0);
            report.messages += acknowledged.len();
            let files = disk.after_loss(loss, &mut random);
            let lost = LostPower { at, loss, files, acknowledged, founded: !founded.is_empty() };
            if ready.send(lost).is_err() {
                break;
            }
        }
        drop(ready);
    });
    report.looking = begun.elapsed();
    report.failures = failures.into_inner().expect("no check has panicked");
    Ok(report)
}

fn next(lost: &Mutex<mpsc::Receiver<LostPower>>) -> Option<LostPower> {
    lost.lock().expect("no check has panicked").recv().ok()
}

/// When the power fails, in ascending order: half of the times right after an acknowledgement, where most could be lost.
fn losses(plan: &PowerLossPlan, recording: &Recording) -> Vec<(usize, PowerLoss, Random)> {
    let marks = recording.marks();
    let random = Random::new(plan.seed);
    let one = |number: usize| {
        let mut random = random.split(number as u64);
        let at = match marks.get(random.within(0..marks.len())) {
            Some((mark, _)) if random.one_in(2) => *mark,
            Some(_) | None => random.within(1..recording.len() + 1),
        };
        let all = [PowerLoss::Forgotten, PowerLoss::Kept, PowerLoss::Torn, PowerLoss::Scattered];
        let loss = all[random.within(0..all.len())];
        (at, loss, random)
    };
    let mut losses: Vec<_> = (0..plan.losses).map(one).collect();
    losses.sort_by_key(|(at, _, _)| *at);
    losses
}

/// Records the life of a daemon.
fn record(messages: usize) -> io::Result<RecordedLife> {
    let home = TestHome::new();
    let log = home.path().with_file_name("disk.log");
    let mut alice = StartDaemon::found("alice").home(home.disk(DiskShim::recording(&log))).start();
    let room = alice.api().status().room.id;
    File::options().append(true).open(&log)?.write_all(&mark(0))?;
    let bob = StartDaemon::join("bob", &alice.ticket()).start();
    let posted = Mutex::new(HashMap::new());
    let next = AtomicU64::new(1);
    for part in 0..PARTS {
        let upto = (messages * (part + 1) / PARTS) as u64;
        let socket = alice.home().socket();
        thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| talk(&socket, &log, &next, upto, &posted));
            }
            scope.spawn(|| {
                let first = OF_OTHER + (part * messages) as u64;
                (first..first + (messages / PARTS / 4) as u64)
                    .for_each(|number| replicate(&bob, &log, number, &posted));
            });
            if part == 1 {
                // In the middle of the talk.
                thread::sleep(QUIET / 4);
                alice.kill();
                alice.start_again();
            }
        });
        thread::sleep(QUIET);
        if part == 2 {
            alice.stop();
            alice.start_again();
        }
    }
    alice.kill();
    let recording = Recording::read(&log)?;
    let home = alice.home().path().canonicalize()?;
    is_complete(&recording, &home)?;
    let posted = posted.into_inner().expect("no sender has panicked");
    Ok(RecordedLife { recording, home, room, posted })
}

/// Posts the messages that no other sender has taken, and notes each acknowledgement in the recording.
fn talk(socket: &Path, log: &Path, next: &AtomicU64, upto: u64, posted: &Mutex<HashMap<u64, RecordedMessage>>) {
    let mut api = DaemonApi::unix(socket);
    let mut log = File::options().append(true).open(log).expect("it is being recorded");
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number > upto {
            next.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let text = format!("message {number} {}", "x".repeat(if number.is_multiple_of(5) { 6_000 } else { 20 }));
        let to = if number % 10 == 3 { vec!["bob".to_owned()] } else { Vec::new() };
        let request = SendRequest { text, to, ..SendRequest::default() };
        let id = post(&mut api, socket, &request, &key(number)).sent.message.id;
        log.write_all(&mark(number)).expect("the directory is ours");
        posted.lock().expect("no sender has panicked").insert(number, RecordedMessage { id, request });
    }
}

/// Posts a message of the other member, and notes in the recording that the recorded daemon has confirmed it.
fn replicate(bob: &Daemon, log: &Path, number: u64, posted: &Mutex<HashMap<u64, RecordedMessage>>) {
    let request = SendRequest { text: format!("bob {number}"), wait: Wait::Replicated, ..SendRequest::default() };
    let sent = post(&mut bob.api(), &bob.home().socket(), &request, &key(number)).sent;
    // It may have been down for too long.
    if sent.state.complete {
        posted.lock().expect("no sender has panicked").insert(number, RecordedMessage { id: sent.message.id, request });
        let mut log = File::options().append(true).open(log).expect("it is being recorded");
        log.write_all(&mark(number)).expect("the directory is ours");
    }
}

fn key(number: u64) -> String {
    format!("power-{number}")
}

/// The recording misses nothing: what it leads to is what the home holds.
fn is_complete(recording: &Recording, home: &Path) -> io::Result<()> {
    let mut disk = Disk::new(recording, Flushes::Honest);
    disk.advance_to(recording.len());
    let now = disk.now();
    for name in ["room.db", "room.db-wal", "head.mark", "identity.key", "room.json", "home.json", "lock"] {
        let path = home.join(name);
        let (held, recorded) = (fs::read(&path).ok(), now.get(&path));
        if held.as_ref() != recorded {
            let lengths = (held.map(|held| held.len()), recorded.map(Vec::len));
            return Err(io::Error::other(format!("{name} is not as recorded: {lengths:?}")));
        }
    }
    Ok(())
}

/// Starts a daemon on a home after a loss of power and looks for what must be there.
fn look(life: &RecordedLife, lost: &LostPower, keep: Option<&Path>) -> Result<(), String> {
    let home = TestHome::new();
    let path = home.path().to_owned();
    write(&path, &life.home, &lost.files).map_err(|error| format!("the home cannot be written: {error}"))?;
    let found = check(life, lost, home);
    if let (Err(why), Some(keep)) = (&found, keep) {
        let kept = keep.join(format!("{}-{:?}", lost.at, lost.loss));
        let written = write(&kept, &life.home, &lost.files);
        return Err(format!("{why} (kept in {}: {written:?})", kept.display()));
    }
    found
}

fn check(life: &RecordedLife, lost: &LostPower, home: TestHome) -> Result<(), String> {
    if lost.founded {
        let checked = home.chatd(&["check"]).run();
        if !checked.status.success() {
            return Err(format!("chatd check: {}{}", checked.stdout, checked.stderr));
        }
    }
    let mut daemon = Daemon::returning("alice", home)?;
    if !lost.founded {
        return Ok(());
    }
    let mut api = daemon.api();
    if api.status().room.id != life.room {
        return Err("it is in another room".into());
    }
    if let Some(aside) = daemon.home().files().iter().find(|name| name.contains("corrupt")) {
        return Err(format!("the database was damaged and set aside as {aside}"));
    }
    let mut held: HashMap<MessageId, (usize, String)> = HashMap::new();
    for message in api.history() {
        held.entry(message.id).or_insert((0, message.text)).0 += 1;
    }
    for number in &lost.acknowledged {
        let posted = &life.posted[number];
        match held.get(&posted.id) {
            Some((1, text)) if *text == posted.request.text => {}
            Some((count, _)) => return Err(format!("message {number} is there {count} times, or with another text")),
            None => return Err(format!("message {number} was acknowledged and is lost")),
        }
    }
    if let Some(number) = lost.acknowledged.iter().rfind(|number| **number < OF_OTHER) {
        let (posted, socket) = (&life.posted[number], daemon.home().socket());
        let again = try_post(&mut api, &socket, &posted.request, &key(*number))?;
        if again.message.id != posted.id {
            return Err(format!("message {number} was posted again under its key and is there twice"));
        }
    }
    daemon.kill();
    Ok(())
}

fn write(to: &Path, from: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
    for directory in [to.to_owned(), to.join("run")] {
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
    }
    for (path, content) in files {
        let path = to.join(path.strip_prefix(from).map_err(io::Error::other)?);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

impl fmt::Display for PowerLossReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { losses, unflushed, messages, operations, failures, recording, looking } = self;
        write!(
            f,
            "{losses} losses of power over {operations} operations on the disk, {unflushed} of them while something \
             of the database was not flushed; {messages} acknowledged messages looked for; {} failures; recorded in {:.1} s, looked at in {:.1} s",
            failures.len(),
            recording.as_secs_f64(),
            looking.as_secs_f64()
        )?;
        failures.iter().try_for_each(|failure| write!(f, "\n{failure}"))
    }
}
