//! A member that writes without a pause: the others' messages are not late, memory is bounded, nothing is lost.

use std::time::Duration;

use chat_proto::time::Timestamp;

use crate::config::BudgetSettings;
use crate::input::Input;
use crate::log::entry::{Body, SignedEntry};
use crate::node::tests::forger::Forger;
use crate::node::tests::kit::{Disk, Kit, text};
use crate::output::Batch;
use crate::wire::Frame;

/// Bytes of an entry of the flood.
const BYTES: usize = 8 * 1024;

fn flood(forger: &mut Forger, entries: usize) -> Vec<SignedEntry> {
    (0..entries).map(|_| forger.sign(Body::Messages(vec![text(&"x".repeat(BYTES))]))).collect()
}

fn push(kit: &mut Kit, to: usize, from: usize, entries: &[SignedEntry]) {
    for chunk in entries.chunks(32) {
        kit.frame(to, from, &Frame::Entries(chunk.to_vec()));
    }
}

/// Writes one batch, `took` after it was begun; returns its bytes.
fn write_one(kit: &mut Kit, n: usize, took: Duration) -> usize {
    kit.pass(took);
    let batch: Batch = kit.peers[n].waiting.pop_front().expect("a batch is being written");
    kit.peers[n].write(&batch);
    kit.input(n, Input::Persisted(batch.id));
    batch.entries.iter().map(|item| item.entry.signed().len_bytes()).sum()
}

/// Some hours pass, in which no peer is connected.
fn later(kit: &mut Kit, hours: u64) {
    (0..3).for_each(|n| kit.disconnect_all(n));
    let passed = Duration::from_secs(hours * 3600);
    kit.now.mono += passed;
    kit.now.wall = Timestamp::from_ms(kit.now.wall.as_ms() + hours * 3600 * 1000);
    kit.connect_all();
    kit.pass(Duration::from_secs(30));
}

#[test]
fn flood_of_one_member_keeps_no_message_of_another_from_the_disk() {
    let mut kit = Kit::room(3);
    let entries = flood(&mut Forger::behind(&kit, 2), 200);
    kit.peers[0].disk = Disk::Waits;
    push(&mut kit, 0, 2, &entries);
    kit.say(1, "in between");
    let mut written = 0;
    while !kit.peers[0].history().contains(&"in between".to_owned()) {
        written += write_one(&mut kit, 0, Duration::from_millis(50));
    }
    assert!(written < 300 * 1024, "{written} bytes came first");
    let slow = write_one(&mut kit, 0, Duration::from_millis(200));
    let slower = write_one(&mut kit, 0, Duration::from_millis(200));
    assert!(slower < slow || slower <= 140 * 1024, "batches of a slow disk are small: {slow}, then {slower}");
    kit.let_write(0);
    kit.assert_alike_after(200 + 1);
}

#[test]
fn flood_of_one_member_takes_little_memory_and_is_fetched_later() {
    let mut kit = Kit::room(3);
    kit.disconnect(0, 2);
    let entries = flood(&mut Forger::behind(&kit, 2), 800);
    push(&mut kit, 1, 2, &entries);
    assert!(kit.peers[1].history().len() >= 800, "a disk that keeps up takes all as it comes");
    kit.connect(0, 2);
    kit.peers[0].disk = Disk::Waits;
    push(&mut kit, 0, 2, &entries);
    let waiting = kit.peers[0].node.logs.disk.waiting_weight();
    assert!(waiting < 5 * 1024 * 1024, "{waiting} wait for the disk");
    kit.say(1, "in between");
    kit.let_write(0);
    kit.pass(Duration::from_secs(5));
    kit.assert_alike_after(801);
}

#[test]
fn member_over_its_budget_is_late_and_nothing_is_lost() {
    let mut kit = Kit::room(3);
    let few = BudgetSettings { entries: 24, ..BudgetSettings::default() };
    kit.peers[0].node.cx.settings.budget = few;
    let mut forger = Forger::behind(&kit, 2);
    let entries: Vec<SignedEntry> = (0..60).map(|n| forger.say(&format!("flood {n}"))).collect();
    for entry in &entries {
        push(&mut kit, 0, 2, std::slice::from_ref(entry));
    }
    let shown = |kit: &Kit| kit.peers[0].history().len();
    assert!((20..30).contains(&shown(&kit)), "{} are shown", shown(&kit));
    let used = |kit: &Kit| kit.peers[0].node.views().peer(&kit.peers[2].id).and_then(|view| view.used);
    assert!(used(&kit).is_some_and(|used| used.over && used.behind), "{:?}", used(&kit));
    // The others are not concerned.
    kit.say(1, "in between");
    assert!(kit.peers[0].history().contains(&"in between".to_owned()));
    push(&mut kit, 1, 2, &entries);
    // A request brings a chunk, which is paid for afterwards.
    later(&mut kit, 2);
    assert_eq!(shown(&kit), 61);
    let more = [forger.say("more")];
    (0..2).for_each(|to| push(&mut kit, to, 2, &more));
    later(&mut kit, 2);
    assert_eq!(shown(&kit), 61, "nothing more for some time");
    later(&mut kit, 3 * 24);
    assert_eq!(shown(&kit), 62);
    assert!(used(&kit).is_some_and(|used| !used.over && !used.behind), "{:?}", used(&kit));
}

#[test]
fn what_builds_on_entries_over_budget_is_not_late() {
    let mut kit = Kit::room(3);
    kit.peers[0].node.cx.settings.budget = BudgetSettings { entries: 24, ..BudgetSettings::default() };
    let mut forger = Forger::behind(&kit, 2);
    let entries: Vec<SignedEntry> = (0..60).map(|n| forger.say(&format!("flood {n}"))).collect();
    for to in [0, 1] {
        for entry in &entries {
            push(&mut kit, to, 2, std::slice::from_ref(entry));
        }
    }
    kit.say(1, "builds on all of them");
    kit.pass(Duration::from_secs(1));
    assert_eq!(kit.peers[0].history().len(), 61);
}

#[test]
fn own_messages_do_not_wait_at_others_for_what_a_heavy_member_writes() {
    let mut kit = Kit::room(3);
    let mut forger = Forger::behind(&kit, 2);
    let entries = flood(&mut forger, 200);
    push(&mut kit, 1, 2, &entries);
    kit.disconnect(0, 2);
    kit.cut(0, 2);
    kit.say(1, "meanwhile");
    let log = forger.header.log;
    let builds_on_it = |kit: &Kit| {
        let own = kit.peers[1].logs.iter().find(|(log, _)| log.author == kit.peers[1].id);
        let last = own.and_then(|(_, entries)| entries.last()).expect("it wrote");
        last.header().deps.iter().any(|dep| dep.log == log)
    };
    assert!(!builds_on_it(&kit), "others may be behind");
    kit.pass(Duration::from_secs(120));
    kit.say(1, "later");
    assert!(builds_on_it(&kit), "after the flood it is named");
}
