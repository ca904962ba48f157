//! Membership: members, names, roles and invites, derived from the control entries that are held and from nothing else.

pub(crate) mod control_log;
pub(crate) mod derive;
pub(crate) mod replay;
pub mod roster;

use std::sync::Arc;

use chat_proto::event::{MembershipAction, MembershipChange};
use chat_proto::id::{PeerId, RoomId};

use crate::log::Logs;
use crate::log::entry::{Control, Entry, Hlc};
use crate::log::local::Local;
use crate::output::CommandError;
use control_log::ControlLog;
use derive::Derived;
use roster::Roster;

/// The control entries and what follows from them. A whole frame of entries is derived at once.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    pub(crate) controls: ControlLog,
    pub(crate) derived: Derived,
    pub(crate) roster: Arc<Roster>,
    /// Control entries that were applied since the last derivation.
    news: Vec<Arc<Entry>>,
    /// Whether something happened since that changes the membership, or where logs end.
    stale: bool,
    /// Whether entries that wait have to be reconsidered, because logs end elsewhere or are void.
    pub(crate) cuts_moved: bool,
}

impl Membership {
    pub(crate) fn is_member(&self, peer: &PeerId) -> bool {
        self.roster.is_member(peer)
    }

    /// Whether this peer may write entries now.
    ///
    /// # Errors
    /// [`CommandError::Stopping`] or [`CommandError::NotMember`].
    pub(crate) fn may_write(&self, local: &Local) -> Result<(), CommandError> {
        if local.is_stopping() {
            return Err(CommandError::Stopping);
        }
        if self.is_member(&local.me) { Ok(()) } else { Err(CommandError::NotMember) }
    }

    /// Whether a peer may be connected: members, and peers unknown to the log, which the daemon trusts because they
    /// admitted this peer. A founder that lost its disk knows only itself at first.
    pub(crate) fn may_connect(&self, peer: &PeerId) -> bool {
        self.roster.people.get(peer).is_none_or(|person| person.active)
    }

    /// Takes a control entry; what follows from it is worked out by the next derivation.
    pub(crate) fn apply(&mut self, entry: &Arc<Entry>, order: Hlc, room: &RoomId) {
        if self.controls.add(entry, order, room) {
            self.news.push(entry.clone());
            self.stale = true;
        }
    }

    /// The proof of a fork changes where a log ends.
    pub(crate) fn fork_proven(&mut self) {
        self.stale = true;
    }

    /// Whether something is to be derived or reconsidered.
    pub(crate) fn is_behind(&self) -> bool {
        self.stale || self.cuts_moved
    }

    /// The control entries since the last derivation, if there has to be another one.
    pub(crate) fn take_news(&mut self) -> Option<Vec<Arc<Entry>>> {
        std::mem::take(&mut self.stale).then(|| std::mem::take(&mut self.news))
    }

    /// Derives everything anew, and cuts the logs; returns the roster before, if it changed.
    pub(crate) fn derive(&mut self, room: RoomId, logs: &mut Logs) -> Option<Arc<Roster>> {
        let derived = derive::derive(&self.controls, room, logs.forks.cuts(), &logs.heads.firsts());
        let moved = logs.heads.set_cuts(derived.cuts.clone(), logs.forks.logs(), derived.admins.clone());
        self.cuts_moved |= !moved.is_empty();
        logs.disk.changes.cuts.extend(moved);
        self.derived = derived;
        let changed = self.derived.roster != *self.roster;
        changed.then(|| std::mem::replace(&mut self.roster, Arc::new(self.derived.roster.clone())))
    }

    /// What a control entry changed for its readers, compared with the roster before it.
    pub(crate) fn change(&self, entry: &Entry, before: &Roster) -> Option<MembershipChange> {
        let author = entry.author();
        let after = &self.roster;
        let turned = |peer: &PeerId| before.is_member(peer) != after.is_member(peer);
        let (now, was) = (|peer: &PeerId| after.people.get(peer), |peer: &PeerId| before.people.get(peer));
        let (action, peer) = match entry.control()? {
            Control::Genesis { .. } => (MembershipAction::Founded, author),
            Control::Admit { peer, .. } if turned(peer) => (MembershipAction::Admitted, *peer),
            Control::Remove { peer, .. } if turned(peer) => (MembershipAction::Removed, *peer),
            Control::Leave if turned(&author) => (MembershipAction::Left, author),
            Control::Rename { .. } if was(&author).map(|p| &p.peer) != now(&author).map(|p| &p.peer) => {
                (MembershipAction::Renamed, author)
            }
            Control::Role { peer, .. } if was(peer).map(|p| p.role) != now(peer).map(|p| p.role) => {
                (MembershipAction::Role, *peer)
            }
            Control::Admit { .. }
            | Control::Remove { .. }
            | Control::Leave
            | Control::Rename { .. }
            | Control::Role { .. }
            | Control::Invite { .. }
            | Control::Revoke { .. }
            | Control::Keys { .. } => return None,
        };
        let was = (action == MembershipAction::Renamed).then(|| before.peer_ref(&peer).name);
        Some(MembershipChange { action, peer: after.peer_ref(&peer), by: after.peer_ref(&author), was })
    }
}
