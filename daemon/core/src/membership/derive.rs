//! Derivation: from control entries to members, names, roles, invites and cuts.
//!
//! [`Derived`] is a pure function of the set of entries, so peers that hold the same entries agree, in whatever order they
//! arrived. Which acts of admins count is decided first, by causes alone ([`authority`](crate::membership::authority)); then
//! the log is replayed once with these rulings.
//!
//! A log is valid if its first entry names an admission of its author that counts, or a former log that does; an author has
//! at most [`AUTHOR_LOGS_MAX`] valid logs. A removal names, for each log of the removed peer that its author held, the last
//! valid entry. Logs that it does not name are void, but for those that begin from a readmission by an admin who knew of
//! the removal. Leaving ends the log that says so. A branch of a forked log is a log that is entitled as the one it builds on; a
//! removal that names the forked log beyond the fork names none of its branches.
//!
//! Called by the node whenever a control entry was applied or a fork was proven. An entry that comes after all others in the
//! shared order and is no act of an admin is added without a replay ([`Derived::advance`]): in a room of thousands this is
//! the usual case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chat_proto::api::peers::{MemberRole, PeerRef};
use chat_proto::id::{PeerId, RoomId};

use crate::config::AUTHOR_LOGS_MAX;
use crate::log::entry::{Control, Hlc, LogId, Seq};
use crate::membership::authority::{Authority, Rulings};
use crate::membership::control_log::{ControlLog, LogStart, Position};
use crate::membership::names::{NameClaim, NameClaims, name_keys};
use crate::membership::replay::Replay;
use crate::membership::roster::{Person, Roster};

pub(crate) use crate::membership::replay::InviteState;

/// The logs of an author in the order in which they began, and which are too many.
#[derive(Clone, Debug, Default)]
struct Crowd {
    began: Vec<(Hlc, LogId)>,
    /// Number of these that were looked at, and of the valid ones among them.
    seen: usize,
    valid: usize,
    surplus: BTreeSet<LogId>,
}

impl Crowd {
    fn new(author: &PeerId, controls: &ControlLog) -> Self {
        let mut began: Vec<(Hlc, LogId)> = controls.logs_of(author).map(|(log, start)| (start.order, *log)).collect();
        began.sort_unstable();
        Self { began, ..Self::default() }
    }

    /// Whether a log is too many; `is_valid` decides of earlier ones.
    fn contains(&mut self, log: &LogId, controls: &ControlLog, is_valid: impl Fn(&LogId, &LogStart) -> bool) -> bool {
        if self.began.len() <= AUTHOR_LOGS_MAX {
            return false;
        }
        let Some(start) = controls.started(log) else { return false };
        while let Some((_, next)) = self.began.get(self.seen).filter(|next| **next <= (start.order, *log)) {
            self.seen += 1;
            self.valid += usize::from(controls.started(next).is_some_and(|start| is_valid(next, start)));
            if self.valid > AUTHOR_LOGS_MAX {
                self.surplus.insert(*next);
            }
        }
        self.surplus.contains(log)
    }
}

/// What follows from the entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Derived {
    pub(crate) roster: Arc<Roster>,
    /// Where logs that are held end.
    pub(crate) cuts: BTreeMap<LogId, Seq>,
    left: BTreeMap<LogId, Seq>,
    rulings: Rulings,
    replay: Replay,
    names: NameClaims,
    crowds: BTreeMap<PeerId, Crowd>,
    /// The last position that was told.
    newest: Option<Position>,
}

impl Derived {
    /// Derives everything from the entries; in forked logs, acts of admins are void beyond `act_ends`.
    pub(crate) fn new(
        controls: &ControlLog,
        authority: &Authority,
        room: RoomId,
        act_ends: &BTreeMap<LogId, Seq>,
    ) -> Self {
        let mut derived = Self { rulings: authority.rule(act_ends), ..Self::default() };
        for (position, _) in controls.iter() {
            derived.tell(position, controls);
        }
        let people: BTreeSet<PeerId> = derived.replay.people.keys().copied().collect();
        let shown = derived.claim_names(&people);
        let mut roster = Roster { room: Some(room), ..Roster::default() };
        derived.show(&mut roster, &shown, controls);
        derived.roster = Arc::new(roster);
        let authors: BTreeSet<PeerId> = controls.logs().map(|(log, _)| log.author).collect();
        for author in authors {
            derived.cut_logs_of(&author, controls);
        }
        derived
    }

    /// Adds the entry at a position to what was derived from all others; returns whether that was possible. Otherwise nothing
    /// changed, and everything must be derived anew.
    pub(crate) fn advance(&mut self, position: &Position, controls: &ControlLog, authority: &Authority) -> bool {
        let Some(item) = controls.get(position) else { return false };
        if self.is_crowded(&position.log, controls) {
            self.newest = Some(*position);
            return true;
        }
        let ends = matches!(item.control, Control::Leave | Control::Remove { .. } | Control::Genesis { .. });
        if ends || authority.is_act(&position.place()) || self.newest.is_some_and(|newest| newest > *position) {
            return false;
        }
        let Some(changed) = self.tell(position, controls) else { return true };
        let shown = self.claim_names(&BTreeSet::from([changed]));
        let mut roster = self.roster.as_ref().clone();
        self.show(&mut roster, &shown, controls);
        self.roster = Arc::new(roster);
        self.cut_logs_of(&changed, controls);
        true
    }

    /// A log began: it may be one too many, or void. Returns whether that is all: it may come before another log whose control
    /// entries were told and which is one too many now. Then everything must be derived anew.
    pub(crate) fn log_began(&mut self, log: &LogId, controls: &ControlLog) -> bool {
        let author = &log.author;
        let many = controls.logs_of(author).count() > AUTHOR_LOGS_MAX;
        let cut = |derived: &Self| {
            let logs = controls.logs_of(author).map(|(log, _)| *log).filter(|log| many && controls.has_items(log));
            logs.filter(|log| derived.cuts.get(log) == Some(&Seq::ZERO)).collect::<Vec<_>>()
        };
        let before = cut(self);
        self.crowds.remove(author);
        self.cut_logs_of(author, controls);
        cut(self) == before
    }

    /// The same for a log that begins now: an author has a limited number of them, those that come first in the shared order,
    /// in whatever order they arrive.
    pub(crate) fn cut_of_new(&self, log: &LogId, start: &LogStart, controls: &ControlLog) -> Option<Seq> {
        let before = |other: &LogId, began: &LogStart| (began.order, *other) < (start.order, *log);
        let valid = controls
            .logs_of(&log.author)
            .filter(|(other, began)| before(other, began) && self.cut(other, began) != Some(Seq::ZERO));
        if valid.count() >= AUTHOR_LOGS_MAX { Some(Seq::ZERO) } else { self.cut(log, start) }
    }

    /// The invites, by their keys.
    pub(crate) fn invites(&self) -> &BTreeMap<chat_proto::id::InviteId, InviteState> {
        &self.replay.invites
    }

    /// Whether a peer was removed, and no admin has admitted it since.
    pub(crate) fn is_removed(&self, peer: &PeerId) -> bool {
        self.replay.people.get(peer).is_some_and(|state| state.removed)
    }

    /// The log that holds the admission of a member.
    pub(crate) fn admitted_in(&self, peer: &PeerId) -> Option<LogId> {
        self.replay.people.get(peer).map(|state| state.admitted_in)
    }

    /// The member that let a member in; none for the founder.
    pub(crate) fn let_in_by(&self, peer: &PeerId) -> Option<PeerId> {
        self.replay.people.get(peer).map(|state| state.let_in_by).filter(|by| by != peer)
    }

    /// The logs in which bearers of a name, or of one that is confused with it, claimed it.
    pub(crate) fn bearers(&self, name: &str) -> impl Iterator<Item = LogId> {
        self.names.claims(name).map(|claim| claim.at.log)
    }

    /// Whether `author` may remove or demote `target`.
    pub(crate) fn may_strike(&self, author: &PeerId, target: &PeerId) -> bool {
        self.rulings.may_strike(author, target)
    }

    /// Applies the entry at a position unless it is void; gives the peer whose state it changed.
    fn tell(&mut self, position: &Position, controls: &ControlLog) -> Option<PeerId> {
        self.newest = Some(*position);
        let item = controls.get(position)?;
        let start = controls.started(&position.log)?;
        let is_genesis = matches!(item.control, Control::Genesis { .. });
        // Acts that count do so wherever a later removal cuts their log.
        let counts = is_genesis || self.rulings.counts(&position.place());
        let ended = self.cut(&position.log, start).is_some_and(|end| position.seq > end);
        if !counts && (ended || self.is_crowded(&position.log, controls)) {
            return None;
        }
        if matches!(item.control, Control::Leave) {
            self.left.insert(position.log, position.seq);
        }
        self.replay.tell(position, item, &self.rulings)
    }

    /// The last valid sequence number of a log, where removals and leaving end it.
    pub(crate) fn cut(&self, log: &LogId, start: &LogStart) -> Option<Seq> {
        let mut counted = start.admissions.iter().filter(|place| self.replay.entered(place)).peekable();
        if counted.peek().is_none() {
            return Some(Seq::ZERO);
        }
        let admissions: Vec<_> = counted.collect();
        let removed = self.rulings.removals(&log.author).filter_map(|(removal, kept)| {
            let sheltered = admissions.iter().any(|admission| self.rulings.readmits(admission, removal));
            kept.get(log).copied().or((!sheltered).then_some(Seq::ZERO))
        });
        removed.chain(self.left.get(log).copied()).min()
    }

    /// Whether a log is one too many of its author, as far as everything up to its beginning was told. Its control entries are
    /// void, too: peers need not hold them.
    fn is_crowded(&mut self, log: &LogId, controls: &ControlLog) -> bool {
        let mut crowd = self.crowds.remove(&log.author).unwrap_or_else(|| Crowd::new(&log.author, controls));
        let crowded = crowd.contains(log, controls, |log, start| self.cut(log, start) != Some(Seq::ZERO));
        self.crowds.insert(log.author, crowd);
        crowded
    }

    /// Works out anew where the logs of an author end.
    fn cut_logs_of(&mut self, author: &PeerId, controls: &ControlLog) {
        let mut logs: Vec<(&LogId, &LogStart)> = controls.logs_of(author).collect();
        logs.sort_by_key(|(log, start)| (start.order, **log));
        let mut valid = 0;
        for (log, start) in logs {
            let cut = self.cut(log, start);
            valid += usize::from(cut != Some(Seq::ZERO));
            let cut = if valid > AUTHOR_LOGS_MAX { Some(Seq::ZERO) } else { cut };
            match cut {
                Some(cut) => self.cuts.insert(*log, cut),
                None => self.cuts.remove(log),
            };
        }
    }

    /// Tells the names of peers; gives all peers whose shown names may change.
    fn claim_names(&mut self, peers: &BTreeSet<PeerId>) -> BTreeSet<PeerId> {
        let mut concerned = BTreeSet::new();
        for peer in peers {
            let Some(state) = self.replay.people.get(peer) else { continue };
            let (how, at) = state.named;
            let claim = NameClaim { keys: name_keys(&state.name), how, at, active: state.active };
            concerned.extend(self.names.claim(*peer, claim));
        }
        concerned
    }

    /// Shows peers in a roster.
    fn show(&self, roster: &mut Roster, peers: &BTreeSet<PeerId>, controls: &ControlLog) {
        roster.room_name.clone_from(&self.replay.room_name);
        roster.open = self.replay.open;
        for peer in peers {
            let Some(state) = self.replay.people.get(peer) else { continue };
            let tag = peer.tag();
            let plain = self.names.is_plain(peer, controls);
            let name = if plain { state.name.clone() } else { format!("{}~{tag}", state.name) };
            let admin = state.active && self.rulings.is_admin(peer);
            let role = if admin { MemberRole::Admin } else { MemberRole::Member };
            let peer_ref = PeerRef { id: *peer, name, tag };
            let person = Person { peer: peer_ref, active: state.active, role, keys: state.keys };
            roster.people.insert(*peer, Arc::new(person));
        }
    }
}

#[cfg(test)]
mod tests;
