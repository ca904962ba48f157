//! Disks that break their word: flushes that were not carried out, failed writes that were, and bit rot.

use std::time::Duration;

use rand::RngExt;

use crate::input::Input;
use crate::log::entry::{Dep, Entry};
use crate::sim::room::machine::Host;
use crate::sim::room::machine::disk::MarkFate;
use crate::sim::room::plan::Fault;
use crate::sim::room::world::RoomWorld;

impl RoomWorld {
    /// A disk reports flushes for a while that it does not carry out.
    pub(super) fn begin_lie(&mut self, host: Host) {
        let machine = self.machine(host);
        // Without the second member's admission, no member could be found again.
        if machine.roster.members().count() < 2 || machine.disk.lie.is_some() {
            return;
        }
        machine.disk.begin_lie();
        let after = self.between_ms(1_000, 20_000);
        self.schedule(after, move |world| world.machine(host).disk.lie = None);
    }

    /// The power is cut: what a disk that lies had only in its cache is lost.
    pub(super) fn lose_cache(&mut self, host: Host) {
        let cached = self.at(host).disk.cached();
        if cached == 0 {
            self.machine(host).disk.lie = None;
            return;
        }
        let survive = self.rng.random_range(0..=cached);
        let mark = if self.chance(0.5) { MarkFate::Flushed } else { MarkFate::Lost };
        self.stats.lost_reported += u64::try_from(cached - survive).expect("few writes are cached");
        let Self { machines, checker, .. } = self;
        let machine = machines.get_mut(host.0).expect("a machine");
        if mark == MarkFate::Lost && survive < cached {
            checker.may_fork(machine.id);
        }
        for entry in machine.disk.lose_cache(survive, mark) {
            checker.lost(host, &entry);
        }
        checker.disk_changed(host, machine.disk.held.as_ref());
    }

    /// The power is cut before another write succeeded: the one that failed may be on the disk after all.
    pub(super) fn show_ghost(&mut self, host: Host) {
        if self.at(host).disk.ghost.is_none() || self.chance(0.3) {
            self.machine(host).disk.ghost = None;
            return;
        }
        self.stats.ghosts += 1;
        let Self { machines, checker, .. } = self;
        let machine = machines.get_mut(host.0).expect("a machine");
        machine.disk.show_ghost(&mut |held, item| checker.stores(host, held, item, None));
    }

    /// One stored entry rots, of which at least two other machines have a copy.
    pub(super) fn rot(&mut self, host: Host) {
        let Some(held) = &self.at(host).disk.held else { return };
        let places: Vec<Dep> = {
            let entries = held.logs.values().flatten();
            entries.map(|entry| place(entry)).collect()
        };
        let Some(place) = self.pick(&places) else { return };
        let copies = self.machines.iter().enumerate().filter(|(other, machine)| {
            let held = machine.disk.held.as_ref();
            *other != host.0 && held.is_some_and(|held| held.holds(&place.log, place.seq))
        });
        let rotten = |dep: &Dep| self.machines.iter().any(|m| m.disk.held.iter().any(|held| held.rotten.contains(dep)));
        if copies.count() < 2 || rotten(&place) {
            return;
        }
        if let Some(held) = &mut self.machine(host).disk.held {
            held.rotten.insert(place);
        }
        self.scrub_later(host);
    }

    /// The store looks through its entries in the background.
    pub(super) fn scrub_later(&mut self, host: Host) {
        let rotten = self.at(host).disk.held.as_ref().is_some_and(|held| !held.rotten.is_empty());
        if rotten {
            let after = self.between_ms(100, 10_000);
            self.schedule_for(host, after, move |world| world.scrub(host));
        }
    }

    pub(super) fn scrub(&mut self, host: Host) {
        let rotten = self.at(host).disk.held.as_ref().map(|held| held.rotten.clone()).unwrap_or_default();
        for Dep { log, seq } in rotten {
            self.input(host, Input::Damaged(log, seq));
        }
    }

    /// Entries that are still damaged while another of these machines has a copy.
    pub(super) fn damaged(&self, group: &[Host]) -> Option<String> {
        let held = |host: &Host| self.at(*host).disk.held.as_ref();
        group.iter().find_map(|host| {
            let place = held(host)?.rotten.iter().find(|place| {
                let copy = |other: &&Host| held(other).is_some_and(|held| held.holds(&place.log, place.seq));
                group.iter().filter(|other| *other != host).any(|other| copy(&other))
            })?;
            Some(format!("{host:?} has a damaged copy of {place:?}"))
        })
    }

    /// Whether a machine of a group has damaged entries: once the group has settled, no other of it holds good copies.
    pub(super) fn beyond_repair(&self, group: &[Host]) -> bool {
        group.iter().any(|host| self.has_damage(*host))
    }

    /// Whether a group has damaged entries of which none of it holds a good copy: others of it cannot get what follows.
    pub(super) fn lost_to_rot(&self, group: &[Host]) -> bool {
        let held = |host: &Host| self.at(*host).disk.held.as_ref();
        let is_good = |at: &Dep| {
            group.iter().filter_map(held).any(|held| held.seq(&at.log) >= at.seq && !held.rotten.contains(at))
        };
        group.iter().filter_map(held).flat_map(|held| &held.rotten).any(|at| !is_good(at))
    }

    /// Whether entries on the disk of a machine are damaged.
    pub(super) fn has_damage(&self, host: Host) -> bool {
        self.at(host).disk.held.iter().any(|held| !held.rotten.is_empty())
    }

    /// Ends what breaks the word of a disk.
    pub(super) fn end_disk_faults(&mut self, host: Host) {
        let disk = &mut self.machine(host).disk;
        (disk.lie, disk.ghost) = (None, None);
        if self.plan.has(Fault::BitRot) {
            self.schedule_for(host, Duration::from_secs(6), move |world| world.scrub(host));
        }
    }
}

fn place(entry: &Entry) -> Dep {
    Dep { log: entry.log(), seq: entry.seq() }
}
