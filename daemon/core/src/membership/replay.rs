//! The replay: control entries applied in the shared order to a table of members, names, roles and invites.

use std::collections::{BTreeMap, BTreeSet};

use chat_proto::api::peers::MemberRole;
use chat_proto::id::{InviteId, PeerId};
use chat_proto::time::Timestamp;

use crate::log::entry::{AdmitBy, Control, Hlc, LogId};
use crate::membership::control_log::{ControlItem, Position};

/// Curve25519 identity and fallback key.
type PublishedKeys = ([u8; 32], [u8; 32]);

/// An invite as derived from the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InviteState {
    pub(crate) by: PeerId,
    pub(crate) created: Position,
    pub(crate) expires: Timestamp,
    pub(crate) uses: u32,
    pub(crate) used: u32,
    pub(crate) revoked: bool,
}

/// A member during the replay.
#[derive(Clone, Debug)]
pub(crate) struct MemberState {
    pub(crate) name: String,
    /// Where the name was bound: the earliest bearer keeps it.
    pub(crate) named: Position,
    pub(crate) active: bool,
    pub(crate) role: MemberRole,
    pub(crate) keys: Option<PublishedKeys>,
    pub(crate) removed: Option<Hlc>,
    /// The first admission since the last removal. Leaving in between changes nothing: the remover may not know of it.
    pub(crate) since: Hlc,
    pub(crate) admitted_in: LogId,
}

/// A period of membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Hlc,
    pub(crate) to: Option<Hlc>,
}

impl Span {
    pub(crate) fn contains(&self, time: Hlc) -> bool {
        self.from <= time && self.to.is_none_or(|to| time <= to)
    }
}

/// The state derived from the entries replayed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replay {
    pub(crate) room_name: String,
    pub(crate) open: bool,
    pub(crate) people: BTreeMap<PeerId, MemberState>,
    pub(crate) spans: BTreeMap<PeerId, Vec<Span>>,
    pub(crate) invites: BTreeMap<InviteId, InviteState>,
    /// Every peer that ever had the right to remove others.
    pub(crate) admins: BTreeSet<PeerId>,
    seniority: BTreeMap<PeerId, usize>,
    admitted_by: BTreeSet<(InviteId, PeerId)>,
}

/// Whether a removal takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It does.
    Holds,
    /// Not, or not decided yet.
    None,
}

impl Replay {
    /// Applies one more entry.
    pub(crate) fn tell(&mut self, position: &Position, item: &ControlItem, removal: Effect) {
        let author = item.author;
        match &item.control {
            Control::Genesis { room_name, open, name, .. } => {
                self.room_name.clone_from(room_name);
                self.open = *open;
                self.admit(author, name, position);
                self.set_role(&author, MemberRole::Admin);
            }
            Control::Invite { key, expires, uses } if self.is_active(&author) => {
                let (expires, uses) = (*expires, *uses);
                let invite = InviteState { by: author, created: *position, expires, uses, used: 0, revoked: false };
                self.invites.entry(*key).or_insert(invite);
            }
            Control::Revoke { key } if self.is_active(&author) => {
                let admin = self.is_admin(&author);
                if let Some(invite) = self.invites.get_mut(key).filter(|invite| admin || invite.by == author) {
                    invite.revoked = true;
                }
            }
            Control::Admit { peer, name, by } if self.is_active(&author) && self.may_admit(peer, by, position) => {
                self.admit(*peer, name, position);
            }
            Control::Remove { peer, .. } if removal == Effect::Holds => {
                self.end(peer, position.order);
                if let Some(state) = self.people.get_mut(peer) {
                    state.removed = Some(position.order);
                }
            }
            Control::Rename { name } => {
                if let Some(state) = self.people.get_mut(&author).filter(|state| state.active) {
                    state.name.clone_from(name);
                    state.named = *position;
                }
            }
            Control::Role { peer, admin } if self.is_admin(&author) => {
                self.set_role(peer, if *admin { MemberRole::Admin } else { MemberRole::Member });
            }
            Control::Leave => self.end(&author, position.order),
            Control::Keys { identity, fallback } => {
                if let Some(state) = self.people.get_mut(&author).filter(|state| state.active) {
                    state.keys = Some((*identity, *fallback));
                }
            }
            Control::Invite { .. }
            | Control::Revoke { .. }
            | Control::Admit { .. }
            | Control::Remove { .. }
            | Control::Role { .. } => {}
        }
    }

    pub(crate) fn is_active(&self, peer: &PeerId) -> bool {
        self.people.get(peer).is_some_and(|state| state.active)
    }

    pub(crate) fn is_admin(&self, peer: &PeerId) -> bool {
        self.people.get(peer).is_some_and(|state| state.active && state.role == MemberRole::Admin)
    }

    /// Number of peers admitted before.
    pub(crate) fn seniority(&self, peer: &PeerId) -> usize {
        self.seniority.get(peer).copied().unwrap_or(usize::MAX)
    }

    fn set_role(&mut self, peer: &PeerId, role: MemberRole) {
        if let Some(state) = self.people.get_mut(peer).filter(|state| state.active) {
            state.role = role;
            self.admins.insert(*peer);
        }
    }

    /// Whether an admission is valid; one by ticket uses the ticket up, once for each newcomer. Whether the ticket has
    /// expired follows from the clock of the member that admits.
    fn may_admit(&mut self, peer: &PeerId, by: &AdmitBy, position: &Position) -> bool {
        let AdmitBy::Invite { key, .. } = by else { return true };
        let Some(invite) = self.invites.get_mut(key) else { return false };
        let removed_since =
            self.people.get(peer).and_then(|state| state.removed).is_some_and(|at| at > invite.created.order);
        if invite.revoked || position.label.wall() > invite.expires || removed_since {
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

    fn admit(&mut self, peer: PeerId, name: &str, position: &Position) {
        if self.is_active(&peer) {
            return;
        }
        let next = self.seniority.len();
        self.seniority.entry(peer).or_insert(next);
        self.spans.entry(peer).or_default().push(Span { from: position.order, to: None });
        let since = self.people.get(&peer).filter(|state| state.removed.is_none()).map(|state| state.since);
        let state = MemberState {
            name: name.to_owned(),
            named: *position,
            active: true,
            role: MemberRole::Member,
            keys: None,
            removed: None,
            since: since.unwrap_or(position.order),
            admitted_in: position.log,
        };
        self.people.insert(peer, state);
    }

    fn end(&mut self, peer: &PeerId, at: Hlc) {
        let Some(state) = self.people.get_mut(peer) else { return };
        if state.active
            && let Some(span) = self.spans.get_mut(peer).and_then(|spans| spans.last_mut())
        {
            span.to = Some(at);
        }
        state.active = false;
        state.role = MemberRole::Member;
    }
}
