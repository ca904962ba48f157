//! Laws that hold for every history.

use proptest::prelude::*;

use super::*;

/// Any control entry about some of five peers.
fn any_control() -> impl Strategy<Value = Control> {
    let n = || 1..6u8;
    prop_oneof![
        (n(), "[ab]").prop_map(|(n, name)| admit(n, &name)),
        (20..23u8, 0..3u32).prop_map(|(seed, uses)| invite(seed, uses)),
        (20..23u8).prop_map(|seed| Control::Revoke { key: invite_id(seed) }),
        (n(), 20..23u8).prop_map(|(n, seed)| by_ticket(n, seed)),
        (n(), 0..2u64, 0..6u64).prop_map(|(n, incarnation, seq)| remove(n, &[(incarnation, seq)])),
        (n(), any::<bool>()).prop_map(|(n, admin)| role(n, admin)),
        "[abc]{1,2}".prop_map(|name| rename(&name)),
        Just(Control::Leave),
    ]
}

/// An entry: author, incarnation, date, the share of each log that it names, and what it says.
type Step = (u8, u64, u64, Vec<u8>, Control);

fn any_step(authors: std::ops::Range<u8>) -> impl Strategy<Value = Step> {
    (authors, 0..3u64, 0..2_000_000u64, proptest::collection::vec(any::<u8>(), 12), any_control())
}

fn write(history: &mut WrittenRoom, (by, incarnation, date, shares, control): Step) {
    let known = history.heads.iter().zip(shares.iter().cycle());
    let known = known.map(|((log, (seq, ..)), share)| Dep { log: *log, seq: Seq(seq.0 * u64::from(*share) / 255) });
    let deps: Vec<Dep> = known.filter(|dep| dep.seq > Seq::ZERO).collect();
    history.forge(by, incarnation, &deps, date, control);
}

/// The same history as a peer sees it that derives anew only where it must.
fn running(history: &WrittenRoom) -> Derived {
    let mut derived = Derived::default();
    let mut grown = WrittenRoom::default();
    for entry in &history.entries {
        grown.take(entry);
        let position = grown.controls.position(&Dep { log: entry.log(), seq: entry.seq() }).copied();
        let advanced = derived.log_began(&entry.log(), &grown.controls)
            && position.is_some_and(|position| derived.advance(&position, &grown.controls, &grown.authority))
            && derived.log_began(&entry.log(), &grown.controls);
        if !advanced {
            derived = grown.derive();
        }
    }
    derived
}

/// A peer need not hold the logs of an author that are too many, so their control entries change nothing.
#[test]
fn what_is_written_in_a_log_too_many_changes_nothing() {
    let mut few = WrittenRoom::with_members(&[BOB]);
    let first = few.heads.values().map(|(_, _, order)| order.0).max().expect("it has entries");
    let mut many = few.clone();
    for n in 0..2 * AUTHOR_LOGS_MAX as u64 {
        let control = if n % 2 == 0 { invite(20, 5) } else { admit(10, "x") };
        many.forge(BOB, n + 1, &[at(ANN, 0, 2)], first + 1 + n, control.clone());
        // Its log that begins last of those that are valid is the last one that is needed.
        if n + 1 < AUTHOR_LOGS_MAX as u64 {
            few.forge(BOB, n + 1, &[at(ANN, 0, 2)], first + 1 + n, control);
        }
    }
    for (n, control) in [(700, admit(DAN, "dan")), (701, rename("bobby")), (702, invite(21, 5)), (703, keys(9))] {
        many.forge(BOB, n, &[at(ANN, 0, 2)], first + 10_000 + n, control);
    }
    let reversed = many.shuffled(|left, choices| left % choices);
    for derived in [many.derive(), reversed.derive(), running(&many), running(&reversed)] {
        assert_eq!(derived.roster, few.derive().roster);
        assert_eq!(derived.invites(), few.derive().invites());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_follows_is_a_function_of_the_set(
        steps in proptest::collection::vec(any_step(1..6), 0..40),
        picks in proptest::collection::vec(any::<usize>(), 50),
    ) {
        let mut history = WrittenRoom::with_admins(&[BOB, CAT]);
        steps.into_iter().for_each(|step| write(&mut history, step));
        let one = history.derive();
        let other = history.shuffled(|left, choices| picks[left % picks.len()] % choices);
        let mut restarted = WrittenRoom::default();
        restarted.restore(&other);
        for derived in [other.derive(), running(&other), restarted.derive()] {
            prop_assert_eq!(&one.roster, &derived.roster);
            prop_assert_eq!(one.invites(), derived.invites());
            prop_assert_eq!(&one.cuts, &derived.cuts);
        }
        // A peer that is no longer a member is not an admin.
        prop_assert!(one.roster.people.values().all(|person| person.active || person.role == MemberRole::Member));
    }

    #[test]
    fn nothing_that_a_removed_author_writes_later_changes_anything(
        steps in proptest::collection::vec(any_step(1..5), 0..20),
        later in proptest::collection::vec(any_step(5..6), 1..12),
    ) {
        let mut history = WrittenRoom::with_admins(&[EVE, BOB]);
        steps.into_iter().for_each(|step| write(&mut history, step));
        let own = history.heads.iter().filter(|(log, _)| log.author == peer(EVE));
        let kept: Vec<(u64, u64)> = own.map(|(log, (seq, ..))| (log.incarnation.0, seq.0)).collect();
        history.tell(ANN, remove(EVE, &kept));
        let before = history.derive();
        prop_assume!(before.is_removed(&peer(EVE)));
        later.into_iter().for_each(|step| write(&mut history, step));
        let after = history.derive();
        prop_assert_eq!(&after.roster, &before.roster);
        prop_assert_eq!(after.invites(), before.invites());
        let others = |derived: &Derived| {
            let cuts = derived.cuts.iter().filter(|(log, _)| log.author != peer(EVE));
            cuts.map(|(log, seq)| (*log, *seq)).collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&after), others(&before));
    }

    #[test]
    fn nothing_that_a_demoted_author_writes_later_takes_or_grants_a_right(
        steps in proptest::collection::vec(any_step(1..5), 0..20),
        later in proptest::collection::vec(any_step(5..6), 1..12),
    ) {
        let mut history = WrittenRoom::with_admins(&[EVE, BOB]);
        steps.into_iter().for_each(|step| write(&mut history, step));
        // The entry of a former admin demotes no one.
        prop_assume!(history.admins().contains(&ANN));
        history.tell(ANN, role(EVE, false));
        let rights = |history: &WrittenRoom| {
            let derived = history.derive();
            let people = derived.roster.people.iter();
            people.map(|(peer, person)| (*peer, person.active, person.role)).collect::<Vec<_>>()
        };
        let before = rights(&history);
        prop_assume!(!history.admins().contains(&EVE));
        let is_act = |control: &Control| matches!(control, Control::Remove { .. } | Control::Role { .. });
        let acts = later.into_iter().filter(|(.., control)| is_act(control));
        acts.for_each(|step| write(&mut history, step));
        prop_assert_eq!(rights(&history), before);
    }
}

/// Every history of two entries of a member, of several kinds, in two logs, naming more or less of what is there: none
/// gains a right that it was not given, takes one, or takes a name.
#[test]
fn no_short_history_of_a_member_gains_a_right() {
    let mut base = WrittenRoom::with_admins(&[BOB]);
    base.tell(ANN, admit(EVE, "eve")).tell(EVE, keys(5)).tell(ANN, admit(CAT, "cat"));
    let (admission, grant) = (at(ANN, 0, 4), at(ANN, 0, 3));
    let acts = || [remove(ANN, &[(0, 1)]), role(EVE, true), remove(CAT, &[]), role(BOB, false), rename("cat")];
    let knowledge = [vec![], vec![admission], vec![grant, at(BOB, 0, 1)], vec![at(EVE, 0, 1)]];
    let rights = |history: &WrittenRoom| {
        let derived = history.derive();
        let name = |n| derived.roster.peer_ref(&peer(n)).name;
        (history.admins(), history.members(), [ANN, BOB, CAT].map(name))
    };
    let before = rights(&base);
    let mut tried = 0;
    let mut pending = vec![(base, 0)];
    while let Some((history, depth)) = pending.pop() {
        assert_eq!(rights(&history), before);
        tried += 1;
        if depth == 2 {
            continue;
        }
        for act in acts() {
            for deps in &knowledge {
                for incarnation in 0..2 {
                    let mut next = history.clone();
                    next.forge(EVE, incarnation, deps, 1, act.clone());
                    pending.push((next, depth + 1));
                }
            }
        }
    }
    assert_eq!(tried, 1 + 40 + 40 * 40);
}
