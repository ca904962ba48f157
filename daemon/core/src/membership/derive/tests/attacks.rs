//! What members with a grudge write, each as a test that is red when its guard is taken out.

use super::*;
use crate::membership::roster::ResolveError;

/// The room of the attacks: Bob was an admin and is none any more; Cat is a member.
fn demoted() -> WrittenRoom {
    let mut history = WrittenRoom::with_admins(&[BOB]);
    history.tell(ANN, admit(CAT, "cat")).tell(CAT, keys(3)).tell(ANN, role(BOB, false));
    assert_eq!(history.admins(), [ANN]);
    history
}

#[test]
fn a_demoted_admin_opens_a_second_log_with_an_old_date() {
    let (admission, grant) = (at(ANN, 0, 2), at(ANN, 0, 3));
    for deps in [vec![], vec![admission], vec![grant], vec![at(BOB, 0, 1)], vec![grant, at(BOB, 0, 1)]] {
        for act in [remove(ANN, &[(0, 1)]), role(ANN, false), role(CAT, true), remove(CAT, &[])] {
            let mut history = demoted();
            let before = history.derive().roster;
            history.forge(BOB, 7, &deps, 1, act.clone());
            assert_eq!(history.derive().roster, before, "{act:?} with {deps:?}");
        }
    }
}

#[test]
fn a_demoted_admin_goes_on_in_its_old_log_as_if_it_had_not_heard() {
    let mut history = demoted();
    let before = history.derive().roster;
    history.forge(BOB, 0, &[], 1, role(CAT, true)).forge(BOB, 0, &[at(ANN, 0, 3)], 1, remove(CAT, &[]));
    assert_eq!(history.derive().roster, before);
}

#[test]
fn a_grant_that_was_not_known_when_its_author_was_demoted_entitles_no_one() {
    let mut history = demoted();
    let before = history.derive().roster;
    history.forge(BOB, 7, &[at(ANN, 0, 3)], 1, role(CAT, true));
    history.forge(CAT, 7, &[at(ANN, 0, 4), at(BOB, 7, 1)], 2, remove(ANN, &[(0, 1)]));
    assert_eq!(history.derive().roster, before);
}

#[test]
fn a_removed_member_writes_in_logs_that_its_removal_does_not_name() {
    let mut history = WrittenRoom::with_members(&[BOB, CAT]);
    history.tell(BOB, invite(20, 1000)).tell(ANN, remove(BOB, &[(0, 2)]));
    let before = history.derive();
    for (incarnation, deps) in [(1, vec![]), (2, vec![at(ANN, 0, 2)]), (3, vec![at(BOB, 0, 2)])] {
        history.forge(BOB, incarnation, &deps, 1, admit(BOB, "n2")).forge(BOB, incarnation, &deps, 2, admit(DAN, "x"));
        history.forge(BOB, incarnation, &deps, 3, rename("n3")).forge(BOB, incarnation, &deps, 4, invite(21, 9));
    }
    history.forge(CAT, 0, &[at(ANN, 0, 2)], 1, by_ticket(BOB, 20)).forge(CAT, 0, &[], 1, admit(BOB, "n2"));
    let after = history.derive();
    assert_eq!(after.roster, before.roster);
    assert!(after.invites().values().all(InviteState::is_revoked));
    assert!((1..=3).all(|incarnation| after.cuts[&log(BOB, incarnation)] == Seq::ZERO));
}

#[test]
fn a_member_dates_a_rename_back_to_take_a_name() {
    let mut history = WrittenRoom::with_members(&[EVE]);
    history.tell(ANN, admit(BOB, "zoe"));
    for (incarnation, deps) in [(0, vec![]), (1, vec![at(ANN, 0, 2)]), (2, vec![at(EVE, 0, 1)])] {
        history.forge(EVE, incarnation, &deps, 1, rename("zoe"));
        assert_eq!(history.name(BOB), "zoe");
        assert_eq!(history.name(EVE), format!("zoe~{}", peer(EVE).tag()));
    }
}

#[test]
fn a_name_that_two_took_without_knowing_of_each_other_is_shown_with_tags() {
    let mut history = WrittenRoom::with_members(&[BOB, EVE]);
    let known = [at(ANN, 0, 3)];
    history.forge(BOB, 0, &known, 2_000_000, rename("zoe")).forge(EVE, 0, &known, 1, rename("zoe"));
    for n in [BOB, EVE] {
        assert_eq!(history.name(n), format!("zoe~{}", peer(n).tag()));
    }
    let ambiguous = history.derive().roster.resolve("zoe");
    assert!(matches!(ambiguous, Err(ResolveError::Ambiguous { .. })), "{ambiguous:?}");
}

#[test]
fn a_member_with_a_thousand_logs_is_removed() {
    let mut history = WrittenRoom::with_members(&[EVE]);
    for incarnation in 1..=1000 {
        history.forge(EVE, incarnation, &[at(ANN, 0, 2)], incarnation, keys(1));
    }
    history.forge(ANN, 0, &[at(EVE, 0, 1)], 2_000_000, remove(EVE, &[(0, 1)]));
    assert_eq!(history.members(), [ANN]);
    let derived = history.derive();
    assert!((1..=1000).all(|incarnation| derived.cuts[&log(EVE, incarnation)] == Seq::ZERO));
}
