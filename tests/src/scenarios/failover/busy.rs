//! Keeps every processor of this machine loaded while a room talks, and counts how often the role moves: never, it should.

use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chat_proto::id::PeerId;

use super::listening::Listening;
use super::stage::agreed;
use super::{MessageFate, check, line};
use crate::cluster::TestRoom;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Report {
    peers: usize,
    loops: usize,
    span: Duration,
    /// Changes of the role that any peer reported.
    pub changes: Vec<String>,
    ways: Vec<Duration>,
    /// What became of what was said.
    pub kept: MessageFate,
}

/// Runs one busy loop for each processor, for the given time.
///
/// # Panics
/// When a daemon does not start, or the room does not agree on a holder.
pub fn run(peers: usize, span: Duration) -> Report {
    let names: Vec<String> = ('a'..='z').take(peers).map(|letter| format!("peer-{letter}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let room = TestRoom::of(&names);
    let (holder, term) = agreed(&room);
    let ids: Vec<PeerId> = room.peers.iter().map(|peer| peer.api().status().peer.id).collect();
    let listening = Listening::new(&room, &ids);
    let loops = thread::available_parallelism().map_or(1, usize::from);
    let (busy, begun) = (AtomicBool::new(true), Instant::now());
    thread::scope(|scope| {
        for _ in 0..loops {
            scope.spawn(|| {
                let mut number = 0_u64;
                while busy.load(Ordering::Relaxed) {
                    number = black_box(number.wrapping_mul(31).wrapping_add(7));
                }
            });
        }
        listening.begin(scope, 0);
        thread::sleep(span);
        busy.store(false, Ordering::Relaxed);
        // What was said last still arrives.
        thread::sleep(Duration::from_secs(1));
        listening.end();
    });
    let heard = listening.sum_up(PeerId::from_bytes([0; 32]), term, begun);
    let mut kept = MessageFate { repeated: heard.repeated, ..MessageFate::default() };
    check(&room, &heard.acknowledged, &mut kept);
    let mut changes = heard.terms;
    let after = agreed(&room);
    if after != (holder, term) && changes.is_empty() {
        changes.push(format!("unseen: term {} became {}", term.0, after.1.0));
    }
    Report { peers, loops, span, changes, ways: heard.ways, kept }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peers, loops, span, changes, ways, kept } = self;
        writeln!(f, "{loops} busy loops for {} s beside {peers} peers that all talk", span.as_secs())?;
        writeln!(f, "  changes of the role: {}", changes.len())?;
        changes.iter().try_for_each(|change| writeln!(f, "    {change}"))?;
        writeln!(f, "  the {} ways of messages: {}", ways.len(), line(ways))?;
        write!(f, "  {kept}")
    }
}
