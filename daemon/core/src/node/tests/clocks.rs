//! Clocks that are wrong.
//!
//! Promise P9: a wrong clock never silences, hides or delays any member's messages.

use std::time::Duration;

use chat_proto::id::PeerId;

use crate::admission::codec::ticket_request;
use crate::config::ORDER_STEP_MAX;
use crate::input::Command;
use crate::log::entry::{Dep, Hlc, ORDER_LABEL_MAX};
use crate::node::tests::forger::Forger;
use crate::node::tests::kit::{Kit, key};
use crate::output::Reply;
use crate::wire::Frame;

const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// Dates of the messages that a peer holds, by its own clock, in the shared order.
fn dates(kit: &Kit, n: usize) -> Vec<i64> {
    let now = i64::try_from(kit.now.wall.as_ms()).expect("small");
    let said = kit.peers[n].in_order().into_iter().filter(|(_, entry)| entry.control().is_none());
    said.map(|(_, entry)| i64::try_from(entry.header().time.wall().as_ms()).expect("small") - now).collect()
}

#[test]
fn author_whose_clock_was_ahead_is_shown_at_once_and_dates_rightly_again() {
    for ahead in [HOUR_MS, 74 * YEAR_MS] {
        let mut kit = Kit::room(3);
        kit.say(0, "now");
        kit.peers[1].clock_error_ms = ahead;
        kit.say(1, "ahead");
        assert_eq!(kit.peers[0].history(), ["now", "ahead"]);
        kit.say(2, "answer");
        kit.peers[1].clock_error_ms = 0;
        kit.say(1, "right again");
        kit.say(0, "to all of that");
        assert_eq!(kit.peers[0].history(), ["now", "ahead", "answer", "right again", "to all of that"]);
        kit.assert_alike();
        let dates = dates(&kit, 0);
        assert_eq!(dates[1], ahead);
        assert!(dates[2..].iter().all(|date| date.abs() <= 10_000), "{dates:?}");
        for n in 0..3 {
            kit.restart(n);
        }
        kit.connect_all();
        kit.say(1, "after a restart");
        assert_eq!(kit.peers[2].history().last().map(String::as_str), Some("after a restart"));
        kit.assert_alike();
    }
}

#[test]
fn slow_clock_shows_everything_and_its_own_come_last() {
    for behind in [HOUR_MS, 40 * YEAR_MS] {
        let mut kit = Kit::room(3);
        kit.peers[2].clock_error_ms = -behind;
        for n in [0, 2, 1, 2] {
            kit.say(n, &format!("by {n}"));
        }
        assert_eq!(kit.peers[2].history(), ["by 0", "by 2", "by 1", "by 2"]);
        kit.assert_alike();
        assert_eq!(dates(&kit, 0)[1], -behind, "its dates are what its clock shows");
    }
}

#[test]
fn newcomer_with_a_wrong_clock_is_a_member() {
    for error in [-HOUR_MS, HOUR_MS, -40 * YEAR_MS, 74 * YEAR_MS] {
        let mut kit = Kit::room(2);
        kit.say(1, "before");
        let ticket = kit.invite(0);
        assert!(kit.show_ticket(2, 0, &ticket));
        kit.enter(2);
        kit.peers[2].clock_error_ms = error;
        kit.connect(0, 2);
        let me = kit.peers[2].id;
        assert!(kit.peers[2].node.roster().is_member(&me), "{error}");
        kit.say(2, "hello");
        kit.say(1, "welcome");
        assert_eq!(kit.peers[2].history(), ["before", "hello", "welcome"], "{error}");
        kit.assert_alike();
    }
}

#[test]
fn order_is_the_same_after_a_partition_with_wrong_clocks() {
    let mut kit = Kit::room(4);
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        kit.disconnect(a, b);
    }
    for (n, error) in [(1, HOUR_MS), (2, -HOUR_MS), (3, 5 * YEAR_MS)] {
        kit.peers[n].clock_error_ms = error;
    }
    for round in 0..5 {
        for n in [3, 0, 2, 1] {
            kit.say(n, &format!("by {n} in {round}"));
            kit.pass(Duration::from_millis(700));
        }
        kit.peers[3].clock_error_ms = -kit.peers[3].clock_error_ms;
    }
    kit.connect_all();
    assert_eq!(kit.peers[0].history().len(), 20);
    kit.assert_alike();
}

#[test]
fn whether_a_ticket_has_expired_follows_from_the_clock_of_the_door() {
    let mut kit = Kit::room(2);
    let ticket = kit.invite(0);
    kit.peers[1].clock_error_ms = HOUR_MS;
    let id = PeerId::from_bytes(key(2).verifying_key().to_bytes());
    assert!(kit.ask(2, 1, ticket_request(&ticket, &id, "p2")).is_some());
    assert!(!kit.show_ticket(2, 1, &ticket));
    assert!(kit.show_ticket(2, 0, &ticket));
    assert!(kit.peers[1].node.roster().is_member(&id), "and is valid for all");
}

#[test]
fn date_that_runs_back_is_only_a_date() {
    let mut kit = Kit::room(2);
    kit.say(1, "one");
    let mut forger = Forger::behind(&kit, 1);
    forger.header.time = Hlc(forger.header.time.0 - 1_000_000_000);
    let back = forger.say("two");
    kit.frame(0, 1, &Frame::Entries(vec![back]));
    assert_eq!(kit.peers[0].history(), ["one", "two"]);
}

#[test]
fn order_at_the_end_of_time_stops_nothing() {
    let farthest = ORDER_LABEL_MAX.0 + ORDER_STEP_MAX;
    for (order, taken) in [(u64::MAX, false), (u64::MAX - 9, false), (farthest + 1, false), (farthest, true)] {
        let mut kit = Kit::room(3);
        let mut forger = Forger::behind(&kit, 2);
        forger.header.deps.push(Dep::order(kit.peers[2].id, Hlc(order)));
        let last = forger.say("the last word");
        kit.frame(0, 2, &Frame::Entries(vec![last]));
        // A question and its answer, where the clock of the one that answers is slow.
        kit.peers[1].clock_error_ms = -HOUR_MS;
        for (n, what) in [(0, "question"), (1, "answer"), (0, "thanks")] {
            kit.pass(Duration::from_millis(10));
            kit.say(n, what);
        }
        kit.join(3);
        kit.connect_all();
        assert!(kit.peers[1].node.roster().is_member(&kit.peers[3].id));
        let history = kit.peers[0].history();
        assert_eq!(history[usize::from(taken)..], ["question", "answer", "thanks"], "{order}");
        assert_eq!(history.contains(&"the last word".to_owned()), taken, "{order}");
        kit.assert_alike();
    }
}

/// What a peer reports about its own clock.
fn own_clock_off(kit: &mut Kit, n: usize) -> Option<i64> {
    match kit.command(n, Command::Status) {
        Some(Ok(Reply::Status(status))) => status.clock_off_ms,
        other => panic!("no status: {other:?}"),
    }
}

/// What a peer reports about another one's clock.
fn clock_off_of(kit: &mut Kit, n: usize, other: usize) -> Option<i64> {
    let id = kit.peers[other].id;
    match kit.command(n, Command::Peers) {
        Some(Ok(Reply::Peers(list))) => {
            list.peers.into_iter().find(|view| view.peer.id == id).and_then(|v| v.clock_off_ms)
        }
        other => panic!("no members: {other:?}"),
    }
}

#[test]
fn wrong_clock_is_reported_to_its_owner_and_to_others_until_it_is_put_right() {
    let mut kit = Kit::room(4);
    for error in [HOUR_MS, -HOUR_MS] {
        kit.disconnect_all(1);
        kit.peers[1].clock_error_ms = error;
        kit.connect_all();
        assert_eq!((own_clock_off(&mut kit, 1), own_clock_off(&mut kit, 0)), (Some(error), Some(0)));
        assert_eq!((clock_off_of(&mut kit, 0, 1), clock_off_of(&mut kit, 1, 0)), (Some(error), Some(-error)));
        kit.say(1, "what time is it?");
        for n in 0..4 {
            assert_eq!(kit.peers[n].clocks_off.last(), Some(&Some(error)), "at {n}");
        }
        kit.say(0, "another");
        assert_eq!(kit.peers[2].clocks_off.last(), Some(&None));
        assert_eq!(kit.peers[1].clocks_off.last(), Some(&Some(-error)), "as seen from there");
    }
    kit.peers[1].clock_error_ms = 0;
    kit.pass(Duration::from_secs(600));
    assert_eq!((own_clock_off(&mut kit, 1), clock_off_of(&mut kit, 0, 1)), (Some(0), Some(0)));
    kit.disconnect_all(1);
    assert_eq!(own_clock_off(&mut kit, 1), None);
}
