//! Consequences of a changed membership: cuts, connections, dials, events.

use std::sync::Arc;

use chat_proto::event::{Event, MembershipAction, MembershipChange};
use chat_proto::id::PeerId;

use crate::input::Now;
use crate::log::entry::{Control, Dep, Entry, Hlc, Seq};
use crate::membership::derive;
use crate::membership::roster::Roster;
use crate::node::Node;
use crate::output::{CloseReason, CommandError, Output};

/// Control entries that were applied and from which the membership was not derived yet: a whole frame of them is derived
/// at once.
#[derive(Debug, Default)]
pub(crate) struct News {
    entries: Vec<Arc<Entry>>,
    stale: bool,
    cuts_moved: bool,
}

impl News {
    /// What waits is looked at again.
    pub(crate) fn reconsider(&mut self) {
        self.cuts_moved = true;
    }
}

impl Node {
    /// Takes a control entry into the membership; [`Node::catch_up`] works out what follows.
    pub(super) fn apply_control(&mut self, entry: &Arc<Entry>, order: Hlc) {
        if self.membership.controls.add(entry, order, &self.local.room) {
            self.membership.news.entries.push(entry.clone());
            self.membership.news.stale = true;
        }
    }

    /// The proof of a fork, or something else than an entry, changes where logs end.
    pub(super) fn cuts_changed(&mut self) {
        self.membership.news.stale = true;
    }

    /// The first entry came of a log whose author was no member then: nothing waits any more for the rest of it.
    pub(super) fn void_log(&mut self, entry: &Arc<Entry>) {
        if self.logs.heads.has_room_for_void() {
            self.logs.heads.void(entry.log());
            self.logs.disk.changes.cuts.insert(entry.log(), Seq::ZERO);
            let order = self.logs.heads.apply(entry);
            self.logs.disk.push(entry.clone());
            self.apply_control(entry, order);
        } else {
            self.logs.heads.refuse(entry.log(), entry.header().order_after(None));
        }
        self.membership.news.cuts_moved = true;
    }

    /// Works out everything that follows from the control entries applied so far.
    pub(super) fn catch_up(&mut self, now: Now) {
        while self.membership.news.stale || self.membership.news.cuts_moved {
            self.refresh(now);
            if std::mem::take(&mut self.membership.news.cuts_moved) {
                self.delivery.sync.forget_failures();
                self.reconsider_pending(now);
            }
        }
    }

    /// Derives the membership anew where control entries have arrived since, and publishes the changes.
    pub(super) fn refresh(&mut self, now: Now) {
        if !std::mem::take(&mut self.membership.news.stale) {
            return;
        }
        let entries = std::mem::take(&mut self.membership.news.entries);
        let before = self.membership.roster.clone();
        self.derive(now);
        for entry in entries {
            self.tell(&entry, &before);
            if let Some(Control::Admit { peer, .. }) = entry.control() {
                self.door().admitted_elsewhere(*peer, Dep { log: entry.log(), seq: entry.seq() });
            }
        }
    }

    pub(super) fn derive(&mut self, now: Now) {
        let derived = derive::derive(
            &self.membership.controls,
            self.local.room,
            self.logs.forks.cuts(),
            &self.logs.heads.firsts(),
        );
        let moved = self.logs.heads.set_cuts(derived.cuts.clone(), self.logs.forks.logs(), derived.admins.clone());
        self.membership.news.cuts_moved |= !moved.is_empty();
        self.logs.disk.changes.cuts.extend(moved);
        let roster = Arc::new(derived.roster.clone());
        self.membership.derived = derived;
        if roster != self.membership.roster {
            let before = std::mem::replace(&mut self.membership.roster, roster.clone());
            self.out.push_back(Output::Roster(roster));
            self.roster_changed(&before, now);
        }
        if !self.is_member() {
            self.refuse_drafts(&CommandError::NotMember);
        } else if self.own_log_is_cut() {
            self.renew_incarnation("this peer's log was cut");
        }
    }

    /// Whether a peer may be connected: members, and peers unknown to the log, which the daemon trusts because they
    /// admitted this peer. A founder that lost its disk knows only itself at first.
    pub(super) fn may_connect(&self, peer: &PeerId) -> bool {
        self.membership.roster.people.get(peer).is_none_or(|person| person.active)
    }

    /// Gates and connections follow the membership.
    fn roster_changed(&mut self, before: &Roster, now: Now) {
        for peer in self.peers.connections.connected_ids() {
            let lost = before.is_member(&peer) && !self.membership.roster.is_member(&peer);
            if lost || !self.may_connect(&peer) {
                self.break_with(peer, CloseReason::NotMember, now);
            }
        }
        self.early_proofs();
        let new: Vec<PeerId> = self
            .membership
            .roster
            .members()
            .map(|person| person.peer.id)
            .filter(|peer| !before.is_member(peer))
            .collect();
        for peer in new {
            self.peers.addrs.reset(&peer);
            self.consider_dialling(peer, now);
        }
        self.choose_mode(now);
        self.role_members(now);
        self.presence_changed(now);
    }

    fn tell(&mut self, entry: &Entry, before: &Roster) {
        let Some(control) = entry.control() else { return };
        let author = entry.author();
        let after = &self.membership.roster;
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
        let was = (action == MembershipAction::Renamed).then(|| before.peer_ref(&peer).name);
        let change = MembershipChange { action, peer: after.peer_ref(&peer), by: after.peer_ref(&author), was };
        self.out.push_back(Output::Publish(Event::Membership { change }));
    }
}
