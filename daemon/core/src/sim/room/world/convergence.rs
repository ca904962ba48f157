//! The end of a run: all faults end, and soon all members must hold the same.
//!
//! Converged means: the members of each group have the same roster and invites, show the same messages in the same order,
//! agree on the holder, and have no command unanswered. A converged room stays so, exchanges no entries, has no work left,
//! and shows every acknowledged message whose holders are there, unless a removal cut it off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::{MessageId, PeerId};

use crate::log::entry::{Control, Entry, LogId};
use crate::sim::groups::groups;
use crate::sim::room::Fault;
use crate::sim::room::checks::checker::Acked;
use crate::sim::room::checks::rights::Rights;
use crate::sim::room::checks::void::is_void;
use crate::sim::room::machine::disk::{HeldData, ShownPosition};
use crate::sim::room::machine::{Host, Machine, MachineState};
use crate::sim::room::network::RoomConn;
use crate::sim::room::world::RoomWorld;
use crate::sim::seeds::say;

/// Maximum time from the end of all faults to convergence: the longest pause between two dials and some rounds of
/// anti-entropy.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// Maximum number of rows of a table that hostile members can fill.
const TABLE_MAX: usize = 16 * 1024;

/// Maximum time until all agree on what hostile members wrote. What such an entry builds on may exist nowhere; it is asked for
/// several times, at growing intervals, before it is done without.
const LATE_MAX: Duration = Duration::from_secs(1800);

/// Maximum number of requests while a settled room is watched, for what hostile members wrote or promised.
const LATE_WANTS_MAX: u64 = 500;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// What honest members wrote.
    Honest,
    /// Everything that is shown, and what follows from it.
    All,
}

/// Time for which a converged room is watched.
const IDLE: Duration = Duration::from_secs(90);

impl RoomWorld {
    /// Ends all faults, waits until the room has converged, and checks what must hold then; returns how long it took.
    pub(in crate::sim::room) fn settle(&mut self) -> Duration {
        self.end_faults();
        let began = self.now();
        let took = self.wait_until(began + SETTLE_MAX, |world| world.is_settled(Scope::Honest));
        while let Err(why) = self.stay_settled() {
            let late = !self.hostile.hosts.is_empty() && self.now() - began < LATE_MAX;
            if !late {
                self.print_differing_logs();
            }
            assert!(late, "the room did not stay settled: {why}");
            self.wait_until(began + LATE_MAX, |world| world.is_settled(Scope::All));
        }
        self.check_acked();
        self.check_rights();
        took
    }

    /// Waits until the room has settled; returns how long it took.
    fn wait_until(&mut self, deadline: Duration, settled: impl Fn(&Self) -> Result<(), String>) -> Duration {
        let began = self.now();
        let mut last = String::new();
        while self.now() < deadline {
            self.run_until(self.now() + Duration::from_secs(1));
            match settled(self) {
                Ok(()) => return self.now() - began,
                Err(why) => last = why,
            }
        }
        self.print_differing_logs();
        panic!("the room has not settled: {last}");
    }

    /// Prints the logs that not all running members hold alike.
    fn print_differing_logs(&self) {
        let mut logs: BTreeMap<LogId, BTreeMap<Host, String>> = BTreeMap::new();
        let groups = self.groups();
        for host in groups.iter().flatten() {
            let machine = self.at(*host);
            for (log, held) in machine.node.iter().flat_map(|node| node.inspect().logs()) {
                let shown = machine.disk.held.as_ref().and_then(|held| held.last_shown(&log));
                logs.entry(log).or_default().insert(*host, format!("{held}, shown to {shown:?}"));
            }
        }
        for group in &groups {
            for (log, rows) in &logs {
                let of = |host: &Host| rows.get(host).map_or("not held", String::as_str);
                if group.iter().any(|host| of(host) != of(&group[0])) {
                    let rows: Vec<_> = group.iter().map(|host| format!("{host:?}: {}", of(host))).collect();
                    say(&format!("{log:?}\n  {}", rows.join("\n  ")));
                }
            }
        }
    }

    /// Running machines in groups that take each other for members, directly or through others; the largest first.
    fn groups(&self) -> Vec<Vec<Host>> {
        let mut left: BTreeSet<Host> =
            self.hosts().filter(|host| self.at(*host).roster.is_member(&self.at(*host).id)).collect();
        left.retain(|host| !self.hostile.has(*host));
        left.retain(|host| self.at(*host).state == MachineState::Running);
        let mut groups = groups(left, |a, b| self.agree(a, b));
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        groups
    }

    /// The same, but for those that do not meet: in a tree, members that the others removed dial a few of these again and
    /// again, and not each other.
    fn parts(&self) -> Vec<Vec<Host>> {
        let tree = self.machines.len() > self.plan.mesh_members_max;
        let groups = self.groups().into_iter().enumerate();
        let parts = groups.flat_map(|(n, group)| if tree && n > 0 { self.linked(&group) } else { vec![group] });
        parts.map(|part| self.without_lonely(part)).collect()
    }

    /// A part without machines that no other of it can reach: after older disks came back, addresses may be gone.
    fn without_lonely(&self, part: Vec<Host>) -> Vec<Host> {
        let meets = |host: &Host| part.iter().any(|other| other != host && self.may_meet(*host, *other));
        let keeps = |host: &&Host| !self.has_old_disks() || meets(host);
        let kept: Vec<Host> = part.iter().filter(keeps).copied().collect();
        if kept.is_empty() { part } else { kept }
    }

    fn agree(&self, a: Host, b: Host) -> bool {
        let takes = |one: Host, other: Host| self.at(one).roster.is_member(&self.at(other).id);
        takes(a, b) && takes(b, a)
    }

    /// Whether one of two machines holds an address of the other, or they are connected.
    fn may_meet(&self, a: Host, b: Host) -> bool {
        let has_address = |host: Host, of: Host| {
            let held = self.at(host).disk.held.as_ref();
            held.is_some_and(|held| held.addrs().iter().any(|record| record.peer == self.at(of).id))
        };
        has_address(a, b) || has_address(b, a) || self.are_connected(a, b)
    }

    fn are_connected(&self, a: Host, b: Host) -> bool {
        let between = |conn: &&RoomConn| conn.ends.contains(&a) && conn.ends.contains(&b);
        self.net.conns.values().filter(between).any(RoomConn::is_open)
    }

    /// Whether a fault brings older disks back, or empty ones.
    fn has_old_disks(&self) -> bool {
        let older = [Fault::OldDisk, Fault::OldDiskUnnoticed, Fault::LyingDisk, Fault::LostDisk];
        older.into_iter().any(|fault| self.plan.has(fault))
    }

    fn is_settled(&self, scope: Scope) -> Result<(), String> {
        if let Some(why) = self.checker.unanswered() {
            return Err(why);
        }
        for part in self.parts().iter().filter(|part| !self.lost_to_rot(part)) {
            self.same(part, scope)?;
        }
        let groups = self.groups();
        let Some(main) = groups.first() else { return Ok(()) };
        let Some(reference) = main.first().map(|host| self.at(*host)) else { return Ok(()) };
        for host in self.hosts().filter(|host| !main.contains(host) && !self.hostile.has(*host)) {
            let machine = self.at(host);
            let parted = main
                .iter()
                .any(|other| machine.roster.people.get(&self.at(*other).id).is_some_and(|person| !person.active));
            // A machine that returns with an old copy of its disk, or that had only a part of the history anew when who gave it
            // went away, may know none of the present members, or no address of any while they have none of it.
            let knows =
                |other: &Host| machine.roster.people.contains_key(&self.at(*other).id) && self.may_meet(host, *other);
            let parted = parted || (self.has_old_disks() && !main.iter().any(knows));
            let parted = parted || self.knows_only_hostile(host) || self.beyond_repair(main);
            let outside = !machine.is_up() || !reference.roster.is_member(&machine.id);
            if !outside && !parted {
                let sees = main.iter().map(|other| machine.roster.is_member(&self.at(*other).id)).collect::<Vec<_>>();
                return Err(format!(
                    "{host:?} is a member of {main:?} and not with them: it sees {sees:?} of {}",
                    machine.roster.people.len()
                ));
            }
        }
        Ok(())
    }

    /// Whether a machine knows no honest member: hostile ones let it in, and it may never reach another. Or it has left, and only
    /// they know of that.
    fn knows_only_hostile(&self, host: Host) -> bool {
        let machine = self.at(host);
        let present = machine.roster.members().map(|person| person.peer.id).chain(machine.doors.iter().copied());
        let others = present.filter(|peer| *peer != machine.id);
        let honest = others.filter_map(|peer| self.host_of(&peer)).any(|peer| !self.hostile.has(peer));
        !self.hostile.hosts.is_empty() && !honest
    }

    /// The parts of a group that are connected, directly or through others.
    fn linked(&self, group: &[Host]) -> Vec<Vec<Host>> {
        groups(group.iter().copied().collect(), |a, b| self.are_connected(a, b))
    }

    /// Whether all of a group hold and show the same, and agree on which of them is the holder.
    fn same(&self, group: &[Host], scope: Scope) -> Result<(), String> {
        let Some((first, others)) = group.split_first() else { return Ok(()) };
        if self.agreed_holder(group).is_none() {
            let believed: Vec<_> = group.iter().map(|host| (*host, self.holder_at(*host))).collect();
            return Err(format!("they do not agree on the holder: {believed:?}"));
        }
        if let Some(damaged) = self.damaged(group) {
            return Err(damaged);
        }
        let reference = self.at(*first);
        let hostile = self.hostile.hosts.iter().map(|host| self.at(*host).id).chain(self.hostile.sybil_ids());
        let hostile: BTreeSet<PeerId> = hostile.filter(|_| scope == Scope::Honest).collect();
        let visible = |host: Host| {
            let all = self.at(host).disk.held.iter().flat_map(HeldData::visible);
            all.filter(|((_, _, log, ..), _)| !hostile.contains(&log.author)).collect::<Vec<_>>()
        };
        let expected = visible(*first);
        for other in others {
            let machine = self.at(*other);
            let follows = hostile.is_empty();
            if follows && machine.roster != reference.roster {
                return Err(format!(
                    "{first:?} and {other:?} have different rosters: {:?} and {:?}",
                    reference.roster, machine.roster
                ));
            }
            let invites = |host: Host| self.at(host).node.as_ref().map(|node| node.inspect().invites());
            if follows && invites(*first) != invites(*other) {
                return Err(format!("{first:?} and {other:?} have different invites"));
            }
            let found = visible(*other);
            if found != expected {
                let only = |some: &[(ShownPosition, MessageId)], others: &[(ShownPosition, MessageId)]| {
                    let others: BTreeSet<_> = others.iter().copied().collect();
                    some.iter().copied().filter(|shown| !others.contains(shown)).take(4).collect::<Vec<_>>()
                };
                return Err(format!(
                    "{first:?} shows {} messages and {other:?} {}; only the first: {:?}; only the other: {:?}",
                    expected.len(),
                    found.len(),
                    only(&expected, &found),
                    only(&found, &expected)
                ));
            }
        }
        for host in group {
            let held = self.at(*host).disk.held.as_ref();
            let shown: BTreeSet<_> = held.map(|held| held.shown.iter().copied().collect()).unwrap_or_default();
            for (_, id) in visible(*host) {
                assert!(shown.contains(&id), "{id} is in the history of {host:?} and was never shown");
            }
        }
        Ok(())
    }

    /// The machine that another one takes for the holder.
    pub(in crate::sim::room) fn holder_at(&self, host: Host) -> Option<Host> {
        let holder = self.at(host).node.as_ref().and_then(|node| node.inspect().holder())?;
        self.host_of(&holder)
    }

    /// The holder among these machines, if all of them agree on it.
    pub(in crate::sim::room) fn agreed_holder(&self, group: &[Host]) -> Option<Host> {
        let first = self.holder_at(*group.first()?)?;
        let all = group.iter().all(|host| self.holder_at(*host) == Some(first));
        let takes_part = group.contains(&first) || (self.hostile.has(first) && self.at(first).is_up());
        (all && takes_part).then_some(first)
    }

    /// A converged room stays as it is and is quiet.
    fn stay_settled(&mut self) -> Result<(), String> {
        self.run_until(self.now() + Duration::from_secs(40));
        let before = self.sent_in_groups();
        self.run_until(self.now() + IDLE);
        self.is_settled(Scope::All)?;
        let hostile = !self.hostile.hosts.is_empty();
        // In a large room connections come and go, and each exchanges addresses and proofs of forks.
        let tree = self.machines.len() > self.plan.mesh_members_max;
        let kinds = ["entries", "chunk", "want", "fork", "addrs", "knock", "garbage"];
        for kind in kinds.into_iter().filter(|kind| !tree || !["addrs", "fork"].contains(kind)) {
            let count = |sent: &BTreeMap<&str, u64>| sent.get(kind).copied().unwrap_or_default();
            let frames = count(&self.sent_in_groups()) - count(&before);
            // What a hostile member promised is asked for now and then.
            let most = if hostile && kind == "want" { LATE_WANTS_MAX } else { 0 };
            if frames > most {
                return Err(format!("a settled room exchanges {frames} of {kind}"));
            }
        }
        let damaged = self.beyond_repair(&self.hosts().collect::<Vec<_>>());
        for group in self.groups().into_iter().filter(|group| group.len() > 1) {
            for host in group {
                let left = self.at(host).node.as_ref().map(|node| node.inspect().work_left()).unwrap_or_default();
                if !hostile && !damaged {
                    assert!(left.is_empty(), "{host:?} still has {left:?}");
                }
                // What a hostile member promised may never come.
                assert!(left.iter().all(|(_, count)| *count <= TABLE_MAX), "{host:?} is full of {left:?}");
            }
        }
        Ok(())
    }

    /// Number of frames of each kind between machines of the largest group. Two that were removed may find each
    /// other late, and one whose damaged entry no other of its group holds asks for it for ever.
    fn sent_in_groups(&self) -> BTreeMap<&'static str, u64> {
        let groups = self.groups();
        let main = groups.first().map(Vec::as_slice).unwrap_or_default();
        let mut frames = BTreeMap::new();
        for ((kind, from, to), count) in &self.sent {
            if [from, to].iter().all(|host| main.contains(host) && !self.has_damage(**host)) {
                *frames.entry(*kind).or_default() += count;
            }
        }
        frames
    }

    /// Checks that acknowledged messages are shown, unless a removal hides them, each send once, and streamed.
    fn check_acked(&mut self) {
        let parts = self.parts().into_iter().filter(|part| !self.lost_to_rot(part));
        for group in parts.collect::<Vec<_>>() {
            let Some(machine) = group.first().map(|host| self.at(*host)) else { continue };
            let Some(held) = &machine.disk.held else { continue };
            let rights = self.rights_of(&group);
            let visible: BTreeSet<_> = held.visible().into_iter().map(|(_, id)| id).collect();
            self.checker.shown_once(&visible);
            for acked in &self.checker.acked {
                let expected = acked.holders.iter().any(|holder| group.contains(holder));
                if expected && !visible.contains(&acked.id) {
                    assert!(
                        self.may_be_hidden(machine, acked, rights.as_ref()),
                        "{acked:?} was acknowledged and is lost at {group:?}"
                    );
                }
            }
        }
        for host in self.hosts() {
            self.read(host);
            let machine = self.at(host);
            let shown = machine.disk.held.iter().flat_map(HeldData::visible).map(|(_, id)| id);
            let missed = machine.clients.missed(shown);
            assert_eq!(
                missed,
                None,
                "a message is shown at {host:?} and was not streamed: {}",
                machine.clients.position()
            );
        }
    }

    /// Who may have what right in a group, where there are hostile members.
    fn rights_of(&self, group: &[Host]) -> Option<Rights> {
        let disks = group.iter().filter_map(|host| self.at(*host).disk.held.as_ref());
        if self.hostile.hosts.is_empty() { None } else { Rights::new(disks) }
    }

    /// Checks that no right was gained, and counts what hostile members did.
    fn check_rights(&mut self) {
        self.stats.attacks.clone_from(&self.hostile.made);
        for group in self.groups() {
            let Some(rights) = self.rights_of(&group) else { continue };
            for host in group {
                rights.check(&self.at(host).name, &self.at(host).roster);
            }
        }
        let hostile: BTreeSet<_> = self.hostile.hosts.iter().map(|host| self.at(*host).id).collect();
        let held = self.groups().first().and_then(|group| self.at(*group.first()?).disk.held.as_ref());
        let logs = held.iter().flat_map(|held| &held.logs).filter(|(log, _)| hostile.contains(&log.author));
        self.stats.hostile_entries += logs.map(|(_, entries)| entries.len() as u64).sum::<u64>();
    }

    /// Whether something hides an acknowledged message at a machine: a removal of its author that leaves out this entry, or of
    /// the only members that admitted the author, its author's leaving, or an author that is not a member there. Behind a
    /// fork everything must be there.
    fn may_be_hidden(&self, machine: &Machine, acked: &Acked, rights: Option<&Rights>) -> bool {
        let author = acked.log.author;
        let controls = || machine.disk.held.iter().flat_map(HeldData::control_entries);
        let left = controls().any(|(by, control)| by == author && matches!(control, Control::Leave));
        let may_count = |removal: &Entry| rights.is_none_or(|rights| rights.entitled(removal));
        let stranger = !machine.roster.is_member(&author);
        let void = machine.disk.held.as_ref().is_some_and(|held| is_void(held, &acked.log, acked.seq, &may_count));
        stranger || left || void
    }
}
