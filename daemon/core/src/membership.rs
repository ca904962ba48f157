//! Membership: members, names, roles and invites, derived from the control entries that are held and from nothing else.

pub mod authority;
pub(crate) mod control_log;
pub(crate) mod derive;
pub(crate) mod gaps;
pub(crate) mod names;
pub(crate) mod replay;
pub mod roster;

use std::collections::BTreeSet;
use std::sync::Arc;

use chat_proto::event::{MembershipAction, MembershipChange};
use chat_proto::id::{PeerId, RoomId};

use crate::log::Logs;
use crate::log::entry::{AdmitBy, Body, Control, Entry, Hlc, LogId, Seq};
use crate::log::heads::Heads;
use crate::log::local::Local;
use crate::output::CommandError;
use crate::peers::addrs::AddrBook;
use authority::Authority;
use control_log::{ControlLog, Position};
use derive::Derived;
use gaps::Gaps;
use roster::Roster;

/// The control entries and what follows from them. A whole frame of entries is derived at once.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    pub(crate) controls: ControlLog,
    pub(crate) authority: Authority,
    pub(crate) derived: Derived,
    pub(crate) roster: Arc<Roster>,
    /// Control entries that were applied since the last derivation, and where they stand in the shared order.
    news: Vec<Arc<Entry>>,
    added: Vec<Position>,
    /// Logs that began since.
    begun: Vec<LogId>,
    /// Whether something else happened since that changes the membership, or where logs end.
    stale: bool,
    /// Whether entries that wait have to be reconsidered, because logs end elsewhere or are void.
    pub(crate) cuts_moved: bool,
    /// Control entries on this peer's disk that are damaged.
    pub(crate) gaps: Gaps,
}

impl Membership {
    pub(crate) fn is_member(&self, peer: &PeerId) -> bool {
        self.roster.is_member(peer)
    }

    /// Whether this peer's own membership has not arrived so far.
    pub(crate) fn is_arriving(&self, me: &PeerId) -> bool {
        !self.roster.people.contains_key(me)
    }

    /// Whether this peer may write entries now.
    ///
    /// # Errors
    /// [`CommandError::Stopping`], [`CommandError::Arriving`] or [`CommandError::NotMember`].
    pub(crate) fn may_write(&self, local: &Local) -> Result<(), CommandError> {
        if local.is_stopping() {
            return Err(CommandError::Stopping);
        }
        match self.roster.people.get(&local.me) {
            Some(person) if person.active => Ok(()),
            Some(_) => Err(CommandError::NotMember),
            None => Err(CommandError::Arriving),
        }
    }

    /// Whether a peer may be connected: members, and peers unknown to the log, which the daemon trusts because they
    /// admitted this peer. A founder that lost its disk knows only itself at first.
    pub(crate) fn may_connect(&self, peer: &PeerId) -> bool {
        self.roster.people.get(peer).is_none_or(|person| person.active)
    }

    /// Takes an entry that was applied; what follows from it is worked out by the next derivation.
    /// The first entry of a branch comes with the log on which that builds.
    pub(crate) fn apply(&mut self, entry: &Arc<Entry>, order: Hlc, parent: Option<LogId>, room: &RoomId) {
        if self.controls.begin_with(entry, order, parent) {
            self.begun.push(entry.log());
        }
        self.gaps.applied(entry, order, parent);
        self.authority.observe(entry);
        self.add(entry, order, room);
    }

    /// Takes a control entry whose copy on disk was damaged until now.
    pub(crate) fn repaired(&mut self, entry: &Arc<Entry>, room: &RoomId) {
        if self.gaps.repaired(entry) {
            self.controls = self.gaps.control_log(room);
            self.authority.find_acts(&self.controls);
            self.news.push(entry.clone());
            self.gaps.close_if_whole();
            self.stale = true;
        }
    }

    /// Takes the control entries that the store held, and asks for those that are damaged.
    pub(crate) fn restore(&mut self, gaps: Gaps, room: &RoomId) {
        self.gaps = gaps;
        self.controls = self.gaps.control_log(room);
        self.authority.find_acts(&self.controls);
        self.gaps.close_if_whole();
        self.stale = true;
    }

    fn add(&mut self, entry: &Arc<Entry>, order: Hlc, room: &RoomId) {
        if let Some(position) = self.controls.add(entry, order, room) {
            self.news.push(entry.clone());
            self.added.push(position);
        }
        if self.controls.take_admitted_in_branch() {
            self.stale = true;
            self.cuts_moved = true;
        }
    }

    /// Whether the author of the first entry of a log may write it, as far as the membership is derived.
    pub(crate) fn may_begin(&self, first: &Entry, parent: Option<LogId>) -> bool {
        let header = first.header();
        let start = self.controls.start(&first.log(), header.order_after(None), &header.deps, parent);
        self.derived.cut_of_new(&first.log(), &start, &self.controls) != Some(Seq::ZERO)
    }

    /// Logs that an entry with this body depends on directly, so that others need not hold what lies between: those with the
    /// newest acts of admins, with what it is about, and with the claim of a name that it claims, too.
    pub(crate) fn causes(&self, body: &Body) -> BTreeSet<LogId> {
        let Body::Control(control) = body else { return BTreeSet::new() };
        let mut logs = self.authority.newest();
        let invite = |key| self.derived.invites().get(key).map(|invite| invite.log);
        match control {
            Control::Admit { name, by, .. } => {
                logs.extend(self.derived.bearers(name));
                if let AdmitBy::Invite { key, .. } = by {
                    logs.extend(invite(key));
                }
            }
            Control::Rename { name } => logs.extend(self.derived.bearers(name)),
            Control::Role { peer, .. } | Control::Remove { peer, .. } => logs.extend(self.derived.admitted_in(peer)),
            Control::Revoke { key } => logs.extend(invite(key)),
            Control::Genesis { .. } | Control::Invite { .. } | Control::Leave | Control::Keys { .. } => {}
        }
        logs
    }

    /// Forgets the control entries, to take over anew what the store holds.
    pub(crate) fn forget(&mut self) {
        (self.controls, self.authority) = Default::default();
        self.news.clear();
        self.added.clear();
        self.begun.clear();
        self.stale = true;
    }

    /// Something else than an entry changed what follows: everything is derived anew.
    pub(crate) fn outdate(&mut self) {
        self.stale = true;
    }

    /// Whether something is to be derived or reconsidered.
    pub(crate) fn is_behind(&self) -> bool {
        self.has_news() || self.cuts_moved
    }

    fn has_news(&self) -> bool {
        self.stale || !self.added.is_empty() || !self.begun.is_empty()
    }

    /// The control entries since the last derivation, if there has to be another one.
    pub(crate) fn take_news(&mut self) -> Option<Vec<Arc<Entry>>> {
        self.has_news().then(|| std::mem::take(&mut self.news))
    }

    /// Derives what follows from the news, or everything where that is not enough, and cuts the logs; returns the roster
    /// before, if it changed. A newcomer that does not know the members so far takes those for members of which it has
    /// addresses: who admitted it may be gone, or its copy be damaged, before it has given everything.
    pub(crate) fn derive(&mut self, local: &Local, addrs: &AddrBook, logs: &mut Logs) -> Option<Arc<Roster>> {
        let (added, begun) = (std::mem::take(&mut self.added), std::mem::take(&mut self.begun));
        let Self { controls, authority, derived, .. } = self;
        let stale = std::mem::take(&mut self.stale);
        // Before, because control entries of a log that is one too many are void; after, because an admission makes logs valid.
        let advanced = !stale
            && begun.iter().all(|log| derived.log_began(log, controls))
            && added.iter().all(|position| derived.advance(position, controls, authority))
            && begun.iter().all(|log| derived.log_began(log, controls));
        if !advanced {
            *derived = Derived::new(controls, authority, local.room, &logs.heads.act_ends());
        }
        let arriving = !derived.roster.people.contains_key(&local.me);
        let vouched = addrs.records().map(|record| record.peer).filter(|peer| arriving && *peer != local.me);
        let roster = self.gaps.mark(&derived.roster, vouched);
        let changed = roster != self.roster;
        if changed {
            logs.heads.reconsider_refused();
        }
        let moved = logs.heads.set_cuts(derived.cuts.clone(), authority.admins());
        self.cuts_moved |= !moved.is_empty();
        logs.disk.changes.cuts.extend(self.gaps.withhold(moved));
        logs.heads.set_doubted(self.gaps.withheld());
        changed.then(|| std::mem::replace(&mut self.roster, roster))
    }

    /// Which logs will end elsewhere once an own entry is applied. This is written with the entry, so that no crash comes
    /// between the two.
    pub(crate) fn cuts_of(&self, own: &Entry, local: &Local, heads: &Heads) -> Vec<(LogId, Seq)> {
        let ends = matches!(own.control(), Some(Control::Remove { .. } | Control::Role { .. } | Control::Leave));
        if !ends || self.gaps.are_open() {
            return Vec::new();
        }
        let order = own.header().order_after(heads.head(&own.log()).map(|head| head.order));
        let (mut controls, mut authority) = (self.controls.clone(), self.authority.clone());
        controls.begin_with(own, order, None);
        authority.observe(own);
        controls.add(own, order, &local.room);
        heads.moved_cuts(&Derived::new(&controls, &authority, local.room, &heads.act_ends()).cuts)
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
            // The first keys, and a new fallback key, are nothing to show.
            Control::Keys { identity, .. }
                if was(&author).and_then(|p| p.keys).is_some_and(|keys| keys.identity != *identity) =>
            {
                (MembershipAction::Keys, author)
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
