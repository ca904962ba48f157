//! Tests of the membership rules: each writes a little history and looks at what follows from it.

use std::sync::LazyLock;

use chat_proto::api::peers::MemberRole;
use chat_proto::id::{EntryHash, InviteId};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;

use super::*;
use crate::admission::codec::sign_ticket;
use crate::log::entry::{AdmitBy, Body, Dep, Entry, Header, Hlc, Incarnation};
use crate::membership::control_log::StoredStart;

mod attacks;
mod laws;

/// A history: entries of some peers in the order in which they were written, and what follows from them.
#[derive(Clone, Default)]
struct WrittenRoom {
    entries: Vec<Entry>,
    heads: BTreeMap<LogId, (Seq, EntryHash, Hlc)>,
    clock: u64,
    controls: ControlLog,
    authority: Authority,
    act_ends: BTreeMap<LogId, Seq>,
}

const ROOM: RoomId = RoomId::from_bytes([9; 32]);
const ANN: u8 = 1;
const BOB: u8 = 2;
const CAT: u8 = 3;
const DAN: u8 = 4;
const EVE: u8 = 5;

/// Keys of the peers and of tickets.
static KEYS: LazyLock<Vec<SigningKey>> = LazyLock::new(|| (0..=50).map(|n| SigningKey::from_bytes(&[n; 32])).collect());

fn key(n: u8) -> &'static SigningKey {
    &KEYS[usize::from(n)]
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes(key(n).verifying_key().to_bytes())
}

fn log(n: u8, incarnation: u64) -> LogId {
    LogId { author: peer(n), incarnation: Incarnation(incarnation) }
}

fn at(n: u8, incarnation: u64, seq: u64) -> Dep {
    Dep { log: log(n, incarnation), seq: Seq(seq) }
}

fn admit(n: u8, name: &str) -> Control {
    Control::Admit { peer: peer(n), name: name.into(), by: AdmitBy::Member }
}

fn invite(seed: u8, uses: u32) -> Control {
    Control::Invite { key: invite_id(seed), expires: Timestamp::from_ms(u64::MAX), uses }
}

fn invite_id(seed: u8) -> InviteId {
    InviteId::from_bytes(key(seed).verifying_key().to_bytes())
}

fn by_ticket(n: u8, seed: u8) -> Control {
    let name = format!("n{n}");
    let signature = sign_ticket(key(seed), &ROOM, &peer(n), &name);
    Control::Admit { peer: peer(n), name, by: AdmitBy::Invite { key: invite_id(seed), signature } }
}

fn remove(n: u8, kept: &[(u64, u64)]) -> Control {
    let cuts = kept.iter().map(|(incarnation, seq)| at(n, *incarnation, *seq)).collect();
    Control::Remove { peer: peer(n), cuts }
}

fn rename(name: &str) -> Control {
    Control::Rename { name: name.into() }
}

fn role(n: u8, admin: bool) -> Control {
    Control::Role { peer: peer(n), admin }
}

fn keys(n: u8) -> Control {
    Control::Keys { identity: [n; 32], fallback: [n; 32] }
}

impl WrittenRoom {
    /// A room that Ann founded.
    fn founded() -> Self {
        let mut history = Self::default();
        let genesis = Control::Genesis { room_name: "lab".into(), open: false, name: "ann".into(), nonce: [0; 16] };
        history.tell(ANN, genesis);
        history
    }

    /// The same with these as members besides, each with a log, in this order.
    fn with_members(others: &[u8]) -> Self {
        let mut history = Self::founded();
        for n in others {
            history.tell(ANN, admit(*n, &format!("n{n}"))).tell(*n, keys(*n));
        }
        history
    }

    /// The same as admins.
    fn with_admins(others: &[u8]) -> Self {
        let mut history = Self::with_members(others);
        for n in others {
            history.tell(ANN, role(*n, true));
        }
        history
    }

    /// An entry of a peer that knows everything so far, in its first log.
    fn tell(&mut self, by: u8, control: Control) -> &mut Self {
        let everything = self.heads.iter().map(|(log, (seq, ..))| Dep { log: *log, seq: *seq }).collect();
        self.clock += 1;
        self.write(by, 0, everything, Hlc(1_000_000 + self.clock), Body::Control(control))
    }

    /// An entry that names these others and carries this date.
    fn forge(&mut self, by: u8, incarnation: u64, deps: &[Dep], date: u64, control: Control) -> &mut Self {
        self.write(by, incarnation, deps.to_vec(), Hlc(date), Body::Control(control))
    }

    fn write(&mut self, by: u8, incarnation: u64, mut deps: Vec<Dep>, time: Hlc, body: Body) -> &mut Self {
        let log = log(by, incarnation);
        let before = self.heads.get(&log).copied();
        deps.retain(|dep| dep.log != log);
        let founds = matches!(body, Body::Control(Control::Genesis { .. }));
        let header = Header {
            version: 1,
            room: if founds { RoomId::from_bytes([0; 32]) } else { ROOM },
            log,
            seq: before.map_or(Seq(1), |(seq, ..)| seq.next()),
            backlink: before.map(|(_, hash, _)| hash),
            time,
            deps,
            body_hash: [0; 32],
            body_bytes: 0,
        };
        let entry = Entry::sign(header, body, key(by)).expect("signs");
        self.take(&entry);
        self.entries.push(entry);
        self
    }

    /// An entry arrives.
    fn take(&mut self, entry: &Entry) {
        let log = entry.log();
        let order = entry.header().order_after(self.heads.get(&log).map(|(_, _, order)| *order));
        self.heads.insert(log, (entry.seq(), entry.hash(), order));
        self.controls.begin_with(entry, order, None);
        self.authority.observe(entry);
        self.controls.add(entry, order, &ROOM);
    }

    /// The same entries, arrived in another order in which causes come first.
    fn shuffled(&self, choose: impl Fn(usize, usize) -> usize) -> Self {
        let mut other = Self { act_ends: self.act_ends.clone(), ..Self::default() };
        let mut left: Vec<&Entry> = self.entries.iter().collect();
        while !left.is_empty() {
            let held = |log: &LogId| other.heads.get(log).map_or(Seq::ZERO, |(seq, ..)| *seq);
            let ready = |entry: &&Entry| {
                entry.seq() == held(&entry.log()).next()
                    && entry.header().deps.iter().all(|dep| held(&dep.log) >= dep.seq)
            };
            let choice: Vec<usize> = (0..left.len()).filter(|n| ready(&left[*n])).collect();
            let next = left.remove(choice[choose(left.len(), choice.len())]);
            other.take(next);
            other.entries.push(next.clone());
        }
        other
    }

    /// A peer starts anew with what another has on its disk.
    fn restore(&mut self, other: &Self) {
        let mut order = BTreeMap::new();
        let mut logs = BTreeMap::new();
        let mut controls = Vec::new();
        for entry in &other.entries {
            let before = order.get(&entry.log()).copied();
            let at = entry.header().order_after(before);
            order.insert(entry.log(), at);
            let (signed, roots) = (entry.header().log, entry.header().deps.clone());
            logs.entry(entry.log()).or_insert(StoredStart { first: at, roots, signed, parent: None });
            controls.push((entry.clone(), at));
        }
        for entry in &other.entries {
            // Of the clocks, the store keeps those that differ from the one before.
            if let Some(clock) = other.authority.clock_of(entry) {
                self.authority.restore_clock(entry.log(), entry.seq(), clock.as_ref().clone());
            }
        }
        let controls = controls.into_iter().map(|(entry, order)| (Arc::new(entry), order));
        self.controls.restore(controls, &logs, &ROOM);
        self.authority.find_acts(&self.controls);
    }

    fn derive(&self) -> Derived {
        Derived::new(&self.controls, &self.authority, ROOM, &self.act_ends)
    }

    fn members(&self) -> Vec<u8> {
        let derived = self.derive();
        (0..=50).filter(|n| derived.roster.is_member(&peer(*n))).collect()
    }

    fn admins(&self) -> Vec<u8> {
        let derived = self.derive();
        let admin = |n: &u8| derived.roster.people.get(&peer(*n)).is_some_and(|p| p.role == MemberRole::Admin);
        (0..=50).filter(admin).collect()
    }

    fn name(&self, n: u8) -> String {
        self.derive().roster.peer_ref(&peer(n)).name
    }

    fn cut(&self, n: u8, incarnation: u64) -> Option<u64> {
        self.derive().cuts.get(&log(n, incarnation)).map(|seq| seq.0)
    }

    fn invite(&self, seed: u8) -> InviteState {
        self.derive().invites()[&invite_id(seed)].clone()
    }
}

#[test]
fn an_invite_admits_a_number_of_peers_and_no_more() {
    let mut history = WrittenRoom::with_members(&[BOB]);
    history.tell(ANN, invite(20, 2)).tell(ANN, by_ticket(13, 20)).tell(BOB, by_ticket(12, 20));
    history.tell(ANN, by_ticket(11, 20)).tell(BOB, by_ticket(12, 20));
    assert_eq!(history.members(), [ANN, BOB, 12, 13]);
    assert_eq!(history.invite(20).used, 2, "the same peer again uses nothing up");
}

#[test]
fn an_invite_is_revoked_by_its_author_or_an_admin() {
    for (by, revoked) in [(BOB, true), (ANN, true), (CAT, false), (DAN, false)] {
        let mut history = WrittenRoom::with_members(&[BOB, CAT]);
        history.tell(BOB, invite(20, 1)).tell(by, Control::Revoke { key: invite_id(20) });
        assert_eq!(history.invite(20).is_revoked(), revoked, "by {by}");
        history.tell(ANN, by_ticket(11, 20));
        assert_eq!(history.members().contains(&11), !revoked, "by {by}");
    }
}

#[test]
fn who_was_admitted_where_nobody_knew_of_the_revocation_stays() {
    let mut history = WrittenRoom::with_members(&[BOB, CAT]);
    history.tell(BOB, invite(20, 5));
    history.forge(ANN, 0, &[at(BOB, 0, 2)], 2_000_000, Control::Revoke { key: invite_id(20) });
    history.forge(CAT, 0, &[at(BOB, 0, 2)], 3_000_000, by_ticket(11, 20));
    history.tell(CAT, by_ticket(12, 20));
    assert!(history.invite(20).is_revoked());
    assert_eq!(history.members(), [ANN, BOB, CAT, 11]);
    let reversed = history.shuffled(|_, choices| choices - 1);
    assert_eq!(reversed.members(), history.members());
}

#[test]
fn no_peer_is_admitted_without_the_right() {
    let mut history = WrittenRoom::founded();
    history.tell(ANN, invite(20, 5)).tell(DAN, admit(11, "by-a-stranger")).tell(DAN, admit(DAN, "by-itself"));
    history.tell(ANN, by_ticket(12, 21));
    let Control::Admit { by, .. } = by_ticket(13, 20) else { unreachable!("an admission") };
    history.tell(ANN, Control::Admit { peer: peer(14), name: "n14".into(), by });
    assert_eq!(history.members(), [ANN]);
}

#[test]
fn a_removal_voids_what_its_author_had_not_seen() {
    let mut history = WrittenRoom::with_admins(&[BOB]);
    history.tell(BOB, admit(CAT, "seen"));
    let known = [at(ANN, 0, 3), at(BOB, 0, 2)];
    history.forge(BOB, 0, &[], 2_000_000, admit(DAN, "unseen")).forge(BOB, 0, &[], 2_000_001, role(CAT, true));
    history.forge(ANN, 0, &known, 1_500_000, remove(BOB, &[(0, 2)]));
    assert_eq!((history.members(), history.admins()), (vec![ANN, CAT], vec![ANN]));
    assert_eq!(history.cut(BOB, 0), Some(2));
}

#[test]
fn of_two_admins_that_remove_each_other_the_one_of_higher_rank_stays() {
    for dates in [(30, 31), (31, 30)] {
        let mut history = WrittenRoom::with_admins(&[BOB, CAT]);
        let known = [at(ANN, 0, 5), at(BOB, 0, 1), at(CAT, 0, 1)];
        history.forge(BOB, 0, &known, 2_000_000 + dates.0, remove(CAT, &[(0, 1)]));
        history.forge(CAT, 0, &known, 2_000_000 + dates.1, remove(BOB, &[(0, 1)]));
        assert_eq!(history.members(), [ANN, BOB], "{dates:?}");
    }
}

#[test]
fn a_removal_that_was_known_counts_although_its_author_was_removed_later() {
    for (kept, members) in [(2, vec![ANN]), (1, vec![ANN, CAT])] {
        let mut history = WrittenRoom::with_admins(&[BOB, CAT]);
        history.tell(BOB, remove(CAT, &[(0, 1)])).tell(ANN, remove(BOB, &[(0, kept)]));
        assert_eq!(history.members(), members, "kept up to {kept}");
        assert_eq!(history.cut(CAT, 0).is_some(), members.len() == 1);
    }
}

#[test]
fn only_admins_remove_and_grant() {
    let mut history = WrittenRoom::with_members(&[BOB, CAT]);
    history.tell(BOB, remove(CAT, &[])).tell(BOB, role(BOB, true)).tell(BOB, remove(CAT, &[]));
    assert_eq!((history.members(), history.admins()), (vec![ANN, BOB, CAT], vec![ANN]));
    history.tell(ANN, role(BOB, true)).tell(BOB, role(CAT, true)).tell(ANN, role(BOB, false));
    history.tell(BOB, remove(CAT, &[]));
    assert_eq!((history.members(), history.admins()), (vec![ANN, BOB, CAT], vec![ANN, CAT]));
}

#[test]
fn an_admin_is_struck_only_by_one_of_higher_rank() {
    let mut history = WrittenRoom::with_admins(&[BOB, CAT]);
    history.tell(BOB, role(ANN, false)).tell(CAT, remove(BOB, &[])).tell(BOB, remove(ANN, &[]));
    assert_eq!(history.admins(), [ANN, BOB, CAT], "the founder and those before");
    assert!(
        history.derive().may_strike(&peer(BOB), &peer(CAT)) && !history.derive().may_strike(&peer(CAT), &peer(BOB))
    );
    history.tell(BOB, role(CAT, false)).tell(CAT, role(BOB, false));
    assert_eq!(history.admins(), [ANN, BOB]);
    history.tell(ANN, role(BOB, false)).tell(ANN, role(CAT, true)).tell(CAT, remove(BOB, &[(0, 9)]));
    assert_eq!((history.members(), history.admins()), (vec![ANN, CAT], vec![ANN, CAT]), "a former admin is no admin");
}

#[test]
fn an_admin_may_give_up_its_right_or_leave() {
    let mut history = WrittenRoom::with_admins(&[BOB]);
    history.tell(BOB, role(BOB, false)).tell(BOB, role(CAT, true));
    assert_eq!(history.admins(), [ANN]);
    history
        .tell(ANN, role(BOB, true))
        .tell(ANN, Control::Leave)
        .tell(BOB, admit(ANN, "ann"))
        .tell(ANN, role(CAT, true));
    assert_eq!((history.members(), history.admins()), (vec![ANN, BOB], vec![BOB]), "the right does not come back");
}

#[test]
fn leaving_ends_a_log_and_keeps_what_was_written() {
    let mut history = WrittenRoom::with_admins(&[BOB]);
    history.tell(BOB, admit(CAT, "cat")).tell(BOB, Control::Leave).tell(BOB, admit(DAN, "too-late"));
    assert_eq!(history.members(), [ANN, CAT]);
    assert_eq!(history.cut(BOB, 0), Some(3));
    history.tell(ANN, admit(BOB, "bob-again"));
    let known = [at(ANN, 0, 4), at(BOB, 0, 4)];
    history.forge(BOB, 1, &known, 3_000_000, admit(DAN, "dan"));
    assert_eq!(history.members(), [ANN, BOB, CAT, DAN]);
    assert_eq!(history.admins(), [ANN], "rights do not come back");
    assert_eq!((history.cut(BOB, 0), history.cut(BOB, 1)), (Some(3), None));
}

/// Who lost its disk leaves in a new log, before it has its former one again: the leaving comes first in the shared order.
#[test]
fn leaving_takes_nothing_along_that_was_said_without_knowing_of_it() {
    let mut history = WrittenRoom::with_members(&[BOB]);
    history.tell(BOB, invite(20, 1)).tell(BOB, admit(CAT, "cat")).tell(CAT, keys(3));
    history.forge(BOB, 1, &[at(ANN, 0, 2)], 0, Control::Leave).forge(BOB, 2, &[at(ANN, 0, 2)], 0, keys(2));
    let order = |place| history.controls.position(&place).expect("it is held").order;
    assert!(order(at(BOB, 1, 1)) < order(at(BOB, 0, 3)), "the leaving stands before the admission");
    assert_eq!(history.members(), [ANN, CAT]);
    assert_eq!([0, 1, 2].map(|incarnation| history.cut(BOB, incarnation)), [None, Some(1), None]);
    assert_eq!((history.cut(CAT, 0), history.invite(20).is_revoked()), (None, false));
}

#[test]
fn a_log_begins_with_an_admission_or_a_former_log() {
    let mut history = WrittenRoom::with_members(&[BOB]);
    let admission = at(ANN, 0, 2);
    history.forge(BOB, 1, &[at(ANN, 0, 1)], 3_000_000, keys(1));
    history.forge(BOB, 2, &[admission], 3_000_000, keys(2));
    history.forge(BOB, 3, &[at(BOB, 2, 1)], 3_000_001, keys(3));
    history.forge(BOB, 4, &[at(BOB, 1, 1)], 3_000_001, keys(4));
    history.forge(DAN, 0, &[admission], 3_000_000, keys(5));
    let cuts = [1, 2, 3, 4].map(|incarnation| history.cut(BOB, incarnation));
    assert_eq!(cuts, [Some(0), None, None, Some(0)]);
    assert_eq!(history.cut(DAN, 0), Some(0), "a stranger's");
}

#[test]
fn a_removal_voids_logs_that_it_does_not_name_and_keeps_those_of_a_readmitted_peer() {
    let mut history = WrittenRoom::with_admins(&[BOB]);
    let admission = at(ANN, 0, 2);
    history.forge(BOB, 2, &[admission], 3_000_000, keys(2));
    history.tell(ANN, remove(BOB, &[(2, 1)])).forge(BOB, 3, &[admission], 3_000_001, keys(3));
    history.tell(ANN, admit(BOB, "bob")).forge(BOB, 4, &[at(ANN, 0, 5)], 3_000_002, keys(4));
    history.forge(BOB, 5, &[at(BOB, 4, 1)], 3_000_003, keys(5));
    let cuts = [0, 2, 3, 4, 5].map(|incarnation| history.cut(BOB, incarnation));
    assert_eq!(cuts, [Some(0), Some(1), Some(0), None, None]);
    history.tell(ANN, remove(BOB, &[(4, 1)]));
    assert_eq!((history.cut(BOB, 4), history.cut(BOB, 5)), (Some(1), Some(0)), "the next removal begins anew");
}

#[test]
fn a_removal_that_names_entries_which_are_not_written_yet_entitles_no_one() {
    let mut history = WrittenRoom::with_members(&[BOB]);
    history.tell(ANN, remove(BOB, &[(1, 9)])).forge(BOB, 1, &[at(ANN, 0, 2), at(ANN, 0, 3)], 0, admit(CAT, "cat"));
    assert_eq!(history.members(), [ANN]);
}

#[test]
fn a_removed_peer_is_readmitted_by_an_admin_alone() {
    let mut history = WrittenRoom::with_members(&[BOB, CAT]);
    history.tell(ANN, role(BOB, true)).tell(ANN, invite(20, 9)).tell(ANN, remove(CAT, &[(0, 1)]));
    history.tell(DAN, admit(CAT, "by-a-stranger")).tell(ANN, admit(EVE, "eve")).tell(EVE, admit(CAT, "by-a-member"));
    history.tell(ANN, by_ticket(CAT, 20));
    assert_eq!(history.members(), [ANN, BOB, EVE], "a ticket does not help either");
    history.forge(BOB, 0, &[at(ANN, 0, 5)], 4_000_000, admit(CAT, "not-knowing"));
    assert_eq!(history.members(), [ANN, BOB, EVE]);
    history.tell(BOB, admit(CAT, "cat"));
    assert_eq!(history.members(), [ANN, BOB, CAT, EVE]);
}

#[test]
fn a_removal_ends_the_invites_of_the_removed_peer() {
    let mut history = WrittenRoom::with_members(&[BOB, CAT]);
    history.tell(BOB, invite(20, 9)).tell(CAT, by_ticket(11, 20)).tell(ANN, remove(BOB, &[(0, 2)]));
    history.tell(CAT, by_ticket(12, 20));
    assert_eq!(history.members(), [ANN, CAT, 11]);
    assert!(history.invite(20).is_revoked());
}

#[test]
fn acts_of_an_admin_are_void_beyond_a_fork_and_admissions_are_not() {
    let mut history = WrittenRoom::with_admins(&[BOB]);
    history.tell(BOB, admit(CAT, "cat")).tell(BOB, role(CAT, true)).tell(BOB, admit(DAN, "dan"));
    history.tell(BOB, rename("bobby"));
    history.act_ends.insert(log(BOB, 0), Seq(2));
    assert_eq!((history.members(), history.admins()), (vec![ANN, BOB, CAT, DAN], vec![ANN, BOB]));
    assert_eq!((history.name(BOB), history.cut(BOB, 0)), ("bobby".into(), None));
}

#[test]
fn the_first_bearer_of_a_name_keeps_it() {
    let mut history = WrittenRoom::founded();
    history.tell(ANN, admit(BOB, "bob")).tell(ANN, admit(CAT, "BOB")).tell(ANN, admit(DAN, "b\u{43E}b"));
    assert_eq!(history.name(BOB), "bob");
    assert_eq!(history.name(CAT), format!("BOB~{}", peer(CAT).tag()));
    assert_eq!(history.name(DAN), format!("b\u{43E}b~{}", peer(DAN).tag()));
    history.tell(BOB, rename("rob"));
    assert_eq!((history.name(BOB), history.name(CAT)), ("rob".into(), "BOB".into()));
    history.tell(BOB, rename("bob"));
    assert_eq!(history.name(BOB), format!("bob~{}", peer(BOB).tag()), "a name that was given up is not kept");
    history.tell(ANN, remove(CAT, &[])).tell(ANN, remove(DAN, &[]));
    history.tell(BOB, rename("bob"));
    assert_eq!(history.name(BOB), "bob", "former members yield");
}

#[test]
fn a_name_whose_rename_is_void_gives_way_to_the_one_before() {
    let mut history = WrittenRoom::with_members(&[BOB]);
    history.tell(BOB, rename("seen")).tell(BOB, rename("unseen")).tell(ANN, remove(BOB, &[(0, 2)]));
    assert_eq!(history.name(BOB), "seen");
}

#[test]
fn keys_are_those_published_last() {
    let mut history = WrittenRoom::with_members(&[BOB]);
    assert_eq!(history.derive().roster.people[&peer(BOB)].keys.map(|keys| keys.fallback), Some([2; 32]));
    history.tell(BOB, keys(7)).tell(DAN, keys(3));
    assert_eq!(history.derive().roster.people[&peer(BOB)].keys.map(|keys| keys.fallback), Some([7; 32]));
    assert!(!history.derive().roster.people.contains_key(&peer(DAN)));
    history.tell(ANN, remove(BOB, &[(0, 2)])).tell(ANN, admit(BOB, "bob"));
    assert_eq!(history.derive().roster.people[&peer(BOB)].keys, None, "a new database has new keys");
}

#[test]
fn an_author_has_a_limited_number_of_logs() {
    let mut history = WrittenRoom::with_members(&[BOB]);
    let admission = at(ANN, 0, 2);
    for incarnation in 1..=AUTHOR_LOGS_MAX as u64 {
        history.forge(BOB, incarnation, &[admission], 2_000_000 + incarnation, keys(1));
    }
    let derived = history.derive();
    let void = derived.cuts.iter().filter(|(_, cut)| **cut == Seq::ZERO).map(|(log, _)| *log).collect::<Vec<_>>();
    assert_eq!(void, [log(BOB, AUTHOR_LOGS_MAX as u64)], "the last one is one too many");
    let next = history.controls.start(&log(BOB, 999), Hlc(9_000_000), &[admission], None);
    assert_eq!(derived.cut_of_new(&log(BOB, 999), &next, &history.controls), Some(Seq::ZERO));
}
