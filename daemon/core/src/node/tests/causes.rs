//! Dependencies that are hard to obtain: beyond cuts, in void logs. Each was found by a
//! simulation.

use std::time::Duration;

use crate::input::{Command, Verdict};
use crate::log::entry::{Dep, Entry, Head, Hlc, LogId, Seq, SignedEntry};
use crate::node::tests::forger::Forger;
use crate::node::tests::kit::Kit;
use crate::output::Reply;
use crate::wire::Frame;

fn done(kit: &mut Kit, n: usize, command: Command) {
    assert_eq!(kit.command(n, command), Some(Ok(Reply::Done)));
}

fn last(kit: &Kit, n: usize) -> Dep {
    let log = kit.peers[n].node.local.log;
    Dep { log, seq: kit.peers[n].node.logs.heads.seq(&log) }
}

fn entries(kit: &Kit, at: usize, log: &LogId) -> Vec<SignedEntry> {
    kit.peers[at].logs[log].iter().map(|entry| entry.signed().clone()).collect()
}

/// What covered a cause may be cut off; the cause is one all the same.
#[test]
fn what_an_author_had_seen_before_a_cut_stays_a_cause() {
    let mut kit = Kit::room(4);
    let (admin, removed) = (kit.peers[3].id, kit.peers[2].id);
    done(&mut kit, 0, Command::SetAdmin(admin, Verdict::Yes));
    kit.disconnect_all(3);
    kit.say(1, "question");
    kit.say(2, "builds on the question, and is cut off");
    let question = last(&kit, 1);
    done(&mut kit, 3, Command::Remove(removed));
    kit.connect(3, 0);
    assert_eq!(kit.peers[0].history(), ["question"]);
    kit.say(0, "answer");
    let log = kit.peers[0].node.local.log;
    let answer = kit.peers[0].logs[&log].last().expect("answered").header().deps.clone();
    assert!(answer.contains(&question), "{answer:?}");
}

/// An entry behind a cut does not count, and what it builds on does.
#[test]
fn what_stands_behind_a_cut_carries_its_causes() {
    let mut kit = Kit::room(4);
    let removed = kit.peers[2].id;
    kit.say(2, "before the cut");
    let mut behind = Forger::behind(&kit, 2);
    done(&mut kit, 0, Command::Remove(removed));
    kit.disconnect_all(0);
    kit.say(3, "question");
    let question = last(&kit, 3);
    behind.header.deps = vec![question];
    behind.header.time = kit.peers[3].node.logs.heads.clock().next().max(Hlc::from_wall(kit.now.wall));
    let link = behind.say("behind the cut");
    let mut answering = Forger::behind(&kit, 1);
    answering.header.deps = vec![Dep { log: behind.header.log, seq: Seq(2) }];
    answering.header.time = behind.header.time;
    let answer = answering.say("answer");
    kit.connect(0, 1);
    kit.disconnect(1, 3);
    kit.frame(0, 1, &Frame::Entries(vec![answer]));
    assert!(!kit.peers[0].history().contains(&"answer".to_owned()));
    kit.frame(0, 1, &Frame::Entries(vec![link]));
    assert!(
        !kit.peers[0].history().contains(&"answer".to_owned())
            || kit.peers[0].history().contains(&"question".to_owned())
    );
    let told = entries(&kit, 3, &question.log);
    kit.frame(0, 1, &Frame::Entries(told));
    assert_eq!(kit.peers[0].history(), ["before the cut", "question", "answer"]);
}

/// A void log can be the only one that depends on a valid entry.
#[test]
fn what_was_seen_by_way_of_a_log_that_counts_for_nothing_is_waited_for() {
    let mut kit = Kit::room(4);
    let mut unnamed = Forger::new(&kit, 2, 501);
    let removed = kit.peers[2].id;
    let mut hidden = vec![unnamed.say("hidden")];
    done(&mut kit, 0, Command::Remove(removed));
    kit.disconnect_all(0);
    kit.disconnect_all(1);
    kit.say(3, "question");
    let question = last(&kit, 3);
    unnamed.header.deps = vec![question];
    unnamed.header.time = kit.peers[3].node.logs.heads.clock().next().max(Hlc::from_wall(kit.now.wall));
    hidden.push(unnamed.say("builds on the question, and is hidden"));
    let mut answering = Forger::behind(&kit, 1);
    answering.header.deps = vec![Dep { log: unnamed.header.log, seq: Seq(2) }];
    answering.header.time = unnamed.header.time;
    let answer = answering.say("answer");
    kit.connect(0, 1);
    kit.frame(0, 1, &Frame::Entries(hidden.clone()));
    assert_eq!(kit.peers[0].logs[&unnamed.header.log].len(), 1, "nothing builds on more of it");
    kit.frame(0, 1, &Frame::Entries(vec![answer]));
    kit.frame(0, 1, &Frame::Entries(hidden));
    assert!(kit.peers[0].history().is_empty(), "the answer waits for the question");
    let told = entries(&kit, 3, &question.log);
    kit.frame(0, 1, &Frame::Entries(told));
    assert_eq!(kit.peers[0].history(), ["question", "answer"]);
    assert_eq!(kit.peers[0].shown.len(), 2);
    kit.join(4);
    assert_eq!(kit.peers[4].history(), ["question", "answer"], "whoever shows the answer can tell why");
}

/// A void log may be lost with the peers that kept it.
#[test]
fn what_builds_on_a_lost_log_that_counts_for_nothing_is_shown_in_the_end() {
    let mut kit = Kit::room(3);
    let mut unnamed = Forger::new(&kit, 2, 501);
    let removed = kit.peers[2].id;
    let first = unnamed.say("hidden");
    unnamed.say("lost");
    done(&mut kit, 0, Command::Remove(removed));
    let mut answering = Forger::behind(&kit, 1);
    answering.header.deps = vec![Dep { log: unnamed.header.log, seq: Seq(2) }];
    let answer = answering.say("answer");
    let hash = Entry::from_trusted(answer.clone()).expect("signed").hash();
    let head = Head { log: answering.header.log, seq: Seq(1), hash };
    kit.frame(0, 1, &Frame::Entries(vec![first, answer]));
    kit.frame(0, 1, &Frame::Vector { heads: vec![head], reply: false });
    kit.pass(Duration::from_secs(10));
    assert!(kit.peers[0].history().is_empty(), "it may come yet");
    kit.pass(Duration::from_secs(60));
    assert_eq!(kit.peers[0].history(), ["answer"]);
}

/// A peer that holds only dependants of void logs can still show a newcomer why they are void.
#[test]
fn logs_that_count_for_nothing_keep_no_newcomer_waiting() {
    let mut kit = Kit::room(3);
    let removed = kit.peers[2].id;
    done(&mut kit, 0, Command::Remove(removed));
    let mut unknown = Forger::new(&kit, 2, 501);
    let more: Vec<SignedEntry> = (0..3).map(|n| unknown.say(&format!("after the removal {n}"))).collect();
    let mut stranger = Forger::new(&kit, 9, 1);
    let strange = stranger.say("never let in");
    let mut fooled = Forger::behind(&kit, 1);
    fooled.header.deps =
        vec![Dep { log: unknown.header.log, seq: Seq(2) }, Dep { log: stranger.header.log, seq: Seq(1) }];
    let builds = fooled.say("builds on both");
    kit.frame(0, 1, &Frame::Entries(more.clone()));
    kit.frame(0, 1, &Frame::Entries(vec![strange]));
    kit.frame(0, 1, &Frame::Entries(vec![builds]));
    kit.frame(0, 1, &Frame::Entries(more));
    assert_eq!(kit.peers[0].history(), ["builds on both"]);
    kit.restart(0);
    kit.disconnect_all(1);
    // What it writes first waits in vain for a member's word on its log.
    kit.begin(0, Command::PublishKeys([1; 32], [2; 32]));
    kit.pass(Duration::from_secs(1));
    kit.join(3);
    kit.pass(Duration::from_secs(60));
    assert_eq!(kit.peers[3].history(), ["builds on both"]);
    assert_eq!(kit.peers[3].node.logs.pending.len(), 0);
}

/// The rest of a removed member's log may be held by no current member.
#[test]
fn nothing_behind_a_cut_is_waited_for_without_end() {
    let mut kit = Kit::room(3);
    kit.say(2, "before");
    let mut forger = Forger::behind(&kit, 2);
    let removed = kit.peers[2].id;
    forger.say("lost");
    let late = forger.say("late");
    kit.frame(0, 1, &Frame::Entries(vec![late]));
    assert_eq!(kit.peers[0].node.logs.pending.len(), 1);
    done(&mut kit, 0, Command::Remove(removed));
    assert_eq!(kit.peers[0].node.logs.pending.len(), 0);
    kit.pass(Duration::from_secs(30));
    kit.peers[0].take_sent();
    kit.pass(Duration::from_secs(600));
    let wants = kit.peers[0].take_sent().into_iter().filter(|(_, frame)| matches!(frame, Frame::Want { .. })).count();
    assert_eq!(wants, 0, "nor asked for");
}

/// Who sent something may be gone for good before it sent what that builds on.
#[test]
fn what_nobody_else_holds_does_not_wait_for_ever_and_comes_again() {
    let mut kit = Kit::room(3);
    kit.say(2, "before");
    let mut forger = Forger::behind(&kit, 2);
    let lost = forger.say("lost");
    let late = vec![forger.say("late"), forger.say("later")];
    kit.disconnect(0, 1);
    kit.frame(0, 2, &Frame::Entries(late.clone()));
    assert_eq!(kit.peers[0].node.logs.pending.len(), 2);
    kit.disconnect(0, 2);
    kit.pass(Duration::from_secs(60));
    assert_eq!(kit.peers[0].node.logs.pending.len(), 2, "nobody is there to send them again");
    kit.connect(0, 1);
    kit.pass(Duration::from_secs(60));
    assert_eq!(kit.peers[0].node.logs.pending.len(), 0);
    kit.frame(0, 1, &Frame::Entries(late));
    kit.frame(0, 1, &Frame::Entries(vec![lost]));
    assert_eq!(kit.peers[0].history(), ["before", "lost", "late", "later"]);
}

/// In a tree, entries are passed on by who waits for their causes itself.
#[test]
fn two_who_wait_for_the_same_do_not_take_each_other_for_its_holders() {
    let mut kit = Kit::room(3);
    let mut lost = Forger::new(&kit, 2, 501);
    lost.say("lost");
    let mut builds = Forger::new(&kit, 2, 502);
    builds.header.deps = vec![Dep { log: lost.header.log, seq: Seq(1) }];
    builds.header.time = lost.header.time;
    let passed_on = Frame::Entries(vec![builds.say("builds on what is lost")]);
    kit.disconnect_all(2);
    kit.frame(0, 1, &passed_on);
    kit.frame(1, 0, &passed_on);
    assert_eq!([0, 1].map(|n| kit.peers[n].node.logs.pending.len()), [1, 1]);
    kit.pass(Duration::from_secs(60));
    assert_eq!([0, 1].map(|n| kit.peers[n].node.logs.pending.len()), [0, 0]);
}

/// A founder with a new disk knows no other member at first, and must not take itself for the whole room.
#[test]
fn a_founder_with_a_new_disk_talks_to_those_it_does_not_know_yet() {
    let mut kit = Kit::room(3);
    kit.say(0, "old times");
    kit.peers[0].logs.clear();
    kit.peers[0].incarnation = crate::log::entry::Incarnation(4711);
    kit.restart(0);
    kit.peers[0].dials.clear();
    kit.pass(Duration::from_secs(1));
    assert_eq!(kit.peers[0].dials.len(), 2, "it calls those whose addresses it has");
    kit.connect(0, 1);
    kit.say(0, "new times");
    assert!(kit.is_linked(0, 1));
    kit.connect(0, 2);
    kit.assert_alike();
}
