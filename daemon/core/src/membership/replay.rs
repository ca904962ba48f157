//! The replay: control entries applied in the shared order to a table of members, names and invites.

use std::collections::{BTreeMap, BTreeSet};

use chat_proto::id::{InviteId, PeerId};
use chat_proto::time::Timestamp;

use crate::log::entry::{AdmitBy, Control, Dep, Hlc, LogId};
use crate::membership::authority::Rulings;
use crate::membership::control_log::{ControlItem, Position};
use crate::membership::names::Claimed;
use crate::membership::roster::SealingKeys;

/// An invite as derived from the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InviteState {
    pub(crate) by: PeerId,
    /// The log that holds it.
    pub(crate) log: LogId,
    /// The date of its entry, for people to read.
    pub(crate) created: Hlc,
    pub(crate) expires: Timestamp,
    pub(crate) uses: u32,
    pub(crate) used: u32,
    /// Where it was revoked. An admission by it that knew nothing of that counts, or what the newcomer said since would be lost.
    pub(crate) revocations: Vec<Position>,
    /// Whether the member that made it was removed: it lets no one in any more.
    pub(crate) void: bool,
}

impl InviteState {
    /// Whether no door lets anyone in by it any more.
    pub(crate) fn is_revoked(&self) -> bool {
        self.void || !self.revocations.is_empty()
    }
}

/// A member during the replay.
#[derive(Clone, Debug)]
pub(crate) struct MemberState {
    pub(crate) name: String,
    pub(crate) named: (Claimed, Position),
    pub(crate) active: bool,
    pub(crate) keys: Option<SealingKeys>,
    /// Whether it was removed, and no admin has admitted it since.
    pub(crate) removed: bool,
    pub(crate) admitted_in: LogId,
    /// The member whose ticket it showed, or who answered its knock; itself for the founder.
    pub(crate) let_in_by: PeerId,
}

/// The state derived from the entries replayed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replay {
    pub(crate) room_name: String,
    pub(crate) open: bool,
    pub(crate) people: BTreeMap<PeerId, MemberState>,
    pub(crate) invites: BTreeMap<InviteId, InviteState>,
    /// The founding and the admissions that count.
    entered: BTreeSet<Dep>,
    /// The removals of each peer so far.
    removals: BTreeMap<PeerId, Vec<Dep>>,
    admitted_by: BTreeSet<(InviteId, PeerId)>,
}

impl Replay {
    /// Applies one more entry of a log that is valid there; gives the peer whose state it changed. What a member that left
    /// wrote in another log, not knowing of it, counts: who lost its disk and leaves takes nothing along that it said before.
    pub(crate) fn tell(&mut self, position: &Position, item: &ControlItem, rulings: &Rulings) -> Option<PeerId> {
        let (author, place) = (item.author, position.place());
        match &item.control {
            Control::Genesis { room_name, open, name, .. } => {
                self.room_name.clone_from(room_name);
                self.open = *open;
                self.entered.insert(place);
                self.admit(author, name, position, author)
            }
            Control::Remove { peer, .. } if rulings.counts(&place) => {
                self.removals.entry(*peer).or_default().push(place);
                let state = self.people.get_mut(peer)?;
                (state.active, state.removed) = (false, true);
                // What a removed member may have handed out lets no one in any more.
                self.invites.values_mut().filter(|invite| invite.by == *peer).for_each(|invite| invite.void = true);
                Some(*peer)
            }
            Control::Role { peer, .. } if rulings.counts(&place) => Some(*peer),
            // A removal may name entries that its author had not seen.
            _ if self.people.get(&author).is_some_and(|state| state.removed) => None,
            Control::Invite { key, expires, uses } => {
                let (created, expires, uses) = (item.label, *expires, *uses);
                let invite = InviteState {
                    by: author,
                    log: place.log,
                    created,
                    expires,
                    uses,
                    used: 0,
                    revocations: Vec::new(),
                    void: false,
                };
                self.invites.entry(*key).or_insert(invite);
                None
            }
            Control::Revoke { key } => {
                let invite =
                    self.invites.get_mut(key).filter(|invite| rulings.counts(&place) || invite.by == author)?;
                invite.revocations.push(*position);
                None
            }
            Control::Admit { peer, name, by } if self.may_admit(peer, by, &place, item, rulings) => {
                self.entered.insert(place);
                let invite = if let AdmitBy::Invite { key, .. } = by { self.invites.get(key) } else { None };
                let let_in_by = invite.map_or(author, |invite| invite.by);
                self.admit(*peer, name, position, let_in_by)
            }
            Control::Rename { name } => {
                let state = self.people.get_mut(&author)?;
                state.name.clone_from(name);
                state.named = (Claimed::Taken, *position);
                Some(author)
            }
            Control::Leave => {
                self.people.get_mut(&author)?.active = false;
                Some(author)
            }
            Control::Keys { identity, fallback } => {
                let (identity, fallback, sealing) = (*identity, *fallback, item.sealing);
                self.people.get_mut(&author)?.keys = Some(SealingKeys { identity, fallback, sealing });
                Some(author)
            }
            Control::Admit { .. } | Control::Remove { .. } | Control::Role { .. } => None,
        }
    }

    /// Whether an admission counts.
    pub(crate) fn entered(&self, admission: &Dep) -> bool {
        self.entered.contains(admission)
    }

    /// Whether an admission counts. One of a removed peer does by the hand of an admin who knew of the removal. One by ticket
    /// uses the ticket up, once for each newcomer; whether the ticket has expired is for the member to say that admits.
    fn may_admit(&mut self, peer: &PeerId, by: &AdmitBy, place: &Dep, item: &ControlItem, rulings: &Rulings) -> bool {
        if self.people.get(peer).is_some_and(|state| state.removed)
            && !self.removals.get(peer).into_iter().flatten().all(|removal| rulings.readmits(place, removal))
        {
            return false;
        }
        let AdmitBy::Invite { key, .. } = by else { return true };
        // Every admission by ticket names what its author holds of the log with the invite, and the newest acts of admins.
        let valid = |invite: &&mut InviteState| !invite.void && !invite.revocations.iter().any(|at| item.names(at));
        let Some(invite) = self.invites.get_mut(key).filter(valid) else { return false };
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

    fn admit(&mut self, peer: PeerId, name: &str, position: &Position, let_in_by: PeerId) -> Option<PeerId> {
        if self.people.get(&peer).is_some_and(|state| state.active) {
            return None;
        }
        let state = MemberState {
            name: name.to_owned(),
            named: (Claimed::Attested, *position),
            active: true,
            keys: None,
            removed: false,
            admitted_in: position.log,
            let_in_by,
        };
        self.people.insert(peer, state);
        Some(peer)
    }
}
