//! What people do at random, and how each fault begins and ends.

use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use rand::RngExt;

use crate::input::{Command, PersistError, Verdict};
use crate::log::entry::{MessageBody, SealedBox};
use crate::sim::room::machine::disk::Health;
use crate::sim::room::machine::{Host, MachineState};
use crate::sim::room::plan::{Fault, QUEUE_BYTES_MAX};
use crate::sim::room::world::RoomWorld;
use crate::sim::room::world::lifecycle::Swap;

/// By how much a wall clock can be wrong, in milliseconds: seconds, minutes, hours and years.
const CLOCK_ERRORS_MS: [i64; 4] = [20_000, 400_000, 12 * 3_600_000, 50 * 365 * 24 * 3_600_000];

impl RoomWorld {
    pub(in crate::sim::room) fn running(&self) -> Vec<Host> {
        self.hosts().filter(|host| self.at(*host).state == MachineState::Running).collect()
    }

    fn off(&self) -> Vec<Host> {
        self.hosts()
            .filter(|host| self.at(*host).state == MachineState::Off && self.at(*host).disk.held.is_some())
            .collect()
    }

    fn any_peer(&mut self) -> Option<PeerId> {
        let ids: Vec<PeerId> = self.machines.iter().map(|machine| machine.id).collect();
        self.pick(&ids)
    }

    /// A person acts, or a fault happens; then the next one is due.
    pub(in crate::sim::room) fn act(&mut self) {
        if !self.troubled {
            return;
        }
        let pause = self.pause();
        self.schedule(pause, RoomWorld::act);
        let running = self.running();
        let Some(host) = self.pick(&running) else { return self.restart_one() };
        match self.rng.random_range(0..100) {
            0..52 => self.post(host),
            52..72 => self.command_of_membership(host),
            72..78 => self.newcomer(),
            78..84 => self.restart_one(),
            _ => self.begin_fault(host),
        }
    }

    fn post(&mut self, host: Host) {
        if self.plan.is_harsh() && self.chance(0.25) {
            return self.send_once(host);
        }
        let length = if self.chance(0.02) { 9_000 } else { self.rng.random_range(1..60) };
        let text: String = (0..length).map(|_| char::from(self.rng.random_range(b'a'..=b'z'))).collect();
        let body = if self.chance(0.1) { self.sealed(text) } else { MessageBody::Text(text) };
        let wait = [Wait::Stored, Wait::Replicated, Wait::Delivered][self.rng.random_range(0..3)];
        let copies = self.rng.random_range(1..4);
        let timeout = self.between_ms(0, 5_000);
        self.command(host, Command::Post { body, reply_to: None, wait, copies, timeout });
    }

    /// A member posts a text.
    pub(in crate::sim::room) fn say(&mut self, host: Host, text: &str) {
        let (body, timeout) = (MessageBody::Text(text.into()), Duration::from_secs(5));
        self.command(host, Command::Post { body, reply_to: None, wait: Wait::Stored, copies: 1, timeout });
    }

    fn sealed(&mut self, text: String) -> MessageBody {
        let count = self.rng.random_range(1..4);
        let boxes = (0..count)
            .filter_map(|_| self.any_peer())
            .map(|to| SealedBox { to, kind: 1, ciphertext: text.clone().into_bytes() })
            .collect();
        MessageBody::Sealed(boxes)
    }

    fn command_of_membership(&mut self, host: Host) {
        let Some(other) = self.any_peer() else { return };
        let yes = if self.chance(0.7) { Verdict::Yes } else { Verdict::No };
        let wall = self.at(host).clock.at(self.now()).wall.as_ms();
        let command = match self.rng.random_range(0..100) {
            0..25 => {
                let names = ["bob", "BOB", "b\u{43E}b", "ann", "zoe", "joe"];
                Command::Rename(names[self.rng.random_range(0..names.len())].into())
            }
            25..45 => {
                let lasts = self.between_ms(1_000, 60_000);
                let expires = Timestamp::from_ms(wall + u64::try_from(lasts.as_millis()).expect("short"));
                Command::Invite { expires, uses: self.rng.random_range(1..3) }
            }
            45..60 => Command::Knocks,
            60..65 => match self.invite_of(host) {
                Some(invite) => Command::Revoke(invite),
                None => Command::Invites,
            },
            65..72 => Command::PublishKeys(self.rng.random(), self.rng.random()),
            72..78 => Command::Peers,
            78..80 => Command::Status,
            80..81 => Command::Rendezvous,
            81..89 => Command::SetAdmin(other, yes),
            89..97 if self.plan.has(Fault::Removal) => Command::Remove(other),
            97..99 if self.plan.has(Fault::Leaving) => Command::Leave,
            _ => Command::Invites,
        };
        let trusts = matches!(command, Command::SetAdmin(_, Verdict::Yes)) && !self.plan.trusts_hostile;
        let hostile = trusts && self.host_of(&other).is_some_and(|other| self.hostile.has(other));
        self.command(host, if hostile { Command::Invites } else { command });
    }

    fn invite_of(&mut self, host: Host) -> Option<chat_proto::id::InviteId> {
        let invites = self.at(host).node.as_ref()?.inspect().invites();
        let ids: Vec<_> = invites.into_iter().map(|(id, _)| id).collect();
        self.pick(&ids)
    }

    fn newcomer(&mut self) {
        let outside: Vec<Host> = self
            .hosts()
            .filter(|host| matches!(self.at(*host).state, MachineState::Outside | MachineState::Off))
            .collect();
        if let Some(asker) = self.pick(&outside) {
            self.ask(asker);
        }
    }

    fn restart_one(&mut self) {
        let off = self.off();
        let Some(host) = self.pick(&off) else { return };
        let swap = match self.rng.random_range(0..10) {
            0 if self.plan.has(Fault::LostDisk) => Swap::Empty,
            1 if self.plan.has(Fault::OldDisk) => Swap::Copy,
            2 if self.plan.has(Fault::OldDiskUnnoticed) && self.chance(0.5) => Swap::SilentCopy,
            2 if self.plan.has(Fault::OldDiskUnnoticed) => Swap::Snapshot,
            _ => Swap::Same,
        };
        self.swap_disk(host, swap);
        self.start(host);
    }

    /// Begins one of the faults of the plan, which may hit this machine.
    fn begin_fault(&mut self, host: Host) {
        let faults: Vec<Fault> = self.plan.faults.iter().copied().collect();
        let Some(fault) = self.pick(&faults) else { return };
        *self.stats.faults.entry(fault).or_default() += 1;
        match fault {
            Fault::Crash if self.plan.has(Fault::CrashPoint) && self.chance(0.75) => self.set_trap(host),
            Fault::Crash => {
                self.crash(host);
                self.restart_later(host);
            }
            Fault::CrashPoint => self.set_trap(host),
            Fault::LyingDisk => self.begin_lie(host),
            Fault::BitRot => self.rot(host),
            Fault::Stop => self.stop(host),
            Fault::Suspend => self.suspend(host),
            Fault::BrokenDisk => self.break_disk(host),
            Fault::LostConnection => {
                let all = self.net.of(host);
                if let Some(conn) = self.pick(&all) {
                    self.break_soon(conn);
                }
            }
            Fault::Partition => self.partition(),
            Fault::OneWay => self.one_way(host),
            Fault::Clock => {
                let most = CLOCK_ERRORS_MS[self.rng.random_range(0..CLOCK_ERRORS_MS.len())];
                let error = if self.chance(0.2) { 0 } else { self.rng.random_range(-most..most) };
                self.machine(host).clock.skew_ms = error;
            }
            Fault::Shielded => {
                if !self.net.shielded.remove(&host) {
                    self.net.shielded.insert(host);
                }
            }
            Fault::OldDisk | Fault::OldDiskUnnoticed => {
                let machine = self.machine(host);
                // With a copy from before the second member joined, no member could be found again.
                if machine.roster.members().count() > 1 {
                    machine.backup.clone_from(&machine.disk.held);
                }
            }
            Fault::GhostWrite if self.chance(0.5) => {
                self.machine(host).disk.health = Health::Broken(PersistError::Failed);
                let after = self.between_ms(100, 3_000);
                self.schedule(after, move |world| world.repair(host));
            }
            Fault::LostDisk
            | Fault::SlowDisk
            | Fault::SlowReader
            | Fault::Loss
            | Fault::Removal
            | Fault::Leaving
            | Fault::GhostWrite
            | Fault::DuplicateDatagrams => {}
        }
    }

    /// Splits the machines into two groups that do not reach each other for a while.
    fn partition(&mut self) {
        let side: Vec<bool> = self.machines.iter().map(|_| self.rng.random()).collect();
        let mut cut = Vec::new();
        for (a, on_a) in side.iter().enumerate() {
            for (b, on_b) in side.iter().enumerate() {
                if on_a != on_b {
                    cut.push((Host(a), Host(b)));
                }
            }
        }
        self.cut_off(cut);
    }

    /// Lets nothing out of a machine, or nothing in.
    fn one_way(&mut self, host: Host) {
        let out: bool = self.rng.random();
        let others: Vec<Host> = self.hosts().filter(|other| *other != host).collect();
        let cut = others.into_iter().map(|other| if out { (host, other) } else { (other, host) }).collect();
        self.cut_off(cut);
    }

    fn cut_off(&mut self, cut: Vec<(Host, Host)>) {
        let span = self.between_ms(200, 25_000);
        self.cut_for(cut, span);
    }

    /// Lets nothing through from the first to the second of each pair for a span.
    pub(in crate::sim::room) fn cut_for(&mut self, cut: Vec<(Host, Host)>, span: Duration) {
        let fresh: Vec<(Host, Host)> = cut.into_iter().filter(|link| self.net.blocked.insert(*link)).collect();
        self.schedule(span, move |world| world.heal(&fresh));
        self.watch_idle();
    }

    /// Ends all faults but wrong clocks: every machine runs, every disk works, every path is open.
    pub(in crate::sim::room) fn end_faults(&mut self) {
        self.troubled = false;
        self.end_hostility();
        self.plan.queue_bytes_max = QUEUE_BYTES_MAX;
        self.net.shielded.clear();
        let blocked: Vec<(Host, Host)> = self.net.blocked.iter().copied().collect();
        self.heal(&blocked);
        for host in self.hosts() {
            self.resume(host);
            let machine = self.machine(host);
            machine.disk.health = Health::Fine;
            machine.trap = None;
            if let MachineState::Asking(id, _) = machine.state {
                self.give_up(id, host);
            }
            if self.at(host).state == MachineState::Off {
                self.start(host);
            }
        }
        // Machines that were stopping start again, too.
        self.run_until(self.now() + Duration::from_secs(5));
        for host in self.hosts() {
            self.start(host);
            self.end_disk_faults(host);
        }
    }

    /// Time until the next act.
    pub(in crate::sim::room) fn pause(&mut self) -> Duration {
        let burst = self.chance(0.3);
        if burst { self.between_ms(0, 20) } else { self.between_ms(5, self.plan.pause_ms_max) }
    }
}
