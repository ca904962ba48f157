//! What happens when the disk is slow, full or gone.

use std::time::Duration;

use chat_proto::api::messages::Wait;

use crate::input::{Command, Input, PersistError};
use crate::log::entry::{Control, Dep, Entry, Seq};
use crate::node::tests::kit::{Disk, Kit, Peer, post};
use crate::output::{CommandError, Reply};
use crate::restore::Start;

#[test]
fn a_room_whose_first_entry_could_not_be_written_is_written_later() {
    let mut kit = Kit::with_disk(Disk::Fails(PersistError::DiskFull));
    assert!(kit.peers[0].logs.is_empty());
    kit.peers[0].disk = Disk::Writes;
    kit.pass(Duration::from_secs(2));
    kit.say(0, "hello");
    let log = kit.peers[0].node.local.log;
    assert!(kit.peers[0].logs[&log][0].is_genesis());
    kit.join(1);
    kit.assert_alike();
}

#[test]
fn a_full_disk_refuses_posts_and_loses_nothing_that_others_say() {
    let mut kit = Kit::room(2);
    kit.peers[1].disk = Disk::Fails(PersistError::DiskFull);
    assert_eq!(kit.command(1, post("no room", Wait::Stored, 1)), Some(Err(CommandError::DiskFull)));
    kit.say(0, "one");
    kit.say(0, "two");
    let id = kit.begin(1, post("queued until the next try", Wait::Stored, 1));
    kit.pass(Duration::from_secs(2));
    assert_eq!(kit.peers[1].replies.get(&id), Some(&Err(CommandError::DiskFull)));
    kit.peers[1].disk = Disk::Writes;
    kit.pass(Duration::from_secs(2));
    kit.say(1, "three");
    kit.assert_alike();
    assert_eq!(kit.peers[0].history(), ["one", "two", "three"]);
}

#[test]
fn another_failure_is_not_called_a_full_disk() {
    let mut kit = Kit::new();
    kit.peers[0].disk = Disk::Fails(PersistError::Failed);
    assert_eq!(kit.command(0, post("no", Wait::Stored, 1)), Some(Err(CommandError::StoreFailed)));
}

#[test]
fn what_is_cut_off_before_it_is_written_is_never_shown() {
    let mut kit = Kit::room(3);
    kit.disconnect(0, 2);
    kit.disconnect(0, 1);
    kit.peers[1].disk = Disk::Waits;
    kit.say(2, "being written when the cut comes");
    kit.say(2, "waits behind it");
    let removed = kit.peers[2].id;
    assert_eq!(kit.command(0, Command::Remove(removed)), Some(Ok(Reply::Done)));
    kit.connect(0, 1);
    assert_eq!(kit.peers[1].waiting.len(), 1, "one batch is being written, the rest waits behind it");
    kit.let_write(1);
    assert!(kit.peers[1].history().is_empty());
    assert!(kit.peers[1].shown.len() <= 1, "only what the disk had been given already: {:?}", kit.peers[1].shown);
    assert!(kit.peers[0].history().is_empty());
}

/// No crash comes between a removal and what it hides.
#[test]
fn own_removal_is_written_with_its_cuts() {
    let mut kit = Kit::room(3);
    kit.say(2, "said before");
    kit.peers[0].disk = Disk::Waits;
    let removed = kit.peers[2].id;
    kit.begin(0, Command::Remove(removed));
    let batch = kit.peers[0].waiting.front().expect("the removal is being written");
    let failed = batch.id;
    let removes = |control: &Control| matches!(control, Control::Remove { .. });
    assert!(batch.entries.iter().any(|item| item.entry.control().is_some_and(removes)));
    let cut: Vec<_> = batch.changes.cuts.keys().map(|log| log.author).collect();
    assert_eq!(cut, [removed]);
    // Where it cannot be written, nothing is hidden.
    kit.peers[0].waiting.clear();
    kit.input(0, Input::PersistFailed(failed, PersistError::DiskFull));
    kit.peers[0].disk = Disk::Writes;
    kit.pass(Duration::from_secs(2));
    kit.say(2, "still a member");
    assert_eq!(kit.peers[0].history(), ["said before", "still a member"]);
    assert!(kit.peers[0].hidden.is_empty(), "{:?}", kit.peers[0].hidden);
}

#[test]
fn a_crash_loses_what_nobody_was_told() {
    let mut kit = Kit::room(2);
    kit.say(0, "stored");
    kit.peers[0].disk = Disk::Waits;
    let id = kit.begin(0, post("lost", Wait::Stored, 1));
    assert_eq!(kit.peers[0].replies.get(&id), None);
    kit.peers[0].disk = Disk::Writes;
    kit.restart(0);
    kit.connect(0, 1);
    kit.say(0, "after the crash");
    kit.say(1, "an answer");
    kit.assert_alike();
    assert_eq!(kit.peers[1].history(), ["stored", "after the crash", "an answer"]);
}

#[test]
fn an_old_disk_that_comes_back_begins_a_new_log() {
    let mut kit = Kit::room(2);
    kit.say(0, "one");
    let (logs, log) = (kit.peers[0].logs.clone(), kit.peers[0].node.local.log);
    kit.say(0, "two");
    kit.peers[0].logs = logs;
    kit.restart(0);
    kit.connect(0, 1);
    kit.say(0, "three");
    assert_ne!(kit.peers[0].node.local.log, log);
    kit.assert_alike();
    assert_eq!(kit.peers[0].history(), ["one", "two", "three"]);
}

#[test]
fn a_lost_disk_is_filled_again() {
    let mut kit = Kit::room(3);
    kit.say(0, "one");
    kit.say(1, "two");
    kit.peers[0].logs.clear();
    kit.peers[0].incarnation = crate::log::entry::Incarnation(77);
    kit.restart(0);
    kit.connect(0, 1);
    kit.connect(0, 2);
    kit.say(0, "three");
    kit.assert_alike();
    assert_eq!(kit.peers[0].history(), ["one", "two", "three"]);
}

/// Promise P2: nothing that was shown disappears because a machine dies between two writes.
#[test]
fn cut_whose_removal_was_lost_in_a_crash_hides_nothing() {
    let mut kit = Kit::room(3);
    kit.disconnect(1, 2);
    kit.peers[1].disk = Disk::Waits;
    kit.disconnect(0, 1);
    kit.say(2, "said before the removal came");
    kit.connect(1, 2);
    kit.let_write(1);
    kit.disconnect(0, 2);
    kit.peers[1].disk = Disk::Waits;
    let removed = kit.peers[2].id;
    assert_eq!(kit.command(0, Command::Remove(removed)), Some(Ok(Reply::Done)));
    let shown = kit.peers[1].history();
    kit.connect(0, 1);
    assert_eq!(kit.peers[1].waiting.len(), 1, "the removal is on its way to the disk");
    // The machine dies, and comes back where only the removed peer reaches it.
    kit.peers[1].disk = Disk::Writes;
    kit.restart(1);
    assert_eq!(kit.peers[1].history(), shown);
    assert_eq!(shown, ["said before the removal came"]);
}

#[test]
fn messages_that_nothing_cuts_any_more_are_shown_after_a_start() {
    let mut kit = Kit::room(3);
    kit.say(2, "hidden by a cut that was lifted");
    let log = kit.peers[2].node.local.log;
    kit.peers[1].hidden.insert(log, crate::log::entry::Seq::ZERO);
    assert!(kit.peers[1].history().is_empty());
    kit.restart(1);
    kit.assert_alike();
}

/// Promise P1: a home that was rolled back as a whole does not write over what others hold of it.
#[test]
fn old_home_that_posts_before_it_hears_of_others_loses_nothing() {
    let mut kit = Kit::room(3);
    kit.say(0, "one");
    let (logs, log) = (kit.peers[0].logs.clone(), kit.peers[0].node.local.log);
    kit.say(0, "two");
    kit.peers[0].logs = logs;
    kit.restart(0);
    let early = kit.begin(0, post("three", Wait::Stored, 1));
    assert_eq!(kit.peers[0].replies.get(&early), None, "it waits for a member's word");
    kit.connect(0, 1);
    kit.connect(0, 2);
    assert!(kit.peers[0].replies.contains_key(&early));
    assert_ne!(kit.peers[0].node.local.log, log);
    kit.assert_alike();
    assert_eq!(kit.peers[0].history(), ["one", "two", "three"]);
}

#[test]
fn member_that_shows_the_own_head_lets_the_log_go_on() {
    let mut kit = Kit::room(2);
    kit.say(0, "one");
    let log = kit.peers[0].node.local.log;
    kit.peers[0].mark_agrees = false;
    kit.restart(0);
    kit.connect(0, 1);
    kit.say(0, "two");
    assert_eq!(kit.peers[0].node.local.log, log);
    kit.assert_alike();
}

#[test]
fn mark_decides_where_no_member_answers() {
    for mark_agrees in [true, false] {
        let mut kit = Kit::room(2);
        kit.say(0, "one");
        let log = kit.peers[0].node.local.log;
        let head = kit.peers[0].node.logs.heads.seq(&log);
        kit.peers[0].mark_agrees = mark_agrees;
        kit.restart(0);
        let alone = kit.begin(0, post("two", Wait::Stored, 1));
        kit.pass(Duration::from_millis(499));
        assert_eq!(kit.peers[0].replies.get(&alone), None);
        kit.pass(Duration::from_millis(2));
        assert!(kit.peers[0].replies.contains_key(&alone), "the wait is bounded");
        let now = kit.peers[0].node.local.log;
        assert_eq!(now == log, mark_agrees);
        let last = kit.peers[0].logs[&now].last().expect("written").clone();
        let follows = last.header().deps.contains(&crate::log::entry::Dep { log, seq: head });
        assert!(mark_agrees || follows, "a new log depends on the former one: {:?}", last.header().deps);
        kit.connect(0, 1);
        kit.assert_alike();
    }
}

#[test]
fn room_of_one_waits_for_nobody() {
    let mut kit = Kit::new();
    kit.say(0, "one");
    kit.restart(0);
    kit.say(0, "two");
    assert_eq!(kit.peers[0].history(), ["one", "two"]);
    assert_eq!(kit.peers[0].logs.len(), 1);
}

#[test]
fn entry_damaged_on_a_peers_disk_is_fetched_from_another_peer() {
    let mut kit = Kit::room(3);
    kit.disconnect(2, 0);
    kit.disconnect(2, 1);
    kit.say(0, "before");
    kit.say(0, "damaged");
    kit.say(0, "after");
    let log = kit.peers[0].node.local.log;
    let seq = Seq(kit.peers[0].node.logs.heads.seq(&log).0 - 1);
    kit.peers[0].damaged.insert(Dep { log, seq });
    kit.connect(2, 0);
    kit.pass(Duration::from_secs(30));
    assert!(kit.is_linked(2, 0), "the peer is honest: {:?}", kit.peers[2].closed);
    assert_eq!(kit.peers[2].history(), ["before"]);
    kit.connect(2, 1);
    kit.pass(Duration::from_secs(30));
    kit.assert_alike();
    assert!(kit.is_linked(2, 0));
}

#[test]
fn damaged_entry_is_fetched_anew_from_a_member_that_holds_it() {
    let mut kit = Kit::room(3);
    kit.say(0, "damaged later");
    kit.say(1, "something else");
    let log = kit.peers[0].node.local.log;
    let seq = kit.peers[0].node.logs.heads.seq(&log);
    let hash = kit.peers[0].node.logs.heads.head(&log).expect("a head").hash;
    kit.disconnect(0, 1);
    kit.disconnect(0, 2);
    kit.input(0, Input::Damaged(log, seq));
    kit.input(0, Input::Damaged(log, seq));
    kit.pass(Duration::from_secs(60));
    assert!(kit.peers[0].repaired.is_empty(), "no member is connected");
    kit.peers[1].damaged.insert(Dep { log, seq });
    kit.connect(0, 1);
    kit.connect(0, 2);
    kit.pass(Duration::from_secs(30));
    let repaired: Vec<_> = kit.peers[0].repaired.iter().map(|entry| entry.hash()).collect();
    assert_eq!(repaired, [hash], "once, and from the peer whose copy is good");
    assert!(kit.is_linked(0, 1));
    kit.assert_alike();
}

#[test]
fn peer_that_starts_with_a_damaged_control_entry_gets_it_back() {
    let mut kit = Kit::room(2);
    let mut restored = kit.peers[1].restored();
    let genesis = restored
        .controls
        .iter()
        .position(|(_, signed, _)| Entry::from_trusted(signed.clone()).is_ok_and(|entry| entry.is_genesis()));
    let genesis = genesis.expect("the first entry");
    restored.controls[genesis].1.body = Some(vec![0; 9]);
    kit.disconnect(0, 1);
    kit.peers[1] = Peer::new(1, Start::Restore(restored), kit.peers[1].incarnation, kit.now);
    let log = kit.peers[0].node.local.log;
    kit.input(1, Input::Damaged(log, Seq(1)));
    kit.connect(0, 1);
    kit.pass(Duration::from_secs(30));
    assert_eq!(kit.peers[1].repaired.len(), 1);
    assert_eq!(kit.peers[1].node.roster(), kit.peers[0].node.roster());
}

/// A member whose copies of the admissions of all others are damaged once took them for strangers and could ask none of them.
#[test]
fn member_with_damaged_admissions_reaches_the_members_it_saw_before() {
    let mut kit = Kit::room(3);
    kit.say(2, "kept");
    let other = kit.peers[2].id;
    let admits_other = |entry: &Entry| matches!(entry.control(), Some(Control::Admit { peer, .. }) if *peer == other);
    let all = kit.peers[1].in_order();
    let place = all.into_iter().find(|(_, entry)| admits_other(entry)).expect("an admission");
    let place = Dep { log: place.1.log(), seq: place.1.seq() };
    kit.peers[1].damaged.insert(place);
    kit.peers[1].dials.clear();
    kit.restart(1);
    kit.pass(Duration::from_secs(1));
    assert!(kit.peers[1].node.roster().unsure.contains(&other), "its gate lets it in");
    assert!(kit.peers[1].dials.contains(&other));
    assert_eq!(kit.peers[1].history(), ["kept"], "no message is hidden on account of what is missing");
    kit.connect(1, 2);
    kit.pass(Duration::from_secs(30));
    assert!(kit.peers[1].repaired.iter().any(|entry| admits_other(entry)));
    assert!(kit.peers[1].node.roster().unsure.is_empty());
    kit.connect(1, 0);
    kit.assert_alike();
}
