//! Logs that were continued twice.

use chat_proto::event::Event;

use crate::log::entry::{Dep, LogId, Seq, SignedEntry};
use crate::node::tests::forger::Forger;
use crate::node::tests::kit::{Disk, Kit, post};
use crate::wire::Frame;

/// A room of four in which the last one tells two of the others different things from some place of its log on. The
/// liar is played by hand: its own node says nothing of all this.
fn forked(alike: usize, apart: [usize; 2]) -> (Kit, LogId) {
    let mut kit = Kit::room(4);
    for n in 0..alike {
        kit.say(3, &format!("alike {n}"));
    }
    let log = kit.peers[3].node.local.log;
    kit.disconnect(0, 1);
    kit.disconnect(1, 2);
    kit.disconnect(0, 2);
    for (listener, count) in apart.into_iter().enumerate() {
        let mut forger = Forger::behind(&kit, 3);
        let told: Vec<SignedEntry> = (0..count).map(|n| forger.say(&format!("to {listener}: {n}"))).collect();
        kit.frame(listener, 3, &Frame::Entries(told));
    }
    kit.disconnect_all(3);
    (kit, log)
}

/// What all peers show of such a log: nothing of either branch is hidden.
fn all(alike: usize, apart: [usize; 2]) -> Vec<String> {
    let common = (0..alike).map(|n| format!("alike {n}"));
    let branches = apart.iter().enumerate().flat_map(|(to, count)| (0..*count).map(move |n| format!("to {to}: {n}")));
    let mut all: Vec<String> = common.chain(branches).collect();
    all.sort();
    all
}

fn sorted(mut history: Vec<String>) -> Vec<String> {
    history.sort();
    history
}

fn branches(kit: &Kit, n: usize, log: &LogId) -> usize {
    let heads = &kit.peers[n].node.logs.heads;
    heads.logs().filter(|branch| heads.signed(branch) == *log && *branch != log).count()
}

/// Promise P2: nothing that was shown disappears.
#[test]
fn branches_of_a_fork_are_shown_by_all_in_the_same_order() {
    for apart in [[1, 1], [1, 3], [5, 2]] {
        let (mut kit, log) = forked(3, apart);
        assert_eq!(kit.peers[0].history().len(), 3 + apart[0]);
        kit.connect(0, 1);
        kit.pass(std::time::Duration::from_secs(40));
        assert_eq!(sorted(kit.peers[0].history()), all(3, apart), "apart {apart:?}");
        for n in [0, 1] {
            assert_eq!(kit.peers[n].history(), kit.peers[0].history(), "at {n}, apart {apart:?}");
            assert_eq!(kit.peers[n].forks.len(), 1, "the proof is kept");
            let told = kit.peers[n]
                .events
                .iter()
                .filter(|event| matches!(event, Event::Fork { peer } if peer.id == log.author));
            assert_eq!(told.count(), 1, "its user is told once");
            assert_eq!(kit.peers[n].node.logs.heads.seq(&log), Seq(3), "the log ends before the fork");
            assert_eq!(branches(&kit, n, &log), 2);
            assert_eq!(kit.peers[n].shown.len(), 3 + apart[0] + apart[1], "each message is shown once");
        }
    }
}

#[test]
fn peer_that_saw_nothing_of_a_fork_gets_all_branches() {
    let (mut kit, _) = forked(2, [1, 1]);
    kit.connect(0, 1);
    kit.connect(0, 2);
    assert_eq!(sorted(kit.peers[2].history()), all(2, [1, 1]));
    assert_eq!(kit.peers[2].forks.len(), 1);
    kit.join(4);
    kit.pass(std::time::Duration::from_secs(40));
    assert_eq!(kit.peers[4].history(), kit.peers[2].history(), "a newcomer");
    assert_eq!(kit.peers[4].forks.len(), 1, "who got the proof before it knew the author");
}

/// The log of which a peer only knows that it is forked is not waited for: which branch is meant is not known.
#[test]
fn nothing_waits_for_a_forked_log_that_was_never_held() {
    let mut kit = Kit::room(3);
    let [mut one, mut other] = [Forger::new(&kit, 2, 501), Forger::new(&kit, 2, 501)];
    let proof = Frame::Fork(Box::new(one.say("one")), Box::new(other.say("another")));
    let mut answering = Forger::behind(&kit, 1);
    answering.header.deps = vec![Dep { log: one.header.log, seq: Seq(1) }];
    answering.header.time = one.header.time;
    kit.frame(0, 1, &proof);
    kit.frame(0, 1, &Frame::Entries(vec![answering.say("answer")]));
    assert_eq!(kit.peers[0].history(), ["answer"]);
    assert_eq!(kit.peers[0].node.logs.pending.len(), 0);
}

/// What is held goes on, although its log was continued twice after an entry that no member gives.
#[test]
fn fork_on_a_side_that_no_member_holds_stops_nothing() {
    let mut kit = Kit::room(3);
    kit.disconnect(0, 1);
    let [mut held, mut one, mut other] = [0; 3].map(|_| Forger::behind(&kit, 2));
    let told = ["first", "second", "third"].map(|text| held.say(text));
    assert_eq!(one.say("unheld"), other.say("unheld"));
    let proof = Frame::Fork(Box::new(one.say("one")), Box::new(other.say("another")));
    kit.frame(0, 2, &Frame::Entries(told[..2].to_vec()));
    kit.frame(0, 2, &proof);
    kit.frame(0, 2, &Frame::Entries(told[2..].to_vec()));
    kit.disconnect_all(2);
    kit.connect(0, 1);
    for n in [0, 1] {
        assert_eq!(kit.peers[n].history(), ["first", "second", "third"], "at {n}");
        assert_eq!(kit.peers[n].forks.len(), 1, "at {n}");
    }
}

/// A log that began twice, of which one beginning is void, and more follows the other.
#[test]
fn void_beginning_of_a_log_does_not_keep_the_other_out() {
    let mut kit = Kit::room(3);
    kit.disconnect(0, 1);
    let [mut void, mut valid] = [Forger::new(&kit, 2, 501).unadmitted(), Forger::new(&kit, 2, 501)];
    let told = ["first", "second"].map(|text| valid.say(text));
    kit.frame(0, 2, &Frame::Entries(vec![void.say("void")]));
    kit.frame(1, 2, &Frame::Entries(told.to_vec()));
    kit.disconnect_all(2);
    assert_eq!(kit.peers[0].history(), [""; 0]);
    assert_eq!(kit.peers[1].history(), ["first", "second"]);
    kit.connect(0, 1);
    kit.pass(std::time::Duration::from_secs(40));
    for n in [0, 1] {
        assert_eq!(kit.peers[n].history(), ["first", "second"], "at {n}");
    }
}

/// Promise P2: also after a restart, and for a peer that learns of the fork from one that restarted.
#[test]
fn branches_outlive_the_process() {
    let (mut kit, log) = forked(2, [2, 2]);
    kit.connect(0, 1);
    let history = kit.peers[0].history();
    assert_eq!(sorted(history.clone()), all(2, [2, 2]));
    kit.restart(0);
    assert_eq!(kit.peers[0].history(), history);
    assert_eq!(kit.peers[0].node.logs.heads.end(&log), Some(Seq(2)));
    assert_eq!(branches(&kit, 0, &log), 2);
    kit.connect(0, 2);
    assert_eq!(kit.peers[2].forks.len(), 1);
    assert_eq!(kit.peers[2].history(), history);
}

#[test]
fn a_fork_far_back_is_found() {
    for (before, apart) in [(1, [100, 160]), (90, [70, 200]), (1, [300, 300])] {
        let (mut kit, log) = forked(before, apart);
        kit.connect(0, 1);
        kit.pass(std::time::Duration::from_secs(60));
        for n in [0, 1] {
            let end = kit.peers[n].node.logs.heads.end(&log);
            assert_eq!(end, Some(Seq(before as u64)), "at {n}: {before} {apart:?}");
            assert_eq!(sorted(kit.peers[n].history()), all(before, apart), "at {n}: {before} {apart:?}");
        }
        assert_eq!(kit.peers[0].history(), kit.peers[1].history());
    }
}

/// The entry before a place in a log, as a forger needs it to continue from there.
fn branch_off(kit: &Kit, held: &SignedEntry) -> Forger {
    let held = crate::log::entry::Entry::from_trusted(held.clone()).expect("an entry");
    let mut forger = Forger::behind(kit, 3);
    forger.header.seq = held.seq();
    forger.header.backlink = held.header().backlink;
    forger.header.time = held.header().time;
    forger
}

#[test]
fn proof_before_the_entries_and_after_them_leads_to_the_same() {
    let (kit, log) = forked(2, [2, 2]);
    let entries = |n: usize| kit.peers[n].logs[&log].iter().map(|entry| entry.signed().clone()).collect::<Vec<_>>();
    let (one, other) = (entries(0), entries(1));
    let proof = Frame::Fork(Box::new(one[2].clone()), Box::new(other[2].clone()));
    let one = Frame::Entries(one[2..].to_vec());
    let other = Frame::Entries(other[2..].to_vec());
    let orders = [[&proof, &one, &other], [&one, &proof, &other], [&one, &other, &proof], [&other, &proof, &one]];
    let mut histories = Vec::new();
    for frames in orders {
        let (mut kit, _) = forked(2, [0, 0]);
        kit.connect(0, 1);
        for frame in frames.into_iter().chain([&one, &other]) {
            kit.frame(0, 1, frame);
        }
        assert_eq!(sorted(kit.peers[0].history()), all(2, [2, 2]));
        histories.push(kit.peers[0].history());
    }
    assert!(histories.iter().all(|history| *history == histories[0]), "{histories:?}");
}

#[test]
fn branch_that_is_forked_again_loses_nothing() {
    let (mut kit, log) = forked(2, [3, 1]);
    let second = kit.peers[0].logs[&log][3].signed().clone();
    let mut forger = branch_off(&kit, &second);
    let nested: Vec<SignedEntry> = (0..2).map(|n| forger.say(&format!("nested {n}"))).collect();
    kit.connect(0, 1);
    kit.connect(0, 2);
    kit.connect(1, 2);
    let mut wanted = all(2, [3, 1]);
    assert_eq!(sorted(kit.peers[0].history()), wanted);
    // Another peer received another continuation of a branch.
    kit.disconnect_all(1);
    kit.restart(1);
    let proof = Frame::Fork(Box::new(second), Box::new(nested[0].clone()));
    kit.connect(0, 1);
    kit.frame(1, 0, &proof);
    kit.frame(1, 0, &Frame::Entries(nested));
    kit.pass(std::time::Duration::from_secs(40));
    wanted.extend(["nested 0".into(), "nested 1".into()]);
    wanted.sort();
    for n in [0, 1, 2] {
        assert_eq!(sorted(kit.peers[n].history()), wanted, "at {n}");
        assert_eq!(kit.peers[n].history(), kit.peers[0].history(), "at {n}");
        assert_eq!(kit.peers[n].forks.len(), 2);
        assert_eq!(branches(&kit, n, &log), 4);
    }
    kit.join(4);
    kit.pass(std::time::Duration::from_secs(40));
    assert_eq!(kit.peers[4].history(), kit.peers[0].history(), "a newcomer");
}

#[test]
fn fork_that_begins_earlier_than_a_known_one_loses_nothing() {
    let (mut kit, log) = forked(4, [1, 1]);
    kit.connect(0, 1);
    assert_eq!(kit.peers[0].node.logs.heads.end(&log), Some(Seq(4)));
    // Another peer received a third branch, which begins earlier.
    let held = kit.peers[0].logs[&log][1].signed().clone();
    let other = branch_off(&kit, &held).say("another second entry");
    kit.frame(1, 0, &Frame::Fork(Box::new(held.clone()), Box::new(other.clone())));
    kit.frame(1, 0, &Frame::Entries(vec![other.clone()]));
    kit.pass(std::time::Duration::from_secs(40));
    let mut wanted = all(4, [1, 1]);
    wanted.push("another second entry".into());
    wanted.sort();
    for n in [0, 1] {
        assert_eq!(kit.peers[n].node.logs.heads.end(&log), Some(Seq(1)), "at {n}");
        assert_eq!(sorted(kit.peers[n].history()), wanted, "at {n}");
        assert_eq!(kit.peers[n].history(), kit.peers[0].history());
    }
    kit.frame(1, 0, &Frame::Fork(Box::new(other), Box::new(held)));
    assert_eq!(kit.peers[1].forks.len(), 2, "the same proof again is no news");
    kit.restart(1);
    kit.connect(0, 1);
    assert_eq!(kit.peers[1].history(), kit.peers[0].history());
}

/// The peer that holds the third branch learns of a fork that lies beyond its own.
#[test]
fn peer_whose_branch_begins_before_a_known_fork_finds_the_earlier_one() {
    for third in [1, 2, 3, 6] {
        let mut kit = Kit::room(5);
        kit.say(3, "alike 0");
        for (a, b) in [(0, 2), (1, 2), (3, 2), (0, 4), (1, 4), (3, 4)] {
            kit.disconnect(a, b);
        }
        (1..4).for_each(|n| kit.say(3, &format!("alike {n}")));
        kit.disconnect(0, 1);
        for listener in [0, 1] {
            let told = Forger::behind(&kit, 3).say(&format!("to {listener}"));
            kit.frame(listener, 3, &Frame::Entries(vec![told]));
        }
        kit.disconnect_all(3);
        let log = kit.peers[3].node.local.log;
        let mut forger = branch_off(&kit, kit.peers[0].logs[&log][1].signed());
        let told = (0..third).map(|n| forger.say(&format!("third {n}"))).collect();
        kit.frame(2, 4, &Frame::Entries(told));
        kit.connect(0, 1);
        assert_eq!(kit.peers[0].history().len(), 4 + 2);
        kit.connect(0, 2);
        kit.pass(std::time::Duration::from_secs(60));
        for n in [0, 1, 2, 4] {
            assert_eq!(kit.peers[n].history().len(), 4 + 2 + third, "at {n}, {third} in the third branch");
            assert_eq!(kit.peers[n].history(), kit.peers[0].history(), "at {n}");
            assert_eq!(kit.peers[n].forks.len(), 2, "at {n}");
        }
    }
}

#[test]
fn third_branch_of_a_known_fork_needs_no_proof() {
    let (mut kit, log) = forked(2, [1, 1]);
    kit.connect(0, 1);
    kit.connect(0, 2);
    let mut third = branch_off(&kit, &kit.peers[0].forks[0].0);
    let told = vec![third.say("third 0"), third.say("third 1")];
    kit.frame(1, 0, &Frame::Entries(told));
    kit.pass(std::time::Duration::from_secs(40));
    for n in [0, 1, 2] {
        assert_eq!(branches(&kit, n, &log), 3, "at {n}");
        assert_eq!(kit.peers[n].history().len(), 6, "at {n}");
        assert_eq!(kit.peers[n].history(), kit.peers[0].history());
    }
}

#[test]
fn entries_that_arrive_while_branches_are_filed_are_not_lost() {
    let (mut kit, log) = forked(2, [2, 1]);
    kit.peers[0].disk = Disk::Waits;
    kit.connect(0, 1);
    assert!(kit.peers[0].node.logs.disk.is_refiling());
    kit.connect(1, 2);
    kit.connect(0, 2);
    kit.say(2, "meanwhile");
    let reply = kit.begin(0, post("own", chat_proto::api::messages::Wait::Stored, 1));
    kit.let_write(0);
    assert!(kit.peers[0].replies.contains_key(&reply), "it was written when the branches were filed");
    assert!(!kit.peers[0].node.logs.disk.is_refiling());
    kit.pass(std::time::Duration::from_secs(40));
    for n in [0, 1, 2] {
        assert_eq!(kit.peers[n].history().len(), 2 + 3 + 2, "at {n}");
        assert_eq!(kit.peers[n].history(), kit.peers[0].history());
        assert_eq!(branches(&kit, n, &log), 2, "at {n}");
    }
}

/// A peer that a member admitted after its home was rolled back, or before, stays one.
#[test]
fn guest_admitted_in_a_branch_is_a_member() {
    let mut kit = Kit::room(3);
    let mut rolled_back = Forger::behind(&kit, 1);
    kit.say(1, "before");
    let ticket = kit.invite(1);
    assert!(kit.show_ticket(3, 1, &ticket));
    kit.enter(3);
    kit.connect(1, 3);
    kit.say(3, "guest");
    let log = kit.peers[1].node.local.log;
    let first = kit.peers[0].logs[&log].iter().find(|entry| entry.seq() == rolled_back.header.seq).expect("the next");
    let proof = Frame::Fork(Box::new(first.signed().clone()), Box::new(rolled_back.say("after the roll back")));
    kit.frame(0, 2, &proof);
    kit.connect_all();
    kit.say(3, "guest again");
    kit.pass(std::time::Duration::from_secs(40));
    kit.assert_alike();
    let guest = kit.peers[3].id;
    for n in [0, 1, 2, 3] {
        assert!(kit.peers[n].node.roster().is_member(&guest), "at {n}");
        assert!(kit.peers[n].history().ends_with(&["guest".into(), "guest again".into()]), "at {n}");
    }
    kit.join(4);
    kit.pass(std::time::Duration::from_secs(40));
    assert!(kit.peers[4].node.roster().is_member(&guest), "at a newcomer");
    assert_eq!(kit.peers[4].history(), kit.peers[0].history());
}

/// What the guest's first message builds on was lost with its author's disk. The admission may arrive after that message.
#[test]
fn guest_is_heard_though_what_it_builds_on_was_lost_with_a_branch() {
    let mut kit = Kit::room(3);
    let mut rolled_back = Forger::behind(&kit, 1);
    kit.disconnect_all(1);
    let ticket = kit.invite(1);
    assert!(kit.show_ticket(3, 1, &ticket));
    let log = kit.peers[1].node.local.log;
    let kept: Vec<SignedEntry> = kit.peers[1].logs[&log].iter().map(|entry| entry.signed().clone()).collect();
    kit.enter(3);
    kit.connect(1, 3);
    kit.say(1, "lost");
    kit.say(3, "guest");
    let first = kit.peers[1].logs[&log].iter().find(|entry| entry.seq() == rolled_back.header.seq).expect("the next");
    let guest = kit.peers[3].node.local.log;
    let said: Vec<SignedEntry> = kit.peers[3].logs[&guest].iter().map(|entry| entry.signed().clone()).collect();
    let proof = Frame::Fork(Box::new(first.signed().clone()), Box::new(rolled_back.say("after the roll back")));
    for frame in [proof, Frame::Entries(said), Frame::Entries(kept)] {
        kit.frame(2, 0, &frame);
    }
    assert!(kit.peers[2].history().contains(&"guest".into()), "{:?}", kit.peers[2].history());
}

/// Promise P6: what a removed member writes is void, in a branch as elsewhere.
#[test]
fn removed_member_cannot_add_a_branch() {
    let mut kit = Kit::room(4);
    kit.say(3, "one");
    let mut forger = Forger::behind(&kit, 3);
    kit.say(3, "two");
    let log = kit.peers[3].node.local.log;
    let two = kit.peers[0].logs[&log].last().expect("two").signed().clone();
    let removed = kit.peers[3].id;
    kit.disconnect_all(3);
    assert!(kit.command(0, crate::input::Command::Remove(removed)).is_some_and(|reply| reply.is_ok()));
    let late = forger.say("late");
    kit.frame(0, 1, &Frame::Fork(Box::new(two), Box::new(late.clone())));
    kit.frame(0, 1, &Frame::Entries(vec![late]));
    kit.pass(std::time::Duration::from_secs(40));
    for n in [0, 1, 2] {
        assert!(!kit.peers[n].history().contains(&"late".into()), "at {n}");
        assert_eq!(kit.peers[n].history(), kit.peers[0].history());
    }
}

#[test]
fn what_proves_nothing_changes_nothing() {
    let mut kit = Kit::room(3);
    kit.say(2, "one");
    kit.say(2, "two");
    let log = kit.peers[2].node.local.log;
    let entries: Vec<SignedEntry> = kit.peers[2].logs[&log].iter().map(|entry| entry.signed().clone()).collect();
    let stranger = Forger::new(&kit, 9, 5).say("a stranger");
    let other_stranger = Forger::new(&kit, 9, 5).say("a stranger twice");
    for (one, other) in [
        (entries[0].clone(), entries[0].clone()),
        (entries[0].clone(), entries[1].clone()),
        (entries[0].clone(), SignedEntry { header: entries[1].header.clone(), ..entries[0].clone() }),
        (stranger, other_stranger),
    ] {
        kit.frame(0, 1, &Frame::Fork(Box::new(one), Box::new(other)));
        assert!(kit.peers[0].forks.is_empty());
        assert_eq!(kit.peers[0].history().len(), 2);
    }
}

#[test]
fn an_author_whose_log_is_forked_begins_a_new_one() {
    let mut kit = Kit::room(3);
    kit.say(0, "one");
    let log = kit.peers[0].node.local.log;
    let mut copy = Forger::behind(&kit, 0);
    kit.say(0, "two");
    kit.disconnect(0, 1);
    kit.disconnect(0, 2);
    let told = copy.say("two, differently");
    let proof = (kit.peers[0].logs[&log].last().expect("two").signed().clone(), told);
    kit.connect(0, 1);
    kit.frame(1, 0, &Frame::Fork(Box::new(proof.0), Box::new(proof.1)));
    assert_ne!(kit.peers[0].node.local.log, log);
    kit.connect(0, 2);
    kit.say(0, "three");
    kit.assert_alike();
    assert_eq!(kit.peers[2].history(), ["one", "two", "three"]);
}

#[test]
fn a_claim_about_ones_own_log_proves_nothing() {
    let mut kit = Kit::room(2);
    kit.say(0, "one");
    let log = kit.peers[0].node.local.log;
    let head = |seq| crate::log::entry::Head { log, seq, hash: chat_proto::id::EntryHash::from_bytes([7; 32]) };
    let held = kit.peers[0].node.logs.heads.seq(&log);
    for seq in [held, held.next(), Seq(1_000_000), Seq::MAX] {
        kit.frame(0, 1, &Frame::Vector { heads: vec![head(seq)], reply: false });
        kit.pass(std::time::Duration::from_secs(10));
    }
    assert_eq!(kit.peers[0].node.local.log, log);
    assert!(kit.peers[0].forks.is_empty());
    kit.say(0, "two");
    // A peer that claims to hold everything is sent nothing, and has to ask.
    kit.pass(std::time::Duration::from_secs(40));
    kit.assert_alike();
}
