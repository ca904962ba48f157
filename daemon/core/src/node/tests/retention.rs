//! Members that drop the bodies of old messages, and those that receive what is left.

use std::sync::Arc;
use std::time::Duration;

use chat_proto::time::Timestamp;

use crate::input::Now;
use crate::log::entry::LogId;
use crate::node::tests::kit::Kit;
use crate::wire::Frame;
use crate::wire::extension::Extension;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Lets days go by in which nothing happens.
fn pass_days(kit: &mut Kit, days: u64) {
    let wall = Timestamp::from_ms(kit.now.wall.as_ms() + days * DAY_MS);
    kit.now = Now { wall, ..kit.now };
}

/// Two members talk for a while and lose sight of each other; days later the first one drops what was said.
fn room_with_a_past() -> Kit {
    let mut kit = Kit::room(2);
    kit.say(0, "one");
    kit.say(1, "two");
    kit.say(0, "three");
    kit.disconnect_all(1);
    pass_days(&mut kit, 2);
    kit.peers[0].drop_bodies();
    kit
}

/// The requests for entries or bodies that a node sent.
fn requests(kit: &mut Kit, n: usize) -> usize {
    let sent = kit.peers[n].take_sent().into_iter();
    let wants_bodies = |frame: &Frame| {
        let Frame::Role(raw) = frame else { return false };
        matches!(Extension::decode(raw), Some(Extension::WantBodies { .. }))
    };
    let is_request = |frame: &Frame| matches!(frame, Frame::Want { .. }) || wants_bodies(frame);
    sent.filter(|(_, frame)| is_request(frame)).count()
}

#[test]
fn a_newcomer_takes_headers_without_bodies_and_the_conversation_goes_on() {
    let mut kit = room_with_a_past();
    kit.join(2);
    kit.say(0, "four");
    kit.say(2, "five");
    assert_eq!(kit.peers[2].history(), ["four", "five"]);
    assert_eq!(kit.peers[2].node.roster(), kit.peers[0].node.roster());
    let headers = |kit: &Kit, n: usize| kit.peers[n].in_order().iter().map(|(_, e)| e.hash()).collect::<Vec<_>>();
    assert_eq!(headers(&kit, 2), headers(&kit, 0), "the same entries in the same order");
}

#[test]
fn a_member_with_bodies_that_appears_later_gives_them_once() {
    for newer in [true, false] {
        let mut kit = room_with_a_past();
        kit.join(2);
        kit.say(0, "four");
        kit.connect(1, 2);
        if !newer {
            let giver = kit.peers[1].id;
            kit.peers[2].node.peers.connections.get_mut(&giver).expect("connected").gives_bodies = false;
        }
        kit.pass(Duration::from_secs(30));
        assert_eq!(kit.peers[2].history(), ["one", "two", "three", "four"], "newer: {newer}");
        assert_eq!(kit.peers[2].shown.len(), 4, "each is shown once");
        kit.peers[2].take_sent();
        kit.disconnect(1, 2);
        kit.connect(1, 2);
        kit.pass(Duration::from_secs(30));
        assert_eq!(requests(&mut kit, 2), 0, "nothing is lacked any more");
    }
}

#[test]
fn what_is_lacked_is_asked_for_after_a_restart_and_once_at_each_meeting() {
    let mut kit = room_with_a_past();
    kit.join(2);
    kit.restart(2);
    kit.peers[2].take_sent();
    kit.connect(0, 2);
    kit.pass(Duration::from_secs(60));
    assert_eq!(requests(&mut kit, 2), 2, "one for each log, and not again");
    kit.connect(1, 2);
    kit.pass(Duration::from_secs(30));
    assert_eq!(kit.peers[2].history(), ["one", "two", "three"]);
}

#[test]
fn what_was_dropped_is_not_fetched_again() {
    let mut kit = room_with_a_past();
    kit.restart(0);
    kit.peers[0].take_sent();
    kit.connect(0, 1);
    kit.pass(Duration::from_secs(120));
    kit.say(1, "four");
    assert_eq!(requests(&mut kit, 0), 0);
    assert_eq!(kit.peers[0].history(), ["four"], "and what comes now is kept");
}

#[test]
fn a_control_item_without_its_body_is_not_taken() {
    let mut kit = room_with_a_past();
    for entry in kit.peers[0].logs.values_mut().flatten() {
        *entry = Arc::new(entry.as_ref().clone().without_body());
    }
    let ticket = kit.invite(0);
    assert!(kit.show_ticket(2, 0, &ticket));
    kit.enter(2);
    kit.connect(0, 2);
    kit.pass(Duration::from_secs(60));
    assert!(kit.peers[2].logs.is_empty(), "not even the founding is believed");
    kit.connect(1, 2);
    kit.pass(Duration::from_secs(60));
    assert_eq!(kit.peers[2].node.roster(), kit.peers[1].node.roster());
    assert_eq!(kit.peers[2].history(), ["one", "two", "three"]);
}

#[test]
fn a_young_entry_without_its_body_is_taken_only_where_no_member_has_more() {
    let mut kit = Kit::room(2);
    kit.disconnect_all(1);
    kit.say(0, "young");
    kit.peers[0].drop_bodies();
    let log: LogId = kit.peers[0].node.local.log;
    let held = kit.peers[1].node.logs.heads.seq(&log);
    kit.connect(0, 1);
    assert_eq!(kit.peers[1].node.logs.heads.seq(&log), held, "another member may give it");
    kit.pass(Duration::from_secs(120));
    assert!(kit.peers[1].node.logs.heads.seq(&log) > held, "the log goes on all the same");
    kit.say(0, "next");
    assert_eq!(kit.peers[1].history(), ["next"]);
}
