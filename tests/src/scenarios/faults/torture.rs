//! Real daemons under every fault at once, in the manner of Jepsen's set and causal tests.
//!
//! Each peer has clients that post with idempotency keys, plain messages and answers to what their peer has shown them,
//! and one reader that resumes its event stream whenever it breaks ([`clients`]). Meanwhile daemons are killed, stopped,
//! rolled back, their disks fill up and fail, and their clocks jump ([`nemesis`]). At the end all faults cease, except for
//! the clocks, and what the peers hold is compared with what was acknowledged ([`verdict`]):
//!
//! * No acknowledged message is lost. One that was only acknowledged as stored may be lost where its author's disk was put
//!   back to a time before it: that is what `replicated` is for.
//! * None is there twice. A post that was repeated over a roll-back of its daemon may be: its key was rolled back, too.
//! * All peers hold the same messages in the same order, and none before what it answers.
//! * Every stream had every message once, and none before what it answers. After a gap, which only a roll-back or a failing
//!   disk may cause, a reader begins anew from the history.

pub mod clients;
pub mod nemesis;
pub mod verdict;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::clients::{PeerSeen, PostingClient, Reader, TorturePost};
use self::nemesis::Nemesis;
use self::verdict::{Evidence, TortureVerdict};
use super::random::Random;
use crate::cluster::all_online;
use crate::daemon::{Daemon, StartDaemon};
use crate::home::TestHome;
use crate::process::disk_shim::DiskShim;

/// Names of the peers.
const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// Clients that post at each peer.
const CLIENTS: usize = 2;

/// How long the histories may need to become the same after the last fault.
const SETTLED_MAX: Duration = Duration::from_secs(180);

/// What happens.
#[derive(Clone, Copy, Debug)]
pub struct TorturePlan {
    /// For how long faults come.
    pub span: Duration,
    /// Decides which fault comes when.
    pub seed: u64,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct TortureReport {
    /// Messages that were acknowledged.
    pub acknowledged: usize,
    /// Those of them that two other peers held when they were.
    pub replicated: usize,
    /// Calls that failed or were refused, and were made again.
    pub refusals: usize,
    /// Events that the readers took.
    pub events: usize,
    /// Faults by name.
    pub faults: Vec<(&'static str, usize)>,
    /// What does not hold.
    pub verdict: TortureVerdict,
    /// From the last fault until all histories were the same; nothing if they did not become so.
    pub settled: Option<Duration>,
}

/// A peer, its disk, and what its clients and its reader share.
pub(crate) struct Victim {
    pub(crate) daemon: Daemon,
    pub(crate) disk: DiskShim,
}

/// Ends threads when it is dropped, also by a panic: a scope waits for its threads before it passes a panic on.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs it.
///
/// # Panics
/// When the room does not come about, before any fault.
#[track_caller]
pub fn run(plan: TorturePlan) -> TortureReport {
    let mut peers = begin();
    let seen: Vec<PeerSeen> = peers.iter().map(|_| PeerSeen::default()).collect();
    let (talk_ends, reading_ends) = (AtomicBool::new(false), AtomicBool::new(false));
    let random = Random::new(plan.seed);
    let sockets: Vec<_> = peers.iter().map(|peer| peer.daemon.home().socket()).collect();
    let mut nemesis = Nemesis::new(random.split(1));
    let (attempts, settled, histories) = thread::scope(|scope| {
        let _ends = [EndOnDrop(&talk_ends), EndOnDrop(&reading_ends)];
        for (socket, seen) in sockets.iter().zip(&seen) {
            scope.spawn(|| Reader::new(socket).read(seen, &reading_ends));
        }
        let clients: Vec<_> = (0..NAMES.len() * CLIENTS)
            .map(|number| {
                let peer = number % NAMES.len();
                let client = PostingClient::new(number, peer, &sockets[peer], random.split(100 + number as u64));
                let (seen, talk_ends) = (&seen[peer], &talk_ends);
                scope.spawn(move || client.talk(seen, talk_ends))
            })
            .collect();
        nemesis.strike(&mut peers, &seen, plan.span);
        talk_ends.store(true, Ordering::Relaxed);
        let attempts: Vec<TorturePost> =
            clients.into_iter().flat_map(|client| client.join().unwrap_or_default()).collect();
        let (settled, histories) = settle(&peers, &attempts);
        wait_for_readers(&histories, &seen);
        reading_ends.store(true, Ordering::Relaxed);
        (attempts, settled, histories)
    });
    let seen = seen.into_iter().map(PeerSeen::into_seen).collect();
    let evidence = Evidence { names: NAMES.to_vec(), attempts, rollbacks: nemesis.rollbacks, histories, seen };
    TortureReport {
        acknowledged: evidence.attempts.iter().filter(|attempt| attempt.acknowledged.is_some()).count(),
        replicated: evidence.attempts.iter().filter(|attempt| attempt.is_replicated()).count(),
        refusals: evidence.attempts.iter().map(|attempt| attempt.refusals).sum(),
        events: evidence.seen.iter().map(|seen| seen.events).sum(),
        faults: nemesis.faults,
        verdict: TortureVerdict::of(&evidence, nemesis.complaints),
        settled,
    }
}

/// A room of peers with clocks and disks of their own.
#[track_caller]
fn begin() -> Vec<Victim> {
    let mut peers: Vec<Victim> = Vec::new();
    for name in NAMES {
        let home = TestHome::new();
        let disk = DiskShim::failing(&home.path().with_file_name("fault"));
        let home = home.clock("+0s").disk(disk.clone());
        let start = match peers.first() {
            None => StartDaemon::found(name),
            Some(founder) => StartDaemon::join(name, &founder.daemon.ticket()),
        };
        peers.push(Victim { daemon: start.home(home).start(), disk });
    }
    all_online(&peers.iter().map(|peer| &peer.daemon).collect::<Vec<_>>());
    peers
}

/// Waits until all histories are the same and hold every acknowledged message, or for [`SETTLED_MAX`]; gives them as they
/// are then.
fn settle(peers: &[Victim], attempts: &[TorturePost]) -> (Option<Duration>, Vec<Vec<verdict::TortureMessage>>) {
    let begun = Instant::now();
    let least = attempts.iter().filter(|attempt| attempt.is_replicated()).count();
    loop {
        let counts: Vec<u64> = peers.iter().map(|peer| peer.daemon.api().status().messages).collect();
        let same = counts.iter().all(|count| *count == counts[0] && *count >= least as u64);
        let late = begun.elapsed() > SETTLED_MAX;
        if same || late {
            let histories: Vec<Vec<_>> = peers
                .iter()
                .map(|peer| peer.daemon.api().history().into_iter().map(verdict::TortureMessage::from).collect())
                .collect();
            if late {
                return (None, histories);
            }
            if histories.iter().all(|history| *history == histories[0]) {
                return (Some(begun.elapsed()), histories);
            }
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// Waits until every reader has had what its peer holds, for half a minute at most.
fn wait_for_readers(histories: &[Vec<verdict::TortureMessage>], seen: &[PeerSeen]) {
    let begun = Instant::now();
    let complete = |(history, seen): (&Vec<verdict::TortureMessage>, &PeerSeen)| seen.has_all(history);
    while !histories.iter().zip(seen).all(complete) && begun.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(100));
    }
}

impl fmt::Display for TortureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, replicated, refusals, events, faults, verdict, settled } = self;
        write!(
            f,
            "{acknowledged} messages acknowledged, {replicated} of them replicated; {refusals} calls refused and repeated; {events} events read; faults:"
        )?;
        faults.iter().try_for_each(|(name, count)| write!(f, " {name} {count},"))?;
        match settled {
            Some(settled) => writeln!(f, " settled after {:.1} s", settled.as_secs_f64())?,
            None => writeln!(f, " not settled after {} s", SETTLED_MAX.as_secs())?,
        }
        write!(f, "{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_beside_threads_that_wait_for_their_end_is_passed_on() {
        let (ends, begun) = (AtomicBool::new(false), Instant::now());
        let struck = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            thread::scope(|scope| {
                let _ends = EndOnDrop(&ends);
                scope.spawn(|| {
                    while !ends.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(30) {
                        thread::sleep(Duration::from_millis(1));
                    }
                });
                panic!("a fault could not be made");
            });
        }));
        assert!(struck.is_err());
        assert!(ends.load(Ordering::Relaxed), "no thread waits until it gives up");
    }
}
