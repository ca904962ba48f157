//! Who may have what right: a second opinion on the membership, worked out from causes alone and without the code under test.
//!
//! It is generous where the rules are subtle (which of two admins wins) and strict where they are plain: only what follows an
//! entitling grant can be an act of an admin, and what the founder took away stays away. So it never calls an honest room
//! wrong, and it sees a right that was gained.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use chat_proto::api::peers::MemberRole;
use chat_proto::id::{EntryHash, PeerId};

use crate::admission::codec::ticket_holds;
use crate::log::entry::{AdmitBy, Control, Dep, Entry};
use crate::membership::roster::Roster;
use crate::sim::room::machine::disk::HeldData;

/// Everything that members hold, with its causes.
pub(in crate::sim::room) struct Rights {
    founder: PeerId,
    entries: BTreeMap<EntryHash, Arc<Entry>>,
    /// The entries at each place, several where the log is forked.
    places: BTreeMap<Dep, Vec<EntryHash>>,
    pasts: RefCell<BTreeMap<EntryHash, Rc<BTreeSet<EntryHash>>>>,
    entitled: RefCell<BTreeMap<EntryHash, bool>>,
    room: chat_proto::id::RoomId,
}

impl Rights {
    /// What follows from the disks of members of a room.
    pub(in crate::sim::room) fn new<'a>(disks: impl Iterator<Item = &'a HeldData>) -> Option<Self> {
        let mut entries = BTreeMap::new();
        let mut places: BTreeMap<Dep, Vec<EntryHash>> = BTreeMap::new();
        let mut room = None;
        for held in disks {
            room = Some(held.room);
            for entry in held.logs.values().flatten() {
                if entries.insert(entry.hash(), entry.clone()).is_none() {
                    places.entry(signed_place(entry)).or_default().push(entry.hash());
                }
            }
        }
        let founder = entries.values().find(|entry| entry.is_genesis())?.author();
        let (pasts, entitled) = Default::default();
        Some(Self { founder, entries, places, pasts, entitled, room: room? })
    }

    /// Everything that an entry causally follows.
    fn past(&self, entry: &Entry) -> Rc<BTreeSet<EntryHash>> {
        if let Some(known) = self.pasts.borrow().get(&entry.hash()) {
            return known.clone();
        }
        let mut past = BTreeSet::new();
        let mut next = vec![entry];
        while let Some(at) = next.pop() {
            let named = at.header().deps.iter().filter_map(|dep| self.places.get(dep)).flatten();
            for hash in named.chain(&at.header().backlink) {
                if past.insert(*hash) {
                    next.extend(self.entries.get(hash).map(AsRef::as_ref));
                }
            }
        }
        let past = Rc::new(past);
        self.pasts.borrow_mut().insert(entry.hash(), past.clone());
        past
    }

    fn controls(&self) -> impl Iterator<Item = (&Entry, &Control)> {
        self.entries.values().filter_map(|entry| Some((entry.as_ref(), entry.control()?)))
    }

    fn controls_in(&self, past: &BTreeSet<EntryHash>) -> Vec<(&Entry, &Control)> {
        let entries = past.iter().filter_map(|hash| self.entries.get(hash));
        entries.filter_map(|entry| Some((entry.as_ref(), entry.control()?))).collect()
    }

    /// Whether the founder gave up its own right at some time; then nothing is said about its acts.
    fn founder_gave_up(&self) -> bool {
        self.controls().filter(|(entry, _)| entry.author() == self.founder).any(|(_, control)| match control {
            Control::Leave => true,
            Control::Role { peer, admin: false } | Control::Remove { peer, .. } => *peer == self.founder,
            Control::Role { .. }
            | Control::Genesis { .. }
            | Control::Invite { .. }
            | Control::Revoke { .. }
            | Control::Admit { .. }
            | Control::Rename { .. }
            | Control::Keys { .. } => false,
        })
    }

    /// Removals and demotions of a peer by the founder, whom no admin outranks.
    fn strikes(&self, of: PeerId) -> Vec<(&Entry, Option<&Vec<Dep>>)> {
        if of == self.founder || self.founder_gave_up() {
            return Vec::new();
        }
        let by_founder = self.controls().filter(|(entry, _)| entry.author() == self.founder);
        let mut strikes = Vec::new();
        for (entry, control) in by_founder {
            if let Control::Remove { peer, cuts } = control
                && *peer == of
            {
                strikes.push((entry, Some(cuts)));
            } else if matches!(control, Control::Role { peer, admin: false } if *peer == of) {
                strikes.push((entry, None));
            }
        }
        strikes
    }

    /// Whether the author of an act may have been entitled to it.
    pub(in crate::sim::room) fn entitled(&self, act: &Entry) -> bool {
        if let Some(known) = self.entitled.borrow().get(&act.hash()) {
            return *known;
        }
        let entitled = self.is_entitled(act);
        self.entitled.borrow_mut().insert(act.hash(), entitled);
        entitled
    }

    fn is_entitled(&self, act: &Entry) -> bool {
        let author = act.author();
        if author == self.founder {
            return true;
        }
        let past = self.past(act);
        let grants = |(_, control): &(&Entry, &Control)| matches!(control, Control::Role { peer, admin: true } if *peer == author);
        let grants: Vec<&Entry> = self.controls_in(&past).into_iter().filter(grants).map(|(entry, _)| entry).collect();
        let grants: Vec<&Entry> = grants.into_iter().filter(|grant| self.entitled(grant)).collect();
        let stands = |(strike, cuts): &(&Entry, Option<&Vec<Dep>>)| {
            if past.contains(&strike.hash()) {
                return grants.iter().any(|grant| self.past(grant).contains(&strike.hash()));
            }
            match cuts {
                Some(cuts) => keeps(cuts, act),
                None => self.past(strike).contains(&act.hash()),
            }
        };
        !grants.is_empty() && self.strikes(author).iter().all(stands)
    }

    /// Whether an admission may have effect: its author may have been a member, and what the founder removed stays out.
    fn may_admit(&self, admission: &Entry, depth: u32) -> bool {
        let author = admission.author();
        let past = self.past(admission);
        if author == self.founder || depth == 0 {
            return true;
        }
        let mut admitted = self.controls_in(&past).into_iter().filter(|(_, control)| admits(control, &author));
        let kept = self.strikes(author).iter().all(|(removal, cuts)| {
            let Some(cuts) = cuts else { return true };
            past.contains(&removal.hash()) || keeps(cuts, admission)
        });
        kept && admitted.any(|(entry, _)| self.may_admit(entry, depth - 1))
    }

    /// Whether a ticket that admits is valid in itself.
    fn is_signed(&self, control: &Control) -> bool {
        if let Control::Admit { peer, name, by: AdmitBy::Invite { key, signature } } = control {
            return ticket_holds(key, &self.room, peer, name, *signature);
        }
        true
    }

    /// Why a peer can be a member.
    fn is_admitted(&self, peer: &PeerId) -> bool {
        let removals: Vec<&Entry> =
            self.strikes(*peer).into_iter().filter(|(_, cuts)| cuts.is_some()).map(|(entry, _)| entry).collect();
        self.controls().filter(|(_, control)| admits(control, peer) && self.is_signed(control)).any(
            |(entry, control)| {
                let past = self.past(entry);
                let by_hand = matches!(control, Control::Admit { by: AdmitBy::Member, .. });
                let back =
                    removals.iter().all(|removal| past.contains(&removal.hash()) && by_hand && self.entitled(entry));
                back && self.may_admit(entry, 12)
            },
        )
    }

    /// Fails where a roster contains a right that was gained, or lacks one that was taken by no one who may.
    pub(in crate::sim::room) fn check(&self, at: &str, roster: &Roster) {
        for (peer, person) in &roster.people {
            let who = &person.peer.name;
            let founder = *peer == self.founder;
            let of = |wanted: &dyn Fn(&Control) -> bool| {
                self.controls().any(|(entry, control)| wanted(control) && self.entitled(entry))
            };
            if person.role == MemberRole::Admin {
                let granted =
                    |control: &Control| matches!(control, Control::Role { peer: of, admin: true } if of == peer);
                assert!(founder || of(&granted), "{who} is an admin at {at}, and nobody entitled granted it");
            }
            if person.active {
                assert!(
                    founder || self.is_admitted(peer),
                    "{who} is a member at {at}, and nobody entitled admitted it"
                );
            } else {
                let removes = |control: &Control| matches!(control, Control::Remove { peer: of, .. } if of == peer);
                let left =
                    |(entry, control): (&Entry, &Control)| entry.author() == *peer && matches!(control, Control::Leave);
                let gone = of(&removes) || self.controls().any(left);
                assert!(gone, "{who} is no member at {at}, and nobody entitled removed it");
            }
        }
        let names: BTreeSet<&String> = roster.people.values().map(|person| &person.peer.name).collect();
        assert_eq!(names.len(), roster.people.len(), "two peers are shown by one name at {at}");
        let founder = roster.people.get(&self.founder);
        let stays = founder.is_some_and(|founder| founder.active && founder.role == MemberRole::Admin);
        assert!(stays || self.founder_gave_up(), "the founder has lost its right at {at}");
    }
}

fn admits(control: &Control, who: &PeerId) -> bool {
    matches!(control, Control::Admit { peer, .. } if peer == who)
}

/// Whether the cuts of a removal keep an entry.
fn keeps(cuts: &[Dep], entry: &Entry) -> bool {
    cuts.iter().any(|cut| [entry.log(), entry.header().log].contains(&cut.log) && cut.seq >= entry.seq())
}

fn signed_place(entry: &Entry) -> Dep {
    Dep { log: entry.header().log, seq: entry.seq() }
}
