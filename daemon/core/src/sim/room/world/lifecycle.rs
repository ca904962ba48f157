//! Machines that start, stop, crash and sleep, and the disks that they lose or swap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::{EntryHash, MessageId};
use rand::RngExt;

use crate::config::{BudgetSettings, NodeSettings};
use crate::input::{Command, Input, PersistError};
use crate::log::entry::{Entry, Incarnation, LogId, Seq};
use crate::node::Node;
use crate::output::Batch;
use crate::restore::Start;
use crate::sim::room::machine::disk::{Health, Op, Wrote};
use crate::sim::room::machine::flood_tree::Flood;
use crate::sim::room::machine::{Host, Machine, MachineState};
use crate::sim::room::plan::Fault;
use crate::sim::room::world::RoomWorld;

/// The second record of a log's head.
pub(super) type Mark = (LogId, Seq, EntryHash);

/// What happens to a disk while its machine is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim::room) enum Swap {
    /// It stays as it is.
    Same,
    /// It is replaced by an empty one; the machine still knows its room.
    Empty,
    /// It is replaced by an older copy, and the daemon notices.
    Copy,
    /// The database is replaced by an older copy of itself, in place; the rest of the home stays.
    SilentCopy,
    /// The whole home is replaced by an older copy of itself.
    Snapshot,
}

impl RoomWorld {
    fn boot(&mut self, host: Host, start: Start) {
        let seed = self.rng.random();
        let now = self.now();
        // What a hostile member writes beyond a day's budget comes over days, and a run lasts minutes: it may have more here.
        let budget = BudgetSettings {
            control_entries: 1 << 40,
            admissions: 1 << 40,
            forks: 1 << 40,
            logs: 1 << 40,
            ..BudgetSettings::default()
        };
        let settings = NodeSettings { mesh_members_max: self.plan.mesh_members_max, budget, ..NodeSettings::default() };
        let machine = self.machine(host);
        machine.begin(now);
        if let Some(held) = &mut machine.disk.held {
            held.run = machine.life;
        }
        let time = machine.clock.at(now);
        let node = Node::new(settings, machine.key.clone(), start, seed, time);
        let node = node.expect("what a disk holds can be restored").with_tree(Box::new(Flood::default()), time);
        machine.node = Some(Box::new(node));
        machine.state = MachineState::Running;
        let addr = machine.addr;
        self.machine(host).booting = true;
        self.input(host, Input::Addrs(vec![addr]));
        self.machine(host).booting = false;
        self.repeat_all(host);
        self.scrub_later(host);
    }

    /// A machine founds the room.
    pub(in crate::sim::room) fn found(&mut self, host: Host) {
        let start = Start::Found {
            room_name: "lab".into(),
            open: self.plan.open,
            name: self.at(host).name.clone(),
            incarnation: Incarnation(self.rng.random()),
            addrs: vec![self.at(host).addr],
        };
        self.boot(host, start);
    }

    /// Starts a machine that has been in the room before.
    pub(in crate::sim::room) fn start(&mut self, host: Host) {
        if self.hostile.is_gone(host) {
            return;
        }
        let machine = self.machine(host);
        let Some(held) = machine.disk.held.as_ref().filter(|_| machine.state == MachineState::Off) else { return };
        let rolled_back = held.lacks_marked();
        let mut restored = held.restored();
        if rolled_back {
            // As the store does when it opens the database.
            let fresh = Incarnation(self.rng.random());
            if let Some(held) = &mut self.machine(host).disk.held {
                held.incarnation = fresh;
                held.mark = None;
                restored = held.restored();
            }
        } else if let Some(held) = &mut self.machine(host).disk.held {
            held.mark_newest();
        }
        self.boot(host, Start::Restore(restored));
    }

    /// Queues a batch with the idempotency keys of its messages.
    pub(super) fn queue_batch(&mut self, host: Host, batch: Batch) {
        let machine = self.at(host);
        // A good copy of a damaged control entry is written before what follows from it: there, the start mends a crash in between.
        let checked = machine.booting && !self.plan.has(Fault::BitRot);
        if let Some(held) = machine.disk.held.as_ref().filter(|_| checked) {
            let news = batch.changes.cuts.iter().find(|(log, limit)| held.is_news(log, **limit));
            assert!(news.is_none(), "{host:?} starts with entries on its disk and without the cut they make: {news:?}");
        }
        batch.changes.forks.iter().for_each(|(one, _)| self.checker.forked(one));
        let mut keys = BTreeMap::new();
        for item in &batch.entries {
            for (index, origin) in (0..).zip(&item.origins) {
                if let Some(key) = self.at(host).clients.key_of(*origin) {
                    keys.insert(*origin, key);
                    self.checker.posted(key, MessageId { entry: item.entry.hash(), index });
                }
            }
        }
        self.queue_write(host, Op::Batch(batch, keys));
    }

    pub(in crate::sim::room) fn queue_write(&mut self, host: Host, op: Op) {
        let delay = self.flush_time();
        let disk = &mut self.machine(host).disk;
        disk.ops.push_back(op);
        if !disk.busy {
            disk.busy = true;
            self.schedule_for(host, delay, move |world| world.written(host));
        }
    }

    fn flush_time(&mut self) -> Duration {
        let slow = self.troubled && self.plan.has(Fault::SlowDisk) && self.chance(0.03);
        if slow { self.between_ms(300, 3_000) } else { self.between_ms(0, 4) }
    }

    pub(in crate::sim::room) fn written(&mut self, host: Host) {
        let delay = self.flush_time();
        let Self { machines, checker, hash, .. } = self;
        let Machine { disk, node, .. } = machines.get_mut(host.0).expect("a machine");
        let mark = disk.held.as_ref().and_then(|held| held.mark);
        let cut = |log: &_| node.as_ref().and_then(|node| node.inspect().cut(log));
        let wrote = disk.write(&mut |held, item| {
            hash.update(item.entry.hash().as_bytes());
            checker.stores(host, held, item, Some(&cut));
        });
        disk.busy = !disk.ops.is_empty();
        if disk.busy {
            self.schedule_for(host, delay, move |world| world.written(host));
        }
        match wrote {
            Wrote::Batch(id) => self.batch_is_written(host, Input::Persisted(id), mark),
            Wrote::Failed(id, error, op) => {
                let ghost = error == PersistError::Failed && self.plan.has(Fault::GhostWrite);
                self.machine(host).disk.ghost = ghost.then_some(op);
                self.input(host, Input::PersistFailed(id, error));
            }
            Wrote::Other => {}
        }
    }

    pub(in crate::sim::room) fn repair(&mut self, host: Host) {
        self.machine(host).disk.health = Health::Fine;
    }

    pub(in crate::sim::room) fn break_disk(&mut self, host: Host) {
        let error = if self.chance(0.7) { PersistError::DiskFull } else { PersistError::Failed };
        self.machine(host).disk.health = Health::Broken(error);
        let after = self.between_ms(100, 8_000);
        self.schedule(after, move |world| world.repair(host));
    }

    /// Cuts the power: the process dies and some of the waiting writes are lost.
    pub(in crate::sim::room) fn crash(&mut self, host: Host) {
        self.checker.crashed(host, self.at(host).life);
        let Self { machines, checker, rng, stats, .. } = self;
        let machine = machines.get_mut(host.0).expect("a machine");
        machine.end();
        machine.clients.hang_up();
        machine.state = MachineState::Off;
        stats.crashes += 1;
        stats.unwritten += u64::from(!machine.disk.ops.is_empty());
        let survive = match machine.disk.health {
            Health::Fine => rng.random_range(0..=machine.disk.ops.len()),
            Health::Broken(_) => 0,
        };
        machine.disk.lose_power(survive, &mut |held, item| checker.stores(host, held, item, None));
        if survive == 0 {
            self.show_ghost(host);
        }
        self.lose_cache(host);
        self.vanish(host);
    }

    /// Asks a node to stop in an orderly way.
    pub(in crate::sim::room) fn stop(&mut self, host: Host) {
        if self.at(host).state != MachineState::Running {
            return;
        }
        self.machine(host).state = MachineState::Stopping;
        self.command(host, Command::Stop);
        self.schedule_for(host, Duration::from_secs(4), move |world| world.exit(host));
    }

    /// A stopping process ends.
    pub(in crate::sim::room) fn exit(&mut self, host: Host) {
        let machine = self.at(host);
        let working = machine.disk.health == Health::Fine && machine.disk.ops.is_empty();
        if working {
            self.checker.exits(host, machine.life);
        }
        self.checker.crashed(host, self.at(host).life);
        let Self { machines, checker, .. } = self;
        let machine = machines.get_mut(host.0).expect("a machine");
        machine.end();
        machine.clients.hang_up();
        machine.state = MachineState::Off;
        let waiting = machine.disk.ops.len();
        machine.disk.lose_power(waiting, &mut |held, item| checker.stores(host, held, item, None));
        self.part(host);
    }

    pub(in crate::sim::room) fn suspend(&mut self, host: Host) {
        let span = self.between_ms(50, 20_000);
        self.suspend_for(host, span);
    }

    pub(in crate::sim::room) fn suspend_for(&mut self, host: Host, span: Duration) {
        self.machine(host).state = MachineState::Suspended;
        self.schedule(span, move |world| world.resume(host));
        if self.chance(0.5) {
            self.machine(host).clock.sleep(span);
        }
        for id in self.net.of(host) {
            let after = self.between_ms(2_000, 12_000);
            self.schedule(after, move |world| world.idle(id));
        }
    }

    pub(in crate::sim::room) fn resume(&mut self, host: Host) {
        let machine = self.machine(host);
        if machine.state != MachineState::Suspended {
            return;
        }
        machine.state = MachineState::Running;
        let deferred = std::mem::take(&mut machine.deferred);
        for event in deferred {
            self.schedule_for(host, Duration::ZERO, event);
        }
        self.machine(host).woken = None;
        self.input(host, Input::Tick);
    }

    /// Swaps the disk of a machine that is off.
    pub(in crate::sim::room) fn swap_disk(&mut self, host: Host, swap: Swap) {
        let fresh = Incarnation(self.rng.random());
        let Self { machines, checker, .. } = self;
        let machine = machines.get_mut(host.0).expect("a machine");
        let Some(held) = machine.disk.held.take() else { return };
        (machine.disk.lie, machine.disk.ghost) = (None, None);
        let before: Vec<Arc<Entry>> = held.logs.values().flatten().cloned().collect();
        if swap == Swap::Empty {
            // The members known before are trusted to report the present state of the room.
            machine.doors = held.addrs().iter().map(|record| record.peer).filter(|peer| *peer != machine.id).collect();
            machine.roster = Arc::default();
        }
        machine.disk.held = Some(match (swap, machine.backup.clone()) {
            (Swap::Same, _) => held,
            (Swap::Empty, _) => crate::sim::room::machine::disk::HeldData::new(held.room, fresh, held.addrs()),
            (Swap::Copy, Some(mut backup)) => {
                backup.incarnation = fresh;
                backup.mark = None;
                backup
            }
            (Swap::SilentCopy, Some(mut backup)) => {
                if held.mark.is_none() {
                    // A disk was lost before, and the mark with it: nothing shows that the copy is old.
                    checker.may_fork(machine.id);
                }
                backup.mark = held.mark;
                backup
            }
            (Swap::Snapshot, Some(backup)) => {
                checker.may_fork(machine.id);
                backup
            }
            (Swap::Copy | Swap::SilentCopy | Swap::Snapshot, None) => held,
        });
        let after = machine.disk.held.as_ref();
        let gone = |entry: &&Arc<Entry>| after.is_none_or(|held| !held.holds(&entry.log(), entry.seq()));
        before.iter().filter(gone).for_each(|entry| checker.lost(host, entry));
        checker.disk_changed(host, after);
    }
}
