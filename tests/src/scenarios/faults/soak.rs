//! A room that talks for long: memory and write-ahead log of its daemons must not grow with what was said.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster::TestRoom;
use crate::eventually::eventually;
use crate::load;
use crate::usage;

/// Bytes of a message.
const TEXT_BYTES: usize = 200;

/// How long the other peer may need to catch up.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(120);

/// What happens.
#[derive(Clone, Copy, Debug)]
pub struct SoakPlan {
    /// Messages in all.
    pub messages: usize,
    /// Messages between two looks.
    pub every: usize,
    /// Connections that post at once: few of them make many small entries, which cost the most.
    pub connections: usize,
}

/// What a daemon uses at some moment.
#[derive(Clone, Copy, Debug)]
pub struct SoakSample {
    /// Messages until then.
    pub messages: usize,
    /// Anonymous memory of the sender and the receiver, in KiB.
    pub anonymous_kib: [u64; 2],
    /// The longest write-ahead log of either, in KiB.
    pub wal_kib: u64,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct SoakReport {
    /// Looks, in order.
    pub samples: Vec<SoakSample>,
    /// How long it took.
    pub took: Duration,
}

/// Runs it.
///
/// # Errors
/// When the kernel does not say what a daemon uses.
///
/// # Panics
/// When a message is refused.
pub fn run(plan: SoakPlan) -> io::Result<SoakReport> {
    let room = TestRoom::of(&["alice", "bob"]);
    let (begun, mut samples) = (Instant::now(), Vec::new());
    let mut messages = 0;
    while messages < plan.messages {
        let each = plan.every.min(plan.messages - messages) / plan.connections;
        load::post(&room["alice"].home().socket(), plan.connections, each.max(1), TEXT_BYTES);
        messages += each.max(1) * plan.connections;
        eventually(CAUGHT_UP_MAX, "the other peer has all", || {
            let held = room["bob"].api().status().messages;
            if held as usize >= messages { Ok(()) } else { Err(format!("{held} of {messages}")) }
        });
        let anonymous = |name: &str| usage::anonymous_kib(room[name].pid());
        let wal = |name: &str| wal_kib(room[name].home().path());
        samples.push(SoakSample {
            messages,
            anonymous_kib: [anonymous("alice")?, anonymous("bob")?],
            wal_kib: wal("alice").max(wal("bob")),
        });
    }
    Ok(SoakReport { samples, took: begun.elapsed() })
}

fn wal_kib(home: &Path) -> u64 {
    fs::metadata(home.join("room.db-wal")).map_or(0, |found| found.len() / 1024)
}

impl SoakReport {
    /// By how much the memory of the daemon that grew most has grown since the first look, in KiB.
    pub fn growth_kib(&self) -> u64 {
        let [Some(first), Some(last)] = [self.samples.first(), self.samples.last()] else { return 0 };
        let grown = first.anonymous_kib.iter().zip(last.anonymous_kib).map(|(first, last)| last.saturating_sub(*first));
        grown.max().unwrap_or(0)
    }

    /// The longest write-ahead log at any look, in KiB.
    pub fn wal_kib(&self) -> u64 {
        self.samples.iter().map(|sample| sample.wal_kib).max().unwrap_or(0)
    }
}

impl fmt::Display for SoakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "messages   sender KiB   receiver KiB   write-ahead log KiB")?;
        for SoakSample { messages, anonymous_kib: [sender, receiver], wal_kib } in &self.samples {
            writeln!(f, "{messages:8}   {sender:10}   {receiver:12}   {wal_kib:19}")?;
        }
        write!(f, "{:.1} s; grown by {} KiB since the first look", self.took.as_secs_f64(), self.growth_kib())
    }
}
