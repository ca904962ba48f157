//! Tests of the membership rules, each a little replay.

use std::sync::LazyLock;

use chat_proto::id::{EntryHash, InviteId, PeerId, RoomId};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::admission::codec::sign_ticket;
use crate::log::entry::{AdmitBy, Body, Entry, Header, Incarnation};

/// Control entries of some peers, each with a log of its own, and what follows from them.
#[derive(Clone, Default)]
struct Told {
    controls: ControlLog,
    logs: BTreeMap<LogId, Hlc>,
    seqs: BTreeMap<LogId, u64>,
    forks: BTreeMap<LogId, Seq>,
}

const ROOM: RoomId = RoomId::from_bytes([9; 32]);
const ANN: u8 = 1;
const BOB: u8 = 2;
const CAT: u8 = 3;
const DAN: u8 = 4;

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

fn time(at: u64) -> Hlc {
    Hlc::from_wall(Timestamp::from_ms(1_000_000 + at))
}

fn admit(n: u8, name: &str) -> Control {
    Control::Admit { peer: peer(n), name: name.into(), by: AdmitBy::Member }
}

fn invite(seed: u8, expires: u64, uses: u32) -> Control {
    Control::Invite { key: invite_id(seed), expires: Timestamp::from_ms(1_000_000 + expires), uses }
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
    let cuts = kept.iter().map(|(incarnation, seq)| Dep { log: log(n, *incarnation), seq: Seq(*seq) }).collect();
    Control::Remove { peer: peer(n), cuts }
}

fn rename(name: &str) -> Control {
    Control::Rename { name: name.into() }
}

fn role(n: u8, admin: bool) -> Control {
    Control::Role { peer: peer(n), admin }
}

impl Told {
    /// A room that Ann founded.
    fn founded() -> Self {
        let mut told = Self::default();
        let genesis = Control::Genesis { room_name: "lab".into(), open: false, name: "ann".into(), nonce: [0; 16] };
        told.tell_under(ANN, 0, 0, genesis);
        told
    }

    /// The same with these as members besides, in this order, and as admins.
    fn with_admins(others: &[u8]) -> Self {
        let mut told = Self::founded();
        for (at, n) in (1..).zip(others) {
            told.tell(ANN, at * 2, admit(*n, &format!("n{n}"))).tell(ANN, at * 2 + 1, role(*n, true));
        }
        told
    }

    fn tell(&mut self, by: u8, at: u64, control: Control) -> &mut Self {
        self.tell_under(by, 0, at, control)
    }

    /// An entry of a peer's log under some incarnation.
    fn tell_under(&mut self, by: u8, incarnation: u64, at: u64, control: Control) -> &mut Self {
        let log = log(by, incarnation);
        let seq = self.seqs.entry(log).or_default();
        *seq += 1;
        let header = Header {
            version: 1,
            room: if matches!(control, Control::Genesis { .. }) { RoomId::from_bytes([0; 32]) } else { ROOM },
            log,
            seq: Seq(*seq),
            backlink: (*seq > 1).then_some(EntryHash::from_bytes([0; 32])),
            time: time(at),
            deps: Vec::new(),
            body_hash: [0; 32],
            body_bytes: 0,
        };
        let entry = Entry::sign(header, Body::Control(control), key(by)).expect("signs");
        self.logs.entry(log).or_insert(time(at));
        self.controls.add(&entry, time(at), &ROOM);
        self
    }

    /// A log without control entries begins.
    fn talks(&mut self, by: u8, incarnation: u64, at: u64) -> &mut Self {
        self.logs.entry(log(by, incarnation)).or_insert(time(at));
        self
    }

    fn derive(&self) -> Derived {
        derive(&self.controls, ROOM, self.forks.clone(), &self.logs)
    }

    fn members(&self) -> Vec<u8> {
        let derived = self.derive();
        (0..=50).filter(|n| derived.roster.is_member(&peer(*n))).collect()
    }

    fn admins(&self) -> Vec<u8> {
        let derived = self.derive();
        let admin = |n: &u8| {
            derived.roster.people.get(&peer(*n)).is_some_and(|p| p.role == chat_proto::api::peers::MemberRole::Admin)
        };
        (0..=50).filter(admin).collect()
    }

    fn name(&self, n: u8) -> String {
        self.derive().roster.peer_ref(&peer(n)).name
    }

    fn cut(&self, n: u8, incarnation: u64) -> Option<u64> {
        self.derive().cuts.get(&log(n, incarnation)).map(|seq| seq.0)
    }
}

#[test]
fn an_invite_lets_in_so_many_and_no_more_the_earliest_first() {
    let mut told = Told::founded();
    told.tell(ANN, 1, invite(20, 100, 2)).tell(ANN, 2, admit(BOB, "bob"));
    // Told in another order than they happened, and one of them by another member.
    told.tell(ANN, 30, by_ticket(13, 20)).tell(BOB, 20, by_ticket(12, 20)).tell(ANN, 31, by_ticket(11, 20));
    assert_eq!(told.members(), [ANN, BOB, 12, 13]);
    told.tell(BOB, 10, by_ticket(12, 20));
    assert_eq!(told.members(), [ANN, BOB, 12, 13], "the same one again uses nothing up");
    assert_eq!(told.derive().invites[&invite_id(20)].used, 2);
}

#[test]
fn an_invite_ends() {
    for (end, at, lets_in) in [
        (invite(20, 50, 1), 50, true),
        (invite(20, 50, 1), 51, false),
        (Control::Revoke { key: invite_id(20) }, 19, true),
        (Control::Revoke { key: invite_id(20) }, 21, false),
    ] {
        let mut told = Told::founded();
        if matches!(end, Control::Revoke { .. }) {
            told.tell(ANN, 1, invite(20, 100, 1)).tell(ANN, 20, end.clone());
        } else {
            told.tell(ANN, 1, end.clone());
        }
        told.tell(ANN, at, by_ticket(11, 20));
        assert_eq!(told.members().contains(&11), lets_in, "{end:?} at {at}");
    }
}

#[test]
fn only_its_author_and_admins_revoke_an_invite() {
    for (by, revoked) in [(BOB, true), (ANN, true), (CAT, false), (DAN, false)] {
        let mut told = Told::founded();
        told.tell(ANN, 1, admit(BOB, "bob")).tell(ANN, 2, admit(CAT, "cat")).tell(BOB, 3, invite(20, 100, 1));
        told.tell(by, 4, Control::Revoke { key: invite_id(20) });
        assert_eq!(told.derive().invites[&invite_id(20)].revoked, revoked, "by {by}");
    }
}

#[test]
fn nobody_is_let_in_without_the_right() {
    let mut told = Told::founded();
    told.tell(ANN, 1, invite(20, 100, 5));
    told.tell(DAN, 2, admit(11, "by-a-stranger")).tell(DAN, 3, admit(DAN, "by-itself"));
    told.tell(ANN, 4, by_ticket(12, 21));
    let Control::Admit { by, .. } = by_ticket(13, 20) else { unreachable!("an admission") };
    told.tell(ANN, 5, Control::Admit { peer: peer(14), name: "n14".into(), by });
    assert_eq!(told.members(), [ANN]);
}

#[test]
fn a_removal_beats_what_the_removed_one_did_at_the_same_time() {
    let mut told = Told::with_admins(&[BOB]);
    told.tell(BOB, 20, admit(CAT, "seen")).tell(BOB, 21, admit(DAN, "unseen"));
    told.tell(BOB, 40, role(CAT, true)).tell(ANN, 30, remove(BOB, &[(0, 1)]));
    assert_eq!(told.members(), [ANN, CAT]);
    assert_eq!(told.admins(), [ANN]);
    assert_eq!(told.cut(BOB, 0), Some(1));
}

#[test]
fn of_two_who_remove_each_other_the_senior_stays() {
    for (first, second) in [(30, 31), (31, 30), (30, 30)] {
        let mut told = Told::with_admins(&[BOB, CAT]);
        told.talks(BOB, 0, 10).talks(CAT, 0, 10);
        told.tell(BOB, first, remove(CAT, &[(0, 0)])).tell(CAT, second, remove(BOB, &[(0, 0)]));
        assert_eq!(told.members(), [ANN, BOB], "{first} {second}");
    }
}

#[test]
fn a_removal_that_its_author_had_seen_counts_though_it_comes_from_somebody_who_was_removed_then() {
    let mut told = Told::with_admins(&[BOB, CAT]);
    told.talks(CAT, 0, 10).tell(BOB, 30, remove(CAT, &[(0, 5)])).tell(ANN, 40, remove(BOB, &[(0, 1)]));
    assert_eq!(told.members(), [ANN]);
    told = Told::with_admins(&[BOB, CAT]);
    told.talks(CAT, 0, 10).tell(BOB, 30, remove(CAT, &[(0, 5)])).tell(ANN, 40, remove(BOB, &[(0, 0)]));
    assert_eq!(told.members(), [ANN, CAT], "and one that it had not seen does not");
    assert_eq!(told.cut(CAT, 0), None, "and cuts nothing");
}

#[test]
fn only_admins_remove_and_grant() {
    let mut told = Told::founded();
    told.tell(ANN, 1, admit(BOB, "bob")).tell(ANN, 2, admit(CAT, "cat"));
    told.tell(BOB, 10, remove(CAT, &[])).tell(BOB, 11, role(BOB, true)).tell(BOB, 12, remove(CAT, &[]));
    assert_eq!(told.members(), [ANN, BOB, CAT]);
    told.tell(ANN, 20, role(BOB, true)).tell(BOB, 30, role(CAT, true)).tell(ANN, 40, role(BOB, false));
    told.tell(BOB, 50, remove(CAT, &[]));
    assert_eq!(told.admins(), [ANN, CAT]);
    assert_eq!(told.members(), [ANN, BOB, CAT]);
}

#[test]
fn whoever_leaves_is_gone_and_what_was_written_stays() {
    let mut told = Told::with_admins(&[BOB]);
    told.tell(BOB, 10, admit(CAT, "cat")).tell(BOB, 11, Control::Leave).tell(BOB, 12, admit(DAN, "too-late"));
    assert_eq!(told.members(), [ANN, CAT]);
    assert_eq!(told.cut(BOB, 0), Some(2));
    told.tell(ANN, 20, admit(BOB, "bob-again")).tell_under(BOB, 1, 21, admit(DAN, "dan"));
    assert_eq!(told.members(), [ANN, BOB, CAT, DAN]);
    assert_eq!(told.admins(), [ANN], "rights do not come back");
    assert_eq!((told.cut(BOB, 0), told.cut(BOB, 1)), (Some(2), None));
}

#[test]
fn a_removed_member_comes_back_with_a_new_ticket_and_a_new_log() {
    let mut told = Told::founded();
    told.tell(ANN, 1, invite(20, 100, 9)).tell(ANN, 2, by_ticket(11, 20)).talks(11, 0, 3);
    told.tell(ANN, 10, remove(11, &[(0, 7)])).tell(ANN, 11, by_ticket(11, 20));
    assert_eq!(told.members(), [ANN], "the old ticket does not help");
    told.talks(11, 1, 12);
    assert_eq!((told.cut(11, 0), told.cut(11, 1)), (Some(7), Some(0)), "nor does another database");
    told.tell(ANN, 20, invite(21, 100, 1)).tell(ANN, 21, by_ticket(11, 21)).talks(11, 2, 22);
    assert_eq!(told.members(), [ANN, 11]);
    let cuts = [0, 1, 2].map(|incarnation| told.cut(11, incarnation));
    assert_eq!(cuts, [Some(7), Some(0), None]);
}

/// The author of a removal may not know that the member had left and come back: the log that says so may be void by
/// then.
#[test]
fn leaving_and_coming_back_shelters_no_log_from_a_removal_that_does_not_name_it() {
    let mut told = Told::with_admins(&[BOB]);
    told.tell(ANN, 10, admit(DAN, "dan"));
    let mut more = told.clone();
    told.talks(DAN, 0, 20);
    more.tell_under(DAN, 0, 20, invite(20, 100, 9)).tell(DAN, 30, Control::Leave).tell(BOB, 40, admit(DAN, "dan"));
    assert_eq!((more.members(), more.cut(DAN, 0)), (vec![ANN, BOB, DAN], Some(2)));
    for told in [&mut told, &mut more] {
        told.tell(ANN, 50, remove(DAN, &[]));
        assert_eq!((told.members(), told.cut(DAN, 0)), (vec![ANN, BOB], Some(0)));
        assert!(told.derive().invites.is_empty());
    }
    more.tell(BOB, 60, admit(DAN, "dan")).talks(DAN, 1, 61).tell(ANN, 70, remove(DAN, &[(1, 3)]));
    assert_eq!((more.cut(DAN, 0), more.cut(DAN, 1)), (Some(0), Some(3)), "the next removal starts anew");
}

#[test]
fn a_log_counts_when_its_author_was_a_member_as_it_began() {
    let mut told = Told::with_admins(&[BOB]);
    told.talks(DAN, 0, 5).talks(BOB, 1, 1).talks(BOB, 2, 5).talks(BOB, 3, 25).tell(ANN, 20, remove(BOB, &[(2, 4)]));
    assert_eq!(told.cut(DAN, 0), Some(0), "a stranger's");
    assert_eq!(told.cut(BOB, 1), Some(0), "from before the admission");
    assert_eq!(told.cut(BOB, 2), Some(4), "named by the removal");
    assert_eq!(told.cut(BOB, 3), Some(0), "from after the removal");
    let derived = told.derive();
    assert_eq!(derived.cut(&log(BOB, 4), time(10)), Some(Seq(0)), "not named by the removal");
    assert_eq!(derived.cut(&log(ANN, 4), time(10)), None);
}

#[test]
fn a_fork_ends_a_log_and_what_was_granted_behind_it() {
    let mut told = Told::with_admins(&[BOB]);
    told.tell(BOB, 10, admit(CAT, "cat")).tell(BOB, 11, admit(DAN, "dan")).tell(BOB, 12, rename("bobby"));
    told.forks.insert(log(BOB, 0), Seq(1));
    assert_eq!(told.members(), [ANN, BOB, CAT]);
    assert_eq!(told.name(BOB), "n2");
    assert_eq!(told.cut(BOB, 0), Some(1));
}

#[test]
fn the_earliest_bearer_of_a_name_keeps_it() {
    let mut told = Told::founded();
    told.tell(ANN, 1, admit(BOB, "bob")).tell(ANN, 2, admit(CAT, "BOB")).tell(ANN, 3, admit(DAN, "b\u{43E}b"));
    assert_eq!(told.name(BOB), "bob");
    assert_eq!(told.name(CAT), format!("BOB~{}", peer(CAT).tag()));
    assert_eq!(told.name(DAN), format!("b\u{43E}b~{}", peer(DAN).tag()));
    told.tell(BOB, 10, rename("rob"));
    assert_eq!((told.name(BOB), told.name(CAT)), ("rob".into(), "BOB".into()));
    told.tell(BOB, 20, rename("bob"));
    assert_eq!(told.name(BOB), format!("bob~{}", peer(BOB).tag()), "who gave it up comes behind");
    told.tell(ANN, 30, remove(CAT, &[])).tell(ANN, 31, remove(DAN, &[]));
    assert_eq!(told.name(BOB), "bob", "former members stand back");
}

#[test]
fn a_name_that_was_cut_off_gives_way_to_the_one_before() {
    let mut told = Told::founded();
    told.tell(ANN, 1, admit(BOB, "bob")).tell(BOB, 10, rename("seen")).tell(BOB, 20, rename("unseen"));
    told.tell(ANN, 30, remove(BOB, &[(0, 1)]));
    assert_eq!(told.name(BOB), "seen");
}

#[test]
fn keys_are_those_published_last() {
    let keys = |n: u8| Control::Keys { identity: [n; 32], fallback: [n; 32] };
    let mut told = Told::founded();
    told.tell(ANN, 1, admit(BOB, "bob")).tell(BOB, 12, keys(2)).tell_under(BOB, 1, 11, keys(1)).tell(DAN, 13, keys(3));
    assert_eq!(told.derive().roster.people[&peer(BOB)].keys, Some(([2; 32], [2; 32])));
    assert!(!told.derive().roster.people.contains_key(&peer(DAN)));
    told.tell(ANN, 20, remove(BOB, &[(0, 1), (1, 1)])).tell(ANN, 30, admit(BOB, "bob"));
    assert_eq!(told.derive().roster.people[&peer(BOB)].keys, None, "a new database has new keys");
}

/// Any control entry of one of five peers.
fn any_control() -> impl Strategy<Value = (u8, u64, u64, Control)> {
    let n = || 1..6u8;
    let control = prop_oneof![
        (n(), "[ab]").prop_map(|(n, name)| admit(n, &name)),
        (20..23u8, 0..60u64, 0..3u32).prop_map(|(seed, expires, uses)| invite(seed, expires, uses)),
        (20..23u8).prop_map(|seed| Control::Revoke { key: invite_id(seed) }),
        (n(), 20..23u8).prop_map(|(n, seed)| by_ticket(n, seed)),
        (n(), 0..2u64, 0..6u64).prop_map(|(n, incarnation, seq)| remove(n, &[(incarnation, seq)])),
        (n(), any::<bool>()).prop_map(|(n, admin)| role(n, admin)),
        "[abc]{1,2}".prop_map(|name| rename(&name)),
        Just(Control::Leave),
    ];
    (n(), 0..2u64, 1..60u64, control)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_rules_are_a_function_of_the_set(
        replay in proptest::collection::vec(any_control(), 0..40),
        swaps in proptest::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let mut told = Told::founded();
        let mut times: BTreeMap<LogId, u64> = BTreeMap::new();
        for (by, incarnation, step, control) in replay {
            let at = times.entry(log(by, incarnation)).or_default();
            *at += step;
            let at = *at;
            told.tell_under(by, incarnation, at, control);
        }
        let one = told.derive();
        // The same controls, added in another order.
        let mut controls: Vec<(Position, ControlItem)> = told.controls.iter().map(|(position, item)| (*position, item.clone())).collect();
        for (at, swap) in swaps.iter().enumerate().take(controls.len()) {
            let other = swap.index(controls.len());
            let at = at % controls.len();
            controls.swap(at, other);
        }
        let shuffled = controls.into_iter().fold(ControlLog::default(), ControlLog::with);
        let other = derive(&shuffled, ROOM, BTreeMap::new(), &told.logs);
        prop_assert_eq!(&one.roster, &other.roster);
        prop_assert_eq!(&one.invites, &other.invites);
        prop_assert_eq!(&one.cuts, &other.cuts);
        // A peer that is no longer a member is not an admin.
        prop_assert!(one.roster.people.values().all(|person| person.active || person.role == chat_proto::api::peers::MemberRole::Member));
    }
}
