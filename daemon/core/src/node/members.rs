//! What follows when the membership changes.

use std::sync::Arc;

use chat_proto::event::{Event, MembershipAction, MembershipChange};
use chat_proto::id::PeerId;

use crate::input::Now;
use crate::log::entry::{Control, Entry};
use crate::membership::roster::Roster;
use crate::node::Node;
use crate::output::{CloseReason, Output};

impl Node {
    /// Takes a control entry into the membership and tells about it.
    pub(super) fn apply_control(&mut self, entry: &Arc<Entry>, now: Now) {
        if !self.facts.add(entry, &self.room) {
            return;
        }
        let before = self.roster.clone();
        let cuts_before = self.derived.cuts.clone();
        self.derive(now);
        self.tell(entry, &before);
        if self.derived.cuts != cuts_before {
            self.reconsider_pending(now);
        }
        if let Some(Control::Admit { peer, .. }) = entry.control() {
            self.admitted_elsewhere(*peer);
        }
    }

    /// Gates and connections follow the membership.
    pub(super) fn roster_changed(&mut self, before: &Roster, now: Now) {
        let gone: Vec<PeerId> = self
            .links
            .connected()
            .map(|(peer, _)| *peer)
            .filter(|peer| self.roster.people.get(peer).is_some_and(|person| !person.active))
            .collect();
        for peer in gone {
            self.break_with(peer, CloseReason::NotMember);
        }
        let new: Vec<PeerId> =
            self.roster.members().map(|person| person.peer.id).filter(|peer| !before.is_member(peer)).collect();
        for peer in new {
            self.consider_dialling(peer, now);
        }
        if self.is_member() && self.own_log_is_cut() {
            self.renew_incarnation(now);
        }
        self.choose_mode(now);
        self.role_members(now);
        self.presence_changed(now);
    }

    fn tell(&mut self, entry: &Entry, before: &Roster) {
        let Some(control) = entry.control() else { return };
        let author = entry.author();
        let after = &self.roster;
        let turned = |peer: &PeerId| before.is_member(peer) != after.is_member(peer);
        let (action, peer) = match control {
            Control::Genesis { .. } => (MembershipAction::Founded, author),
            Control::Admit { peer, .. } if turned(peer) => (MembershipAction::Admitted, *peer),
            Control::Remove { peer, .. } if turned(peer) => (MembershipAction::Removed, *peer),
            Control::Leave if turned(&author) => (MembershipAction::Left, author),
            Control::Rename { .. }
                if before.people.get(&author).map(|p| &p.peer) != after.people.get(&author).map(|p| &p.peer) =>
            {
                (MembershipAction::Renamed, author)
            }
            Control::Role { peer, .. }
                if before.people.get(peer).map(|p| p.role) != after.people.get(peer).map(|p| p.role) =>
            {
                (MembershipAction::Role, *peer)
            }
            Control::Admit { .. }
            | Control::Remove { .. }
            | Control::Leave
            | Control::Rename { .. }
            | Control::Role { .. }
            | Control::Invite { .. }
            | Control::Revoke { .. }
            | Control::Keys { .. } => return,
        };
        let change = MembershipChange { action, peer: after.peer_ref(&peer), by: after.peer_ref(&author) };
        self.out.push_back(Output::Publish(Event::Membership { change }));
    }
}
