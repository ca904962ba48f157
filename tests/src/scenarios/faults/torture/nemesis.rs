//! The faults of a torture: which, when, on which peers.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::Victim;
use super::clients::PeerSeen;
use crate::process::disk_shim::DiskFault;
use crate::scenarios::faults::random::Random;

/// How long a peer that was rolled back may need to have its messages again before the next one is rolled back.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(60);

/// Pause between two strikes, in milliseconds.
const PAUSE_MS: std::ops::Range<usize> = 200..2_000;

/// Clocks that a machine gets.
const CLOCKS: [&str; 6] = ["+0s", "+1h", "-1h", "+400d", "-400d", "+30s"];

/// The files of a database, and the mark beside it.
const FILES: [&str; 3] = ["room.db", "room.db-wal", "head.mark"];

/// A roll-back of a home in place.
#[derive(Clone, Copy, Debug)]
pub struct Rollback {
    /// The peer.
    pub peer: usize,
    /// When its files were copied.
    pub copied: Instant,
    /// When the copy was put back.
    pub put_back: Instant,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TortureFault {
    Kill,
    Stop,
    Suspend,
    RollBack,
    RollBackWithMark,
    FullDisk,
    StartOnFullDisk,
    FailingWrites,
    FailingFlushes,
    Clock,
    KillAll,
}

const FAULTS: [(TortureFault, &str); 11] = [
    (TortureFault::Kill, "kill"),
    (TortureFault::Stop, "stop"),
    (TortureFault::Suspend, "suspend"),
    (TortureFault::RollBack, "roll-back"),
    (TortureFault::RollBackWithMark, "roll-back with head.mark"),
    (TortureFault::FullDisk, "full disk"),
    (TortureFault::StartOnFullDisk, "start on a full disk"),
    (TortureFault::FailingWrites, "failing writes"),
    (TortureFault::FailingFlushes, "failing flushes"),
    (TortureFault::Clock, "clock"),
    (TortureFault::KillAll, "kill of all"),
];

/// What strikes.
#[derive(Debug)]
pub struct Nemesis {
    random: Random,
    /// Faults by name, and how often they struck.
    pub faults: Vec<(&'static str, usize)>,
    /// Homes that were rolled back.
    pub rollbacks: Vec<Rollback>,
    /// Daemons that did not do what they must.
    pub complaints: Vec<String>,
}

impl Nemesis {
    /// The nemesis of a seed.
    pub fn new(random: Random) -> Self {
        let faults = FAULTS.iter().map(|(_, name)| (*name, 0)).collect();
        Self { random, faults, rollbacks: Vec::new(), complaints: Vec::new() }
    }

    /// Strikes again and again; all daemons run on disks that work when this returns.
    pub(super) fn strike(&mut self, peers: &mut [Victim], seen: &[PeerSeen], span: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < span {
            thread::sleep(Duration::from_millis(self.random.within(PAUSE_MS) as u64));
            // Each fault once before any comes again: a short run has them all.
            let rarest = self.faults.iter().map(|(_, count)| *count).min().unwrap_or(0);
            let next: Vec<usize> = (0..FAULTS.len()).filter(|fault| self.faults[*fault].1 == rarest).collect();
            let fault = next[self.random.within(0..next.len())];
            self.faults[fault].1 += 1;
            let peer = self.random.within(0..peers.len());
            self.carry_out(FAULTS[fault].0, peer, peers, seen);
        }
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.disk.set(DiskFault::None);
            peer.daemon.resume();
            self.start(number, peer);
        }
    }

    fn carry_out(&mut self, fault: TortureFault, number: usize, peers: &mut [Victim], seen: &[PeerSeen]) {
        let peer = &mut peers[number];
        match fault {
            TortureFault::Kill => {
                peer.daemon.kill();
                self.pause(2_000);
                self.start(number, peer);
            }
            TortureFault::Stop => {
                peer.daemon.stop();
                self.pause(1_000);
                self.start(number, peer);
            }
            TortureFault::Suspend => {
                peer.daemon.suspend();
                self.pause(6_000);
                peer.daemon.resume();
            }
            TortureFault::RollBack => self.roll_back(number, peers, &seen[number], &FILES[..2]),
            TortureFault::RollBackWithMark => self.roll_back(number, peers, &seen[number], &FILES),
            TortureFault::FullDisk => self.disk(DiskFault::Full, number, peer, &seen[number]),
            TortureFault::FailingWrites => self.disk(DiskFault::WritesFail, number, peer, &seen[number]),
            TortureFault::FailingFlushes => self.disk(DiskFault::FlushesFail, number, peer, &seen[number]),
            TortureFault::StartOnFullDisk => {
                seen[number].excuse();
                peer.disk.set(DiskFault::Full);
                self.pause(1_000);
                peer.daemon.kill();
                self.start(number, peer);
                self.pause(2_000);
                peer.disk.set(DiskFault::None);
            }
            TortureFault::Clock => peer.daemon.home().set_clock(CLOCKS[self.random.within(0..CLOCKS.len())]),
            TortureFault::KillAll => {
                peers.iter_mut().for_each(|peer| peer.daemon.kill());
                self.pause(500);
                for (number, peer) in peers.iter_mut().enumerate() {
                    self.start(number, peer);
                }
            }
        }
    }

    fn pause(&mut self, ms_max: usize) {
        thread::sleep(Duration::from_millis(self.random.within(0..ms_max) as u64));
    }

    /// Starts a daemon unless it runs.
    fn start(&mut self, number: usize, peer: &mut Victim) {
        if peer.daemon.runs() {
            return;
        }
        peer.daemon.reap();
        if let Err(why) = peer.daemon.try_start_again() {
            self.complaints.push(format!("peer {number} does not start: {why}"));
            peer.disk.set(DiskFault::None);
            // Without it nothing more can be found out.
            peer.daemon.start_again();
        }
    }

    /// A disk fails for some seconds; sometimes its daemon is killed meanwhile.
    fn disk(&mut self, fault: DiskFault, number: usize, peer: &mut Victim, seen: &PeerSeen) {
        seen.excuse();
        peer.disk.set(fault);
        self.pause(3_000);
        if self.random.one_in(3) && peer.daemon.runs() {
            peer.daemon.kill();
        }
        peer.disk.set(DiskFault::None);
        // It may have given up by itself.
        self.start(number, peer);
    }

    /// Copies the files of a home while its daemon is down, and puts them back some time later.
    fn roll_back(&mut self, number: usize, peers: &mut [Victim], seen: &PeerSeen, files: &[&str]) {
        let peer = &mut peers[number];
        seen.excuse();
        peer.daemon.kill();
        let path = |name: &&str| -> PathBuf { peer.daemon.home().path().join(name) };
        let paths: Vec<PathBuf> = files.iter().map(path).collect();
        let copies: Vec<Option<Vec<u8>>> = paths.iter().map(|path| fs::read(path).ok()).collect();
        let copied = Instant::now();
        self.start(number, peer);
        self.pause(4_000);
        peer.daemon.kill();
        for (path, copy) in paths.iter().zip(&copies) {
            let written = match copy {
                Some(copy) => fs::write(path, copy),
                None => fs::remove_file(path),
            };
            if let Err(error) = written {
                self.complaints.push(format!("{} cannot be put back: {error}", path.display()));
            }
        }
        seen.forget_newest();
        self.rollbacks.push(Rollback { peer: number, copied, put_back: Instant::now() });
        self.start(number, peer);
        self.catch_up(number, peers);
    }

    /// Waits until a peer has what the others had: copies are promised for one lost disk at a time, not for one after the
    /// other without a copy made in between.
    fn catch_up(&mut self, number: usize, peers: &[Victim]) {
        let messages = |peer: &Victim| peer.daemon.api().status().messages;
        let most = peers.iter().map(messages).max().unwrap_or(0);
        let begun = Instant::now();
        while messages(&peers[number]) < most {
            if begun.elapsed() > CAUGHT_UP_MAX {
                self.complaints.push(format!("peer {number} does not catch up after it was rolled back"));
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}
