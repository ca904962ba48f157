//! Logs that were continued twice.

use crate::log::entry::{Dep, LogId, Seq, SignedEntry};
use crate::node::tests::forger::Forger;
use crate::node::tests::kit::Kit;
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

fn alike(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("alike {n}")).collect()
}

#[test]
fn a_fork_ends_the_log_before_it_everywhere() {
    for apart in [[1, 1], [1, 3], [5, 2]] {
        let (mut kit, log) = forked(3, apart);
        assert_eq!(kit.peers[0].history().len(), 3 + apart[0]);
        kit.connect(0, 1);
        kit.pass(std::time::Duration::from_secs(40));
        for n in [0, 1] {
            assert_eq!(kit.peers[n].history(), alike(3), "at {n}, apart {apart:?}");
            assert_eq!(kit.peers[n].forks.len(), 1, "the proof is kept");
            assert_eq!(kit.peers[n].node.logs.heads.cut(&log), Some(Seq(3)));
        }
    }
}

#[test]
fn whoever_did_not_see_the_fork_is_told() {
    let (mut kit, _) = forked(2, [1, 1]);
    kit.connect(0, 1);
    kit.connect(0, 2);
    assert_eq!(kit.peers[2].history(), alike(2));
    assert_eq!(kit.peers[2].forks.len(), 1);
    kit.join(4);
    assert_eq!(kit.peers[4].history(), alike(2), "a newcomer");
    assert_eq!(kit.peers[4].forks.len(), 1, "who got the proof before it knew the author");
}

/// A peer that knows of a fork serves no entry beyond it, not even to a peer that holds nothing of that log.
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

#[test]
fn a_proof_outlives_the_process() {
    let (mut kit, log) = forked(2, [2, 2]);
    kit.connect(0, 1);
    kit.restart(0);
    assert_eq!(kit.peers[0].node.logs.heads.cut(&log), Some(Seq(2)));
    kit.connect(0, 2);
    assert_eq!(kit.peers[2].forks.len(), 1);
}

#[test]
fn a_fork_far_back_is_found() {
    for (before, apart) in [(1, [100, 160]), (90, [70, 200]), (1, [300, 300])] {
        let (mut kit, log) = forked(before, apart);
        kit.connect(0, 1);
        kit.pass(std::time::Duration::from_secs(60));
        for n in [0, 1] {
            assert_eq!(kit.peers[n].node.logs.heads.cut(&log), Some(Seq(before as u64)), "at {n}: {before} {apart:?}");
            assert_eq!(kit.peers[n].history(), alike(before));
        }
    }
}

#[test]
fn the_earlier_of_two_forks_counts() {
    let (mut kit, log) = forked(4, [1, 1]);
    kit.connect(0, 1);
    assert_eq!(kit.peers[0].node.logs.heads.cut(&log), Some(Seq(4)));
    // Another peer received a third branch, which begins earlier.
    let held = kit.peers[0].logs[&log][1].signed().clone();
    let mut forger = Forger::behind(&kit, 3);
    let second = &kit.peers[0].logs[&log][1];
    forger.header.seq = second.seq();
    forger.header.backlink = second.header().backlink;
    forger.header.time = second.header().time;
    let other = forger.say("another second entry");
    kit.frame(1, 0, &Frame::Fork(Box::new(held.clone()), Box::new(other.clone())));
    for n in [0, 1] {
        assert_eq!(kit.peers[n].node.logs.heads.cut(&log), Some(Seq(1)), "at {n}");
        assert_eq!(kit.peers[n].history(), alike(1));
    }
    kit.frame(1, 0, &Frame::Fork(Box::new(other), Box::new(held)));
    assert_eq!(kit.peers[1].forks.len(), 2, "the same proof again is no news");
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
    assert_eq!(kit.peers[2].history(), ["one", "three"]);
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
