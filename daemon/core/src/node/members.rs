//! Consequences of a changed membership: cuts, connections, dials, events.

use chat_proto::event::Event;
use chat_proto::id::PeerId;

use crate::delivery::dissemination::Mode;
use crate::log::entry::{Control, Dep};
use crate::membership::roster::Roster;
use crate::node::Node;
use crate::output::{CloseReason, CommandError, Output};

impl Node {
    /// Works out everything that follows from the control entries applied so far.
    pub(super) fn catch_up(&mut self) {
        while self.membership.is_behind() {
            self.refresh();
            if std::mem::take(&mut self.membership.cuts_moved) {
                self.delivery.sync.forget_failures();
                // What waited for entries that will never come is looked at again.
                for entry in self.logs.pending.release_all() {
                    if let Some(entry) = self.logs.refile(entry) {
                        self.consider(entry, None);
                    }
                }
            }
        }
    }

    /// Derives the membership anew where control entries have arrived since, and publishes the changes.
    pub(super) fn refresh(&mut self) {
        let Some(entries) = self.membership.take_news() else { return };
        let before = self.membership.roster.clone();
        self.derive();
        for entry in entries {
            if let Some(change) = self.membership.change(&entry, &before) {
                self.cx.push(Output::Publish(Event::Membership { change }));
            }
            if let Some(Control::Admit { peer, .. }) = entry.control() {
                self.door().admitted_elsewhere(*peer, Dep { log: entry.log(), seq: entry.seq() });
            }
        }
    }

    pub(super) fn derive(&mut self) {
        if let Some(before) = self.membership.derive(&self.local, &self.peers.addrs, &mut self.logs) {
            self.cx.push(Output::Roster(self.membership.roster.clone()));
            self.roster_changed(&before);
        }
        if let Err(error @ (CommandError::NotMember | CommandError::Arriving)) = self.membership.may_write(&self.local)
        {
            let drafts = self.delivery.drafts.drain();
            self.refuse(drafts, &error);
        } else if self.own_log().is_cut() {
            self.own_log().renew("this peer's log was cut");
        }
    }

    /// Gates and connections follow the membership.
    fn roster_changed(&mut self, before: &Roster) {
        let mut out = self.peers.connections.connected_ids();
        out.retain(|peer| {
            let roster = &self.membership.roster;
            let trusted = |roster: &Roster| roster.is_member(peer) || roster.unsure.contains(peer);
            let lost = trusted(before) && !trusted(roster);
            lost || !self.membership.may_connect(peer)
        });
        self.break_with_all(&out, CloseReason::NotMember);
        for proof in self.logs.forks.take_early() {
            self.on_fork(proof);
        }
        let members = self.membership.roster.members().map(|person| person.peer.id);
        let new: Vec<PeerId> = members.filter(|peer| !before.is_member(peer)).collect();
        for peer in new {
            self.peers.addrs.reset(&peer);
            self.dials().consider(peer);
        }
        self.choose_mode();
        self.tell_role_members();
        self.presence_changed();
    }

    /// The room may have become large or small.
    pub(super) fn choose_mode(&mut self) {
        if self.dissemination().choose_mode() == Some(Mode::Mesh) {
            self.dials().consider_all();
        }
    }
}
