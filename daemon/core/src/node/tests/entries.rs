//! Entries in any order of arrival, with any date, from any peer.

use std::time::Duration;

use chat_proto::id::PeerId;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::config::PAST_CUT_MAX;
use crate::input::{Command, Input, Verdict};
use crate::log::entry::{AdmitBy, Body, Control, Dep, Hlc, Incarnation, LogId, Seq, SignedEntry};
use crate::node::tests::forger::Forger;
use crate::node::tests::kit::{Kit, Peer, key, path, text};
use crate::output::{CommandError, Reply};
use crate::restore::{Restored, Start};
use crate::wire::Frame;

/// A room with a past: messages, renames, roles, a removal, a member that comes back, one that leaves.
fn eventful() -> Kit {
    let mut kit = Kit::room(5);
    let id = |kit: &Kit, n: usize| kit.peers[n].id;
    let talk = |kit: &mut Kit, by: usize| kit.say(by, &format!("by {by} at {}", kit.now.mono.as_millis()));
    for round in 0..3 {
        for n in 0..5 {
            talk(&mut kit, n);
        }
        kit.pass(Duration::from_millis(1));
        assert!(matches!(kit.command(1, Command::Rename(format!("bob{round}"))), Some(Ok(Reply::Done))));
    }
    let (one, three) = (id(&kit, 1), id(&kit, 3));
    assert!(matches!(kit.command(0, Command::SetAdmin(one, Verdict::Yes)), Some(Ok(Reply::Done))));
    assert!(matches!(kit.command(1, Command::Remove(three)), Some(Ok(Reply::Done))));
    talk(&mut kit, 2);
    kit.readmit(3, 1);
    kit.connect(2, 3);
    kit.connect(0, 3);
    talk(&mut kit, 3);
    assert!(matches!(kit.command(4, Command::Leave), Some(Ok(Reply::Done))));
    talk(&mut kit, 0);
    kit
}

/// What a room with a past consists of, and what follows from it.
struct Past {
    kit: Kit,
    entries: Vec<SignedEntry>,
}

/// A node without answering neighbours: it receives only what the test feeds it.
fn listener(past: &Past) -> Kit {
    let incarnation = Incarnation(77);
    let restored = Restored {
        room: past.kit.peers[0].node.room(),
        incarnation,
        heads: Vec::new(),
        controls: Vec::new(),
        clocks: Vec::new(),
        addrs: Vec::new(),
        forks: Vec::new(),
        seen: Vec::new(),
        lacking: Vec::new(),
        hidden: Vec::new(),
        mark_agrees: false,
    };
    let mut kit = Kit::new();
    kit.now = past.kit.now;
    kit.peers.push(Peer::new(9, Start::Restore(restored), incarnation, kit.now));
    let teller = kit.peers[0].id;
    kit.input(1, Input::Up(teller, path()));
    kit
}

/// Everything comes, in any order, some of it twice: the same members, the same messages.
#[test]
fn the_order_of_arrival_decides_nothing() {
    let kit = eventful();
    let past = Past { entries: kit.peers[0].entries(), kit };
    let seeds = ProptestConfig::with_cases(32);
    proptest!(seeds, |(seed in any::<u64>())| {
        let mut entries = past.entries.clone();
        entries.extend_from_within(..entries.len() / 3);
        entries.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut kit = listener(&past);
        for entry in entries {
            kit.frame(1, 0, &Frame::Entries(vec![entry]));
        }
        let (found, expected) = (&kit.peers[1], &past.kit.peers[0]);
        prop_assert_eq!(found.history(), expected.history());
        prop_assert_eq!(found.node.roster(), expected.node.roster());
        prop_assert_eq!(found.node.inspect().invites(), expected.node.inspect().invites());
        prop_assert_eq!(found.node.logs.pending.len(), 0);
    });
}

#[test]
fn a_newcomer_catches_up() {
    let mut kit = eventful();
    let n = 5;
    kit.enter(n);
    kit.connect(0, n);
    assert_eq!(kit.peers[n].history(), kit.peers[0].history());
    assert_eq!(kit.peers[n].node.roster(), kit.peers[0].node.roster());
}

#[test]
fn a_restart_changes_nothing() {
    let mut kit = eventful();
    let before = (kit.peers[0].node.roster(), kit.peers[0].node.inspect().invites());
    kit.restart(0);
    assert_eq!((kit.peers[0].node.roster(), kit.peers[0].node.inspect().invites()), before);
}

#[test]
fn an_answer_waits_for_its_question() {
    let mut kit = Kit::room(3);
    kit.disconnect_all(0);
    kit.say(1, "question");
    let (asked, answered) = (kit.peers[1].node.local.log, kit.peers[2].node.local.log);
    let question = kit.peers[1].logs[&asked].last().expect("asked").signed().clone();
    kit.say(2, "answer");
    let answer = kit.peers[2].logs[&answered].last().expect("answered").signed().clone();
    // The last member is there to ask, and says nothing by itself.
    let teller = kit.peers[2].id;
    kit.peers[0].shown.clear();
    kit.input(0, Input::Up(teller, path()));
    kit.frame(0, 2, &Frame::Entries(vec![answer]));
    assert!(kit.peers[0].shown.iter().all(|body| *body != text("answer")));
    kit.frame(0, 2, &Frame::Entries(vec![question]));
    let order: Vec<usize> = ["question", "answer"]
        .iter()
        .filter_map(|what| kit.peers[0].shown.iter().position(|body| *body == text(what)))
        .collect();
    assert!(order.len() == 2 && order[0] < order[1], "{:?}", kit.peers[0].shown);
}

#[test]
fn strangers_write_nothing() {
    let mut kit = Kit::room(2);
    let mut stranger = Forger::new(&kit, 9, 1);
    let first = stranger.say("let me in");
    let second = stranger.say("please");
    let me = PeerId::from_bytes(key(9).verifying_key().to_bytes());
    let mut self_made = Forger::new(&kit, 9, 2);
    let admits = self_made.control(Control::Admit { peer: me, name: "eve".into(), by: AdmitBy::Member });
    kit.frame(0, 1, &Frame::Entries(vec![first, second, admits]));
    assert!(kit.peers[0].history().is_empty());
    assert!(!kit.peers[0].node.roster().is_member(&me));
    kit.say(0, "we go on");
    kit.assert_alike();
}

#[test]
fn what_builds_on_a_stranger_does_not_wait_for_it() {
    let mut kit = Kit::room(3);
    let mut stranger = Forger::new(&kit, 9, 1);
    let first = stranger.say("let me in");
    let log = stranger.header.log;
    let mut friend = Forger::behind(&kit, 1);
    friend.header.deps = vec![Dep { log, seq: Seq(1) }];
    let builds = friend.say("builds on it");
    kit.frame(0, 1, &Frame::Entries(vec![builds]));
    assert!(kit.peers[0].history().is_empty());
    kit.frame(0, 1, &Frame::Entries(vec![first]));
    kit.pass(Duration::from_secs(60));
    assert_eq!(kit.peers[0].history(), ["builds on it"]);
    assert_eq!(kit.peers[2].history(), ["builds on it"], "whoever hears of it is told why, too");
}

#[test]
fn a_removed_member_cannot_begin_another_log() {
    let mut kit = Kit::room(3);
    kit.say(2, "before");
    let removed = kit.peers[2].id;
    assert!(matches!(kit.command(0, Command::Remove(removed)), Some(Ok(Reply::Done))));
    for (incarnation, backdated) in [(501, 0), (502, 1_000_000)] {
        let mut forger = Forger::new(&kit, 2, incarnation);
        forger.header.time = Hlc(kit.peers[0].node.logs.heads.clock().0 - backdated + 1);
        let more: Vec<SignedEntry> = (0..3).map(|n| forger.say(&format!("after {n}"))).collect();
        kit.frame(0, 1, &Frame::Entries(more));
    }
    assert_eq!(kit.peers[0].history(), ["before"]);
    assert_eq!(kit.peers[1].history(), ["before"]);
}

#[test]
fn behind_a_cut_some_entries_are_taken_and_none_is_shown() {
    let mut kit = Kit::room(3);
    kit.say(2, "before");
    let mut forger = Forger::behind(&kit, 2);
    let removed = kit.peers[2].id;
    assert!(matches!(kit.command(0, Command::Remove(removed)), Some(Ok(Reply::Done))));
    let more: Vec<SignedEntry> = (0..PAST_CUT_MAX + 50).map(|n| forger.say(&format!("after {n}"))).collect();
    for chunk in more.chunks(50) {
        kit.frame(0, 1, &Frame::Entries(chunk.to_vec()));
    }
    let log: LogId = forger.header.log;
    assert_eq!(kit.peers[0].node.logs.heads.seq(&log).0, 1 + PAST_CUT_MAX);
    assert_eq!(kit.peers[0].history(), ["before"]);
    assert_eq!(kit.peers[1].history(), ["before"]);
    assert!(kit.peers[1].shown.iter().all(|body| *body == text("before")));
}

#[test]
fn what_an_admin_removed_comes_back_when_its_removal_turns_out_to_be_void() {
    let mut kit = Kit::room(5);
    let [senior, junior, member] = [1, 2, 4].map(|n| kit.peers[n].id);
    for admin in [senior, junior] {
        assert!(matches!(kit.command(0, Command::SetAdmin(admin, Verdict::Yes)), Some(Ok(Reply::Done))));
    }
    assert!(matches!(kit.command(2, Command::Remove(senior)), Some(Err(CommandError::RanksAbove(_)))));
    // 0, 1 and 4 on one side, 2 and 3 on the other.
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3), (4, 2), (4, 3)] {
        kit.disconnect(a, b);
    }
    assert!(matches!(kit.command(2, Command::Remove(member)), Some(Ok(Reply::Done))));
    kit.pass(Duration::from_secs(1));
    kit.say(4, "not cut off on this side");
    assert!(matches!(kit.command(1, Command::Remove(junior)), Some(Ok(Reply::Done))));
    kit.say(2, "shown on the other side for a while");
    kit.connect(0, 3);
    for n in [0, 1, 3, 4] {
        let roster = kit.peers[n].node.roster();
        assert!(roster.is_member(&member) && !roster.is_member(&junior), "at {n}");
        assert_eq!(kit.peers[n].history(), ["not cut off on this side"], "at {n}");
    }
}

#[test]
fn a_control_entry_is_bounded_like_all_others() {
    let kit = Kit::room(1);
    let forger = Forger::new(&kit, 0, 5);
    let dep = Dep { log: forger.header.log, seq: Seq(1) };
    let remove = Control::Remove { peer: kit.peers[0].id, cuts: vec![dep; 1000] };
    let entry = crate::log::entry::Entry::sign(forger.header.clone(), Body::Control(remove), &forger.key);
    assert!(entry.is_err());
}
