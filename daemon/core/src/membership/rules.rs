//! The rules: from control entries to members, names, roles, invites and cuts.
//!
//! Everything here is a pure function of the set of entries, so peers that hold the same entries agree, in whatever
//! order they came. Three passes: who was ever admitted and in which order (seniority); which removals take effect, the
//! senior's first, so that a removal beats what the removed one did at the same time, and of two who remove each other
//! the senior stays; then the story is told once more without what was cut.

use std::collections::{BTreeMap, BTreeSet};

use chat_proto::api::peers::{MemberRole, PeerRef};
use chat_proto::id::{InviteId, PeerId, RoomId};
use chat_proto::time::Timestamp;

use crate::log::entry::{AdmitBy, Control, Dep, Hlc, LogId, Seq};
use crate::membership::facts::{Fact, Facts, Place};
use crate::membership::names::skeleton;
use crate::membership::roster::{Person, Roster};

/// What follows from the entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Derived {
    pub(crate) roster: Roster,
    pub(crate) invites: BTreeMap<InviteId, InviteState>,
    pub(crate) cuts: BTreeMap<LogId, Seq>,
    /// When a former member was removed.
    pub(crate) removed: BTreeMap<PeerId, Hlc>,
    /// The log that holds each member's admission.
    pub(crate) admitted_in: BTreeMap<PeerId, LogId>,
}

/// An invite as the entries say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InviteState {
    pub(crate) by: PeerId,
    pub(crate) created: Hlc,
    pub(crate) expires: Timestamp,
    pub(crate) uses: u32,
    pub(crate) used: u32,
    pub(crate) revoked: bool,
}

/// Derives everything from the entries and the cuts of forked logs.
pub(crate) fn derive(facts: &Facts, room: RoomId, forks: &BTreeMap<LogId, Seq>) -> Derived {
    let uncut = replay(facts, forks, &BTreeSet::new());
    let (cuts, effective) = removals(facts, &uncut.seniority, forks);
    let story = replay(facts, &cuts, &effective);
    let mut roster = Roster { room: Some(room), room_name: story.room_name, open: story.open, ..Roster::default() };
    roster.people = shown(&story.people, facts);
    let removed = story.people.iter().filter_map(|(peer, state)| Some((*peer, state.removed?))).collect();
    let admitted_in = story.people.iter().map(|(peer, state)| (*peer, state.admitted_in)).collect();
    Derived { roster, invites: story.invites, cuts, removed, admitted_in }
}

/// Somebody while the story is told.
#[derive(Clone, Debug)]
struct State {
    name: String,
    named: Place,
    active: bool,
    admin: bool,
    removed: Option<Hlc>,
    admitted_in: LogId,
}

#[derive(Default)]
struct Story {
    room_name: String,
    open: bool,
    people: BTreeMap<PeerId, State>,
    seniority: BTreeMap<PeerId, usize>,
    invites: BTreeMap<InviteId, InviteState>,
    admitted_by: BTreeSet<(InviteId, PeerId)>,
}

/// Tells the story in the shared order, without what lies past a cut; of removals only those in `effective`.
fn replay(facts: &Facts, cuts: &BTreeMap<LogId, Seq>, effective: &BTreeSet<Place>) -> Story {
    let mut story = Story::default();
    for (place, fact) in facts.iter() {
        if cuts.get(&place.log).is_none_or(|cut| place.seq <= *cut) {
            story.tell(place, fact, effective.contains(place));
        }
    }
    story
}

impl Story {
    fn tell(&mut self, place: &Place, fact: &Fact, effective: bool) {
        let author = fact.author;
        match &fact.control {
            Control::Genesis { room_name, open, name, .. } => {
                self.room_name.clone_from(room_name);
                self.open = *open;
                self.admit(author, name, place, true);
            }
            Control::Invite { key, expires, uses } if self.is_active(&author) => {
                let invite = InviteState {
                    by: author,
                    created: place.time,
                    expires: *expires,
                    uses: *uses,
                    used: 0,
                    revoked: false,
                };
                self.invites.entry(*key).or_insert(invite);
            }
            Control::Revoke { key } => {
                let admin = self.is_admin(&author);
                if let Some(invite) = self.invites.get_mut(key).filter(|invite| admin || invite.by == author) {
                    invite.revoked = true;
                }
            }
            Control::Admit { peer, name, by } if self.is_active(&author) && self.may_admit(peer, by, place) => {
                self.admit(*peer, name, place, false);
            }
            Control::Remove { peer, .. } if effective => {
                if let Some(state) = self.people.get_mut(peer) {
                    state.active = false;
                    state.admin = false;
                    state.removed = Some(place.time);
                }
            }
            Control::Rename { name } => {
                if let Some(state) = self.people.get_mut(&author).filter(|state| state.active) {
                    state.name.clone_from(name);
                    state.named = *place;
                }
            }
            Control::Role { peer, admin } if self.is_admin(&author) => {
                if let Some(state) = self.people.get_mut(peer).filter(|state| state.active) {
                    state.admin = *admin;
                }
            }
            Control::Leave => {
                if let Some(state) = self.people.get_mut(&author) {
                    state.active = false;
                    state.admin = false;
                }
            }
            Control::Invite { .. }
            | Control::Admit { .. }
            | Control::Remove { .. }
            | Control::Role { .. }
            | Control::Keys { .. } => {}
        }
    }

    fn is_active(&self, peer: &PeerId) -> bool {
        self.people.get(peer).is_some_and(|state| state.active)
    }

    fn is_admin(&self, peer: &PeerId) -> bool {
        self.people.get(peer).is_some_and(|state| state.active && state.admin)
    }

    /// Whether an admission counts; one by ticket uses the ticket up, once for each newcomer.
    fn may_admit(&mut self, peer: &PeerId, by: &AdmitBy, place: &Place) -> bool {
        let AdmitBy::Invite { key, .. } = by else { return true };
        let Some(invite) = self.invites.get_mut(key) else { return false };
        let removed_since = self.people.get(peer).and_then(|state| state.removed).is_some_and(|at| at > invite.created);
        if invite.revoked || place.time.wall() > invite.expires || removed_since {
            return false;
        }
        if self.admitted_by.contains(&(*key, *peer)) {
            return true;
        }
        if invite.used >= invite.uses {
            return false;
        }
        invite.used += 1;
        self.admitted_by.insert((*key, *peer));
        true
    }

    fn admit(&mut self, peer: PeerId, name: &str, place: &Place, admin: bool) {
        let next = self.seniority.len();
        self.seniority.entry(peer).or_insert(next);
        if self.is_active(&peer) {
            return;
        }
        let state =
            State { name: name.to_owned(), named: *place, active: true, admin, removed: None, admitted_in: place.log };
        self.people.insert(peer, state);
    }
}

/// Which removals take effect, and the cuts that follow. The senior's go first; a removal past the cut of its author's
/// log is void, and so is one by somebody who is no admin at its place in the story.
fn removals(
    facts: &Facts,
    seniority: &BTreeMap<PeerId, usize>,
    forks: &BTreeMap<LogId, Seq>,
) -> (BTreeMap<LogId, Seq>, BTreeSet<Place>) {
    let mut cuts = forks.clone();
    for (place, _) in facts.iter().filter(|(_, fact)| matches!(fact.control, Control::Leave)) {
        let cut = cuts.entry(place.log).or_insert(place.seq);
        *cut = (*cut).min(place.seq);
    }
    let mut effective = BTreeSet::new();
    let mut candidates: Vec<(usize, &Place, &Fact)> = facts
        .iter()
        .filter(|(_, fact)| matches!(fact.control, Control::Remove { .. }))
        .filter_map(|(place, fact)| Some((*seniority.get(&fact.author)?, place, fact)))
        .collect();
    candidates.sort_by_key(|(senior, place, fact)| (*senior, **place, fact.hash));
    for (_, place, fact) in candidates {
        let Control::Remove { peer, cuts: kept } = &fact.control else { continue };
        let void = cuts.get(&place.log).is_some_and(|cut| place.seq > *cut);
        if void || !admin_at(facts, &cuts, &effective, place, &fact.author) {
            continue;
        }
        effective.insert(*place);
        for Dep { log, seq } in kept.iter().filter(|dep| dep.log.author == *peer) {
            let cut = cuts.entry(*log).or_insert(*seq);
            *cut = (*cut).min(*seq);
        }
    }
    (cuts, effective)
}

/// Whether somebody is an admin just before a place of the story, as far as removals are decided.
fn admin_at(
    facts: &Facts,
    cuts: &BTreeMap<LogId, Seq>,
    effective: &BTreeSet<Place>,
    until: &Place,
    peer: &PeerId,
) -> bool {
    let mut story = Story::default();
    for (place, fact) in facts.iter().take_while(|(place, _)| *place < until) {
        if cuts.get(&place.log).is_none_or(|cut| place.seq <= *cut) {
            story.tell(place, fact, effective.contains(place));
        }
    }
    story.is_admin(peer)
}

/// People as they are shown: the earliest bearer of a name keeps it, others show their tag with it.
fn shown(people: &BTreeMap<PeerId, State>, facts: &Facts) -> BTreeMap<PeerId, Person> {
    let mut by_age: Vec<(&PeerId, &State)> = people.iter().collect();
    by_age.sort_by_key(|(_, state)| (!state.active, state.named));
    let mut taken = BTreeSet::new();
    let mut shown = BTreeMap::new();
    for (peer, state) in by_age {
        let tag = peer.tag();
        let first = taken.insert(skeleton(&state.name));
        let name = if first { state.name.clone() } else { format!("{}~{tag}", state.name) };
        let role = if state.admin { MemberRole::Admin } else { MemberRole::Member };
        let peer_ref = PeerRef { id: *peer, name, tag };
        shown.insert(*peer, Person { peer: peer_ref, active: state.active, role, keys: facts.keys(peer) });
    }
    shown
}

#[cfg(test)]
mod tests;
