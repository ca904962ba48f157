//! Authority: which acts of admins count. Decided by causes; no rule reads an author's date.
//!
//! An *act* is an entry that only an admin may write with effect: a removal, a grant or demotion, the readmission of a removed
//! peer, the revocation of another's invite; besides, an admin's own leaving, and the founding of the room.
//!
//! # Rules
//!
//! 1. **Clock.** Every entry carries the acts that it causally follows: those of its dependencies, of the entry before it in
//!    its log, and itself ([`AuthorityClock`]). The clock follows from hashes and signatures, so it cannot be backdated: an
//!    author can only claim to know less than it does.
//! 2. **Grants.** The founding makes the founder an admin. A grant makes its target one. An act counts through a grant of its
//!    author that it follows, and that counts itself.
//! 3. **Rank.** A grant ranks by its depth (one more than the deepest act that it follows), then by its hash. The founding has
//!    rank zero. A grant always ranks below the one that it was made through.
//! 4. **Strikes.** A removal or demotion counts only if no grant of its target ranks above the one of its author: no admin is
//!    struck by an admin of lower rank. A grant that the strike knows to be struck already does not protect.
//! 5. **What a strike voids.** An act of the struck admin that follows the strike counts only through a grant that follows it,
//!    too. Any other act counts only if the strike knew it: a removal names the last valid entry of each log, a demotion or
//!    leaving knows the acts in its clock. So nothing that is written later under an older date, in another log, or with
//!    fewer dependencies has an effect.
//! 6. **Readmission.** A removed peer is a member again only by the hand of an admin who knew of the removal.
//!
//! # Why this is well-founded
//!
//! By rule 3 a grant's rank is below its author's, and by rule 4 only acts of higher rank void an act. So acts are decided
//! from the highest rank down, each once: no act that is decided later changes one that was decided earlier, there are no
//! conflicts of two that void each other, and the result is a function of the set of acts. Of two admins that strike each
//! other the one of higher rank stays.
//!
//! Compare: power levels in Matrix (an equal or higher level cannot be removed, <https://spec.matrix.org>), and delegation
//! graphs in Keyhive (<https://www.inkandswitch.com/keyhive/notebook/>), where a revocation reaches what was delegated
//! below it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use chat_proto::id::{EntryHash, PeerId};
use serde::{Deserialize, Serialize};

use crate::log::entry::{AdmitBy, Control, Dep, Entry, LogId, Seq};
use crate::membership::control_log::{ControlLog, Position};

/// The acts that an entry causally follows, itself included: of each log with acts the newest one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityClock(BTreeMap<LogId, Seq>);

impl AuthorityClock {
    /// Whether an act is among them.
    fn covers(&self, act: &Dep) -> bool {
        self.0.get(&act.log).is_some_and(|seq| *seq >= act.seq)
    }

    fn includes(&self, other: &Self) -> bool {
        other.0.iter().all(|(log, seq)| self.0.get(log).is_some_and(|own| own >= seq))
    }

    /// Grows with every act that is followed.
    fn sum(&self) -> u128 {
        self.0.values().map(|seq| u128::from(seq.0)).sum()
    }

    fn merge(&mut self, other: &Self) {
        for (log, seq) in &other.0 {
            let own = self.0.entry(*log).or_default();
            *own = (*own).max(*seq);
        }
    }
}

/// What an act does.
#[derive(Clone, Debug)]
enum Deed {
    Found,
    Grant(PeerId),
    Demote(PeerId),
    /// The last valid entry of each log of the removed peer that its author held.
    Remove(PeerId, BTreeMap<LogId, Seq>),
    Readmit,
    Revoke,
    Leave,
}

/// An act that is held, whether it counts or not.
#[derive(Clone, Debug)]
struct Act {
    deed: Deed,
    clock: Arc<AuthorityClock>,
    hash: EntryHash,
}

/// Depth among the acts, then the hash: lower values rank higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u32, EntryHash);

/// All acts that are held, and which of them each entry follows.
#[derive(Clone, Debug, Default)]
pub struct Authority {
    acts: BTreeMap<Dep, Act>,
    /// The founding and the grants, by the peer that they make an admin.
    grants: BTreeMap<PeerId, Vec<Dep>>,
    removals: BTreeMap<PeerId, Vec<Dep>>,
    /// For each log, the entries at which the clock changed.
    clocks: BTreeMap<LogId, Vec<(Seq, Arc<AuthorityClock>)>>,
}

impl Authority {
    /// Takes a clock from the disk; entries of a log in their order.
    pub(crate) fn restore_clock(&mut self, log: LogId, seq: Seq, clock: AuthorityClock) {
        self.clocks.entry(log).or_default().push((seq, Arc::new(clock)));
    }

    /// Finds the acts among all control entries: after a start, and when an entry was damaged until now.
    pub(crate) fn find_acts(&mut self, controls: &ControlLog) {
        let with_clock = |(position, item)| Some((position, item, self.change_at(&Position::place(position))?));
        let mut changes: Vec<_> = controls.iter().filter_map(with_clock).collect();
        changes.sort_by_key(|(position, _, clock)| (clock.sum(), **position));
        for (position, item, clock) in changes {
            self.keep_act(position.place(), item.hash, &item.control, clock);
        }
    }

    /// Takes an entry that was applied.
    pub fn observe(&mut self, entry: &Entry) {
        if self.has_passed(&place(entry)) {
            return;
        }
        if let Some(clock) = self.clock_of(entry) {
            self.clocks.entry(entry.log()).or_default().push((entry.seq(), clock.clone()));
            if let Some(control) = entry.control() {
                self.keep_act(place(entry), entry.hash(), control, clock);
            }
        }
    }

    /// The clock of an entry that is observed or next in its log, where it differs from that of the entry before it. Such
    /// clocks are stored with their entries.
    pub fn clock_of(&self, entry: &Entry) -> Option<Arc<AuthorityClock>> {
        let log = entry.log();
        if self.has_passed(&place(entry)) {
            return self.change_at(&place(entry));
        }
        let before = self.clock(&Dep { log, seq: Seq(entry.seq().0.saturating_sub(1)) });
        let mut clock: Option<AuthorityClock> = None;
        for other in entry.header().deps.iter().filter(|dep| dep.seq > Seq::ZERO).filter_map(|dep| self.clock(dep)) {
            let same = before.is_some_and(|before| Arc::ptr_eq(before, other));
            let known = clock.as_ref().or(before.map(Arc::as_ref));
            if !same && !known.is_some_and(|known| known.includes(other)) {
                clock.get_or_insert_with(|| before.map(|before| (**before).clone()).unwrap_or_default()).merge(other);
            }
        }
        if let Some(control) = entry.control() {
            let known = clock.as_ref().or(before.map(Arc::as_ref)).cloned().unwrap_or_default();
            if self.deed(&entry.author(), control, &known).is_some() {
                clock.get_or_insert(known).0.insert(log, entry.seq());
            }
        }
        clock.map(Arc::new)
    }

    /// Whether the clock of a log is known to have changed at a place or after it.
    fn has_passed(&self, place: &Dep) -> bool {
        self.clocks.get(&place.log).and_then(|known| known.last()).is_some_and(|(seq, _)| *seq >= place.seq)
    }

    fn change_at(&self, place: &Dep) -> Option<Arc<AuthorityClock>> {
        let known = self.clocks.get(&place.log)?;
        let at = known.binary_search_by_key(&place.seq, |(seq, _)| *seq).ok()?;
        known.get(at).map(|(_, clock)| clock.clone())
    }

    /// The clock at a place in a log: that of its newest entry up to there.
    fn clock(&self, place: &Dep) -> Option<&Arc<AuthorityClock>> {
        let known = self.clocks.get(&place.log)?;
        let after = known.partition_point(|(seq, _)| *seq <= place.seq);
        known.get(after.checked_sub(1)?).map(|(_, clock)| clock)
    }

    fn keep_act(&mut self, place: Dep, hash: EntryHash, control: &Control, clock: Arc<AuthorityClock>) {
        let author = place.log.author;
        let deed = self.deed(&author, control, &clock);
        let Some(deed) = deed.filter(|_| !self.acts.contains_key(&place)) else { return };
        match &deed {
            Deed::Found => self.grants.entry(author).or_default().push(place),
            Deed::Grant(peer) => self.grants.entry(*peer).or_default().push(place),
            Deed::Remove(peer, _) => self.removals.entry(*peer).or_default().push(place),
            Deed::Demote(_) | Deed::Readmit | Deed::Revoke | Deed::Leave => {}
        }
        self.acts.insert(place, Act { deed, clock, hash });
    }

    /// What a control entry does as an act; none where it is no act. It is one if it follows a grant of its author.
    fn deed(&self, author: &PeerId, control: &Control, clock: &AuthorityClock) -> Option<Deed> {
        let follows_one = |acts: Option<&Vec<Dep>>| acts.into_iter().flatten().any(|act| clock.covers(act));
        if matches!(control, Control::Genesis { .. }) {
            return Some(Deed::Found);
        }
        if !follows_one(self.grants.get(author)) {
            return None;
        }
        match control {
            Control::Role { peer, admin: true } => Some(Deed::Grant(*peer)),
            Control::Role { peer, admin: false } => Some(Deed::Demote(*peer)),
            Control::Remove { peer, cuts } => {
                let own = cuts.iter().filter(|dep| dep.log.author == *peer);
                Some(Deed::Remove(*peer, own.map(|dep| (dep.log, dep.seq)).collect()))
            }
            Control::Admit { peer, by: AdmitBy::Member, .. } if follows_one(self.removals.get(peer)) => {
                Some(Deed::Readmit)
            }
            Control::Revoke { .. } => Some(Deed::Revoke),
            Control::Leave => Some(Deed::Leave),
            Control::Admit { .. }
            | Control::Genesis { .. }
            | Control::Invite { .. }
            | Control::Rename { .. }
            | Control::Keys { .. } => None,
        }
    }

    /// Whether the entry there is an act.
    pub(crate) fn is_act(&self, place: &Dep) -> bool {
        self.acts.contains_key(place)
    }

    /// Every peer that may have written acts.
    pub(crate) fn admins(&self) -> BTreeSet<PeerId> {
        self.grants.keys().copied().collect()
    }

    /// The logs with acts that no other act follows: control entries depend on them directly.
    pub(crate) fn newest(&self) -> BTreeSet<LogId> {
        let mut newest: BTreeMap<LogId, &Dep> = BTreeMap::new();
        for (place, act) in self.in_order() {
            newest.retain(|_, other| !act.clock.covers(other));
            newest.insert(place.log, place);
        }
        newest.into_keys().collect()
    }

    /// The acts in an order in which each comes after those that it follows.
    fn in_order(&self) -> Vec<(&Dep, &Act)> {
        let mut acts: Vec<(&Dep, &Act)> = self.acts.iter().collect();
        acts.sort_by_key(|(place, act)| (act.clock.sum(), **place));
        acts
    }

    /// The rank of every act that does not lie beyond the end of a forked log.
    fn ranks(&self, ends: &BTreeMap<LogId, Seq>) -> BTreeMap<Dep, Rank> {
        let mut ranks: BTreeMap<Dep, Rank> = BTreeMap::new();
        for (place, act) in self.in_order() {
            if ends.get(&place.log).is_some_and(|end| place.seq > *end) {
                continue;
            }
            // Within a log the depth grows.
            let newest = act.clock.0.iter().filter_map(|(log, seq)| {
                let up_to = if *log == place.log { Seq(place.seq.0.saturating_sub(1)) } else { *seq };
                let of_log = Dep { log: *log, seq: Seq::ZERO }..=Dep { log: *log, seq: up_to };
                ranks.range(of_log).next_back().map(|(_, rank)| rank.0)
            });
            let depth = newest.max().map_or(0, |depth| depth.saturating_add(1));
            ranks.insert(*place, Rank(depth, act.hash));
        }
        ranks
    }

    /// Decides which acts count; those beyond the `ends` of forked logs do not.
    pub(crate) fn rule(&self, ends: &BTreeMap<LogId, Seq>) -> Rulings {
        let ranks = self.ranks(ends);
        let mut by_author: BTreeMap<PeerId, Vec<(&Dep, &Act, Rank)>> = BTreeMap::new();
        for (place, rank) in &ranks {
            if let Some(act) = self.acts.get(place) {
                by_author.entry(place.log.author).or_default().push((place, act, *rank));
            }
        }
        let mut rulings = Rulings::default();
        // What is decided next: acts through grants of higher rank first, and an admin's own demotion before its other acts.
        let mut queue = BinaryHeap::new();
        let entitle = |queue: &mut BinaryHeap<_>, author: &PeerId, grant: &Grant| {
            for (place, act, rank) in by_author.get(author).into_iter().flatten() {
                if **place != grant.place && act.clock.covers(&grant.place) {
                    queue.push(Reverse((grant.rank, !act.ends_own_right(author), *rank, **place, grant.place)));
                }
            }
        };
        let founding = |(place, _): &(&Dep, &Rank)| self.acts.get(*place).is_some_and(Act::founds);
        for (place, rank) in ranks.iter().filter(founding) {
            let Some(act) = self.acts.get(place) else { continue };
            let grant = Grant { place: *place, rank: *rank, clock: act.clock.clone() };
            rulings.counted.insert(*place);
            entitle(&mut queue, &place.log.author, &grant);
            rulings.grants.entry(place.log.author).or_default().push(grant);
        }
        while let Some(Reverse((_, _, rank, place, through))) = queue.pop() {
            let Some(act) = self.acts.get(&place).filter(|_| !rulings.counted.contains(&place)) else { continue };
            if !rulings.entitles(&place, act, &through) {
                continue;
            }
            rulings.counted.insert(place);
            if let Deed::Grant(peer) = &act.deed {
                let grant = Grant { place, rank, clock: act.clock.clone() };
                entitle(&mut queue, peer, &grant);
                rulings.grants.entry(*peer).or_default().push(grant);
            }
            rulings.enact(place, act);
        }
        rulings
    }
}

impl Act {
    fn founds(&self) -> bool {
        matches!(self.deed, Deed::Found)
    }

    /// Whether its author gives up its own right.
    fn ends_own_right(&self, author: &PeerId) -> bool {
        match &self.deed {
            Deed::Leave => true,
            Deed::Demote(peer) => peer == author,
            Deed::Found | Deed::Grant(_) | Deed::Remove(..) | Deed::Readmit | Deed::Revoke => false,
        }
    }
}

/// A grant that counts.
#[derive(Clone, Debug)]
struct Grant {
    place: Dep,
    rank: Rank,
    clock: Arc<AuthorityClock>,
}

/// A removal, demotion or leaving that counts.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    place: Dep,
    clock: Arc<AuthorityClock>,
    /// Of a removal, the last valid entry of each log that is named.
    kept: Option<BTreeMap<LogId, Seq>>,
}

impl Strike {
    /// Whether an act of the struck admin was known to it.
    fn knew(&self, act: &Dep) -> bool {
        match &self.kept {
            Some(kept) => kept.get(&act.log).is_some_and(|seq| *seq >= act.seq),
            None => self.clock.covers(act),
        }
    }
}

/// Which acts count, and what follows from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rulings {
    counted: BTreeSet<Dep>,
    grants: BTreeMap<PeerId, Vec<Grant>>,
    strikes: BTreeMap<PeerId, Vec<Strike>>,
    readmissions: BTreeMap<Dep, Arc<AuthorityClock>>,
}

impl Rulings {
    /// Whether an act counts.
    pub(crate) fn counts(&self, act: &Dep) -> bool {
        self.counted.contains(act)
    }

    /// Whether a peer has the right now: to write an act that knows everything.
    pub(crate) fn is_admin(&self, peer: &PeerId) -> bool {
        self.grants.get(peer).into_iter().flatten().any(|grant| self.struck(peer).all(|s| grant.clock.covers(&s.place)))
    }

    /// Whether `author` may remove or demote `target` now.
    pub(crate) fn may_strike(&self, author: &PeerId, target: &PeerId) -> bool {
        let best = |peer: &PeerId| {
            let grants = self.grants.get(peer).into_iter().flatten();
            let alive = |grant: &&Grant| self.struck(peer).all(|strike| grant.clock.covers(&strike.place));
            grants.filter(alive).map(|grant| grant.rank).min()
        };
        best(author).is_some_and(|own| author == target || best(target).is_none_or(|other| own < other))
    }

    /// Removals of a peer: where they stand, and the last valid entry of each log that they name.
    pub(crate) fn removals(&self, peer: &PeerId) -> impl Iterator<Item = (&Dep, &BTreeMap<LogId, Seq>)> {
        self.struck(peer).filter_map(|strike| Some((&strike.place, strike.kept.as_ref()?)))
    }

    /// Whether an admission is the readmission by an admin who knew of a removal.
    pub(crate) fn readmits(&self, admission: &Dep, removal: &Dep) -> bool {
        self.readmissions.get(admission).is_some_and(|clock| clock.covers(removal))
    }

    fn enact(&mut self, place: Dep, act: &Act) {
        let strike = |kept| Strike { place, clock: act.clock.clone(), kept };
        match &act.deed {
            Deed::Demote(peer) => self.strikes.entry(*peer).or_default().push(strike(None)),
            Deed::Leave => self.strikes.entry(place.log.author).or_default().push(strike(None)),
            Deed::Remove(peer, kept) => self.strikes.entry(*peer).or_default().push(strike(Some(kept.clone()))),
            Deed::Readmit => {
                self.readmissions.insert(place, act.clock.clone());
            }
            Deed::Grant(_) | Deed::Revoke | Deed::Found => {}
        }
    }

    fn struck(&self, peer: &PeerId) -> impl Iterator<Item = &Strike> {
        self.strikes.get(peer).into_iter().flatten()
    }

    /// Whether an act counts through a grant of its author, after everything of higher rank is decided.
    fn entitles(&self, place: &Dep, act: &Act, through: &Dep) -> bool {
        let author = &place.log.author;
        let grants = self.grants.get(author).into_iter().flatten();
        let Some(grant) = grants.into_iter().find(|grant| grant.place == *through) else { return false };
        let stands = self.struck(author).all(|strike| {
            if act.clock.covers(&strike.place) { grant.clock.covers(&strike.place) } else { strike.knew(place) }
        });
        let target = match &act.deed {
            Deed::Remove(peer, _) if peer == author => return false,
            Deed::Demote(peer) if peer == author => return stands,
            Deed::Demote(peer) | Deed::Remove(peer, _) => peer,
            Deed::Found | Deed::Grant(_) | Deed::Readmit | Deed::Revoke | Deed::Leave => return stands,
        };
        let protects = |other: &Grant| {
            let known_struck = |strike: &Strike| act.clock.covers(&strike.place) && !other.clock.covers(&strike.place);
            other.rank < grant.rank && !self.struck(target).any(known_struck)
        };
        stands && !self.grants.get(target).into_iter().flatten().any(protects)
    }
}

fn place(entry: &Entry) -> Dep {
    Dep { log: entry.log(), seq: entry.seq() }
}
