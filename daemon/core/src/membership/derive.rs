//! Derivation: from control entries to members, names, roles, invites and cuts.
//!
//! [`derive()`] is a pure function of the set of entries, so peers that hold the same entries agree, in whatever order they
//! arrived. Removals are decided one by one: the log is replayed with the removals decided so far, and of the others whose
//! authors are admins at their position in it, the senior's takes effect next and cuts the removed peer's logs. So a
//! removal beats what the removed peer did concurrently, and of two members that remove each other the senior stays.
//!
//! A log is valid if its author was a member when it began. A removal names, for each log of the removed peer that its
//! author held, the last valid entry; logs from before the removal that it does not name are void, back to an earlier
//! removal. Leaving and rejoining in between does not protect a log: the claim could come from a void log that not every
//! peer has, and all peers must reach the same result. A peer that is admitted again begins a new log.
//!
//! Called by the node whenever a control entry was applied or a fork was proven.

use std::collections::{BTreeMap, BTreeSet};

use chat_proto::api::peers::PeerRef;
use chat_proto::id::{InviteId, PeerId, RoomId};

use crate::log::entry::{Control, Dep, Hlc, LogId, Seq};
use crate::membership::control_log::{ControlItem, ControlLog, Position};
use crate::membership::replay::{Effect, MemberState, Replay, Span};
use crate::membership::roster::skeleton;
use crate::membership::roster::{Person, Roster};

pub(crate) use crate::membership::replay::InviteState;

/// What follows from the entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Derived {
    pub(crate) roster: Roster,
    pub(crate) invites: BTreeMap<InviteId, InviteState>,
    /// Where logs that are held end, and forked ones.
    pub(crate) cuts: BTreeMap<LogId, Seq>,
    /// When a former member was removed.
    pub(crate) removed: BTreeMap<PeerId, Hlc>,
    /// The log that holds each member's admission.
    pub(crate) admitted_in: BTreeMap<PeerId, LogId>,
    /// Every peer that ever had the right to remove others.
    pub(crate) admins: BTreeSet<PeerId>,
    verdicts: Verdicts,
    spans: BTreeMap<PeerId, Vec<Span>>,
}

impl Derived {
    /// The last valid sequence number of a log, where it ends; `first` is the order time of its first entry.
    pub(crate) fn cut(&self, log: &LogId, first: Hlc) -> Option<Seq> {
        let member = self.spans.get(&log.author).is_some_and(|spans| spans.iter().any(|span| span.contains(first)));
        if member { self.verdicts.cut(log, first) } else { Some(Seq::ZERO) }
    }
}

/// Derives everything from the entries, the cuts of forked logs, and the logs that are held with the order times of
/// their first entries.
pub(crate) fn derive(
    controls: &ControlLog,
    room: RoomId,
    forks: BTreeMap<LogId, Seq>,
    logs: &BTreeMap<LogId, Hlc>,
) -> Derived {
    let mut verdicts = Verdicts { forks, ..Verdicts::default() };
    let replay = loop {
        let (replay, undecided) = verdicts.replay(controls, logs);
        match undecided {
            Some((position, removal)) => verdicts.decide(position, removal),
            None => break replay,
        }
    };
    let roster =
        Roster { room: Some(room), room_name: replay.room_name, open: replay.open, people: shown(&replay.people) };
    let removed = replay.people.iter().filter_map(|(peer, state)| Some((*peer, state.removed?))).collect();
    let admitted_in = replay.people.iter().map(|(peer, state)| (*peer, state.admitted_in)).collect();
    let (invites, admins, spans) = (replay.invites, replay.admins, replay.spans);
    // A fork is known by its proof, even to peers that hold nothing of that log: no peer serves what lies beyond it.
    let cuts = verdicts.forks.clone();
    let mut derived = Derived { roster, invites, cuts, removed, admitted_in, admins, verdicts, spans };
    let held: Vec<_> = logs.iter().filter_map(|(log, first)| Some((*log, derived.cut(log, *first)?))).collect();
    derived.cuts.extend(held);
    derived
}

/// A removal that takes effect.
#[derive(Clone, Debug)]
struct Removal {
    peer: PeerId,
    /// The time that it ends, from the first admission since an earlier removal.
    span: Span,
    kept: BTreeMap<LogId, Seq>,
}

/// What is decided so far.
#[derive(Clone, Debug, Default)]
struct Verdicts {
    forks: BTreeMap<LogId, Seq>,
    left: BTreeMap<LogId, Seq>,
    removals: BTreeMap<PeerId, Vec<Removal>>,
    effective: BTreeSet<Position>,
}

impl Verdicts {
    /// Where forks, removals and leaving end a log.
    fn cut(&self, log: &LogId, first: Hlc) -> Option<Seq> {
        let removals = self.removals.get(&log.author).into_iter().flatten();
        let removed = removals.filter_map(|removal| {
            let unnamed = removal.span.contains(first).then_some(Seq::ZERO);
            removal.kept.get(log).copied().or(unnamed)
        });
        let others = [self.forks.get(log), self.left.get(log)].into_iter().flatten().copied();
        removed.chain(others).min()
    }

    /// Tells the replay with the removals decided so far; gives the one to decide next.
    fn replay(&mut self, controls: &ControlLog, logs: &BTreeMap<LogId, Hlc>) -> (Replay, Option<(Position, Removal)>) {
        let mut replay = Replay::default();
        let mut next: Option<(usize, Position, Removal)> = None;
        self.left.clear();
        for (position, item) in controls.iter() {
            let first = logs.get(&position.log).copied().unwrap_or(position.order);
            if self.cut(&position.log, first).is_some_and(|cut| position.seq > cut) {
                continue;
            }
            if matches!(item.control, Control::Leave) && replay.is_active(&item.author) {
                self.left.insert(position.log, position.seq);
            }
            let decided = self.effective.contains(position);
            if let Some(removal) = removal(&replay, position, item).filter(|_| !decided) {
                let rank = (replay.seniority(&item.author), *position);
                if next.as_ref().is_none_or(|(senior, position, _)| rank < (*senior, *position)) {
                    next = Some((rank.0, rank.1, removal));
                }
            }
            replay.tell(position, item, if decided { Effect::Holds } else { Effect::None });
        }
        (replay, next.map(|(_, position, removal)| (position, removal)))
    }

    fn decide(&mut self, position: Position, removal: Removal) {
        self.effective.insert(position);
        self.removals.entry(removal.peer).or_default().push(removal);
    }
}

/// What a removal would do, if its author may remove at that point of the replay.
fn removal(replay: &Replay, position: &Position, item: &ControlItem) -> Option<Removal> {
    let Control::Remove { peer, cuts } = &item.control else { return None };
    if !replay.is_admin(&item.author) {
        return None;
    }
    let from = replay.people.get(peer).map_or(position.order, |state| state.since);
    let own = cuts.iter().filter(|dep| dep.log.author == *peer);
    let kept = own.map(|Dep { log, seq }| (*log, *seq)).collect();
    Some(Removal { peer: *peer, span: Span { from, to: Some(position.order) }, kept })
}

/// People as they are shown: the earliest bearer of a name keeps it, others show their tag with it.
fn shown(people: &BTreeMap<PeerId, MemberState>) -> BTreeMap<PeerId, Person> {
    let mut by_age: Vec<(&PeerId, &MemberState)> = people.iter().collect();
    by_age.sort_by_key(|(_, state)| (!state.active, state.named));
    let mut taken = BTreeSet::new();
    let mut shown = BTreeMap::new();
    for (peer, state) in by_age {
        let tag = peer.tag();
        let first = taken.insert(skeleton(&state.name));
        let name = if first { state.name.clone() } else { format!("{}~{tag}", state.name) };
        let peer_ref = PeerRef { id: *peer, name, tag };
        shown.insert(*peer, Person { peer: peer_ref, active: state.active, role: state.role, keys: state.keys });
    }
    shown
}

#[cfg(test)]
mod tests;
