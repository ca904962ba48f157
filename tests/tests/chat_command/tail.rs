//! `chat tail`: nothing missed, nothing twice, across restarts and gaps.

use std::time::Duration;

use chat_proto::event::{Event, EventEnvelope, MembershipAction, MembershipChange};

use chat_tests::eventually::SOON;

use crate::fake::{Fake, FakeFault, alice, bob, peer};
use crate::process::{read_and_leave, run, spawn};

const DAY: &str = "-- 2001-09-09";

#[test]
fn tail_prints_history_and_then_new_messages() {
    let fake = Fake::start();
    for number in 0..12 {
        fake.say(bob(), &format!("m{number}"));
    }
    let mut tail = spawn(&fake, &["tail"]);
    assert_eq!(tail.next_line(), DAY);
    for number in 2..12 {
        assert_eq!(tail.next_line(), format!("01:46 bob: m{number}"));
    }
    fake.state().say(alice(), vec![bob()], "psst\nthere");
    assert_eq!(tail.next_line(), "01:46 you → bob: psst");
    assert_eq!(tail.next_line(), "                 there");
    let change = MembershipChange { action: MembershipAction::Admitted, peer: peer(3, "carol"), by: bob(), was: None };
    fake.publish(Event::Membership { change });
    assert_eq!(tail.next_line(), "01:46 -- carol was admitted by bob");
}

#[test]
fn message_sent_during_the_history_is_printed_once() {
    let fake = Fake::start();
    fake.say(bob(), "before");
    fake.fault("GET /v1/messages", FakeFault::Say("between"));
    let mut tail = spawn(&fake, &["tail", "-n", "2"]);
    assert_eq!(
        [tail.next_line(), tail.next_line(), tail.next_line()],
        [DAY, "01:46 bob: before", "01:46 bob: between"]
    );
    fake.say(bob(), "after");
    assert_eq!(tail.next_line(), "01:46 bob: after");
}

#[test]
fn tail_across_restarts_loses_and_repeats_nothing() {
    let mut fake = Fake::start();
    let mut tail = spawn(&fake, &["tail", "-n", "0"]);
    fake.answered("GET /v1/status");
    // Before its first event the tail knows its place only from the first block of the stream.
    for round in 0..3 {
        fake.requests("GET /v1/events", 1 + round);
        if round > 0 {
            fake.say(bob(), &format!("up{round}"));
        }
        fake.stop();
        assert_eq!(tail.next_said(), "chat: the daemon is gone, waiting for it to come back");
        fake.say(bob(), &format!("down{round}"));
        fake.restart();
        assert_eq!(tail.next_said(), "chat: the daemon is back");
    }
    let mut lines = vec![tail.next_line()];
    lines.extend((0..5).map(|_| tail.next_line()));
    let expected = ["down0", "up1", "down1", "up2", "down2"].map(|text| format!("01:46 bob: {text}"));
    assert_eq!(lines[0], DAY);
    assert_eq!(lines[1..], expected);
    fake.say(bob(), "end");
    assert_eq!(tail.next_line(), "01:46 bob: end");
    tail.try_line(Duration::from_millis(1), |_| true).expect_err("nothing more is printed");
    let resumed = fake.requests("GET /v1/events", 4);
    assert_eq!(resumed[1].header("last-event-id"), Some("0000002a-0"));
    assert!(resumed[1..].iter().all(|request| request.header("last-event-id").is_some()));
}

#[test]
fn tail_fills_a_gap_from_the_history() {
    let mut fake = Fake::start();
    fake.say(bob(), "old");
    let mut tail = spawn(&fake, &["tail"]);
    assert_eq!([tail.next_line(), tail.next_line()], [DAY, "01:46 bob: old"]);
    fake.stop();
    assert_eq!(tail.next_said(), "chat: the daemon is gone, waiting for it to come back");
    for number in 0..700 {
        fake.say(bob(), &format!("m{number}"));
    }
    fake.state().pruned = 698;
    fake.restart();
    for number in 0..700 {
        assert_eq!(tail.next_line(), format!("01:{:02} bob: m{number}", 46 + (41 + number) / 60));
    }
    assert_eq!(tail.next_said(), "chat: the daemon is back");
    assert_eq!(tail.next_said(), "chat: the stream has a gap: older events are gone");
    fake.say(bob(), "new");
    assert_eq!(tail.next_line(), "01:58 bob: new");
}

#[test]
fn json_tail_prints_one_event_per_line_to_resume_from() {
    let fake = Fake::start();
    fake.say(bob(), "first");
    let mut tail = spawn(&fake, &["tail", "--json"]);
    let first: EventEnvelope = serde_json::from_str(&tail.next_line()).expect("an event");
    assert!(matches!(&first.event, Event::Message { message } if message.text == "first"));
    fake.say(bob(), "sec\u{9b}ond");
    fake.publish(Event::Gap { reason: "a test".into() });
    let line = tail.next_line();
    assert!(line.contains("sec\\u009bond"), "{line}");
    assert!(tail.next_line().contains(r#""type":"gap""#));
    let since = run(&fake, &["tail", "--json", "--since", &first.cursor.to_string(), "--no-follow"]);
    assert_eq!(since.out.lines().next(), Some(line.as_str()));
    assert_eq!(since.out.lines().count(), 2);
}

#[test]
fn json_backlog_gives_each_message_the_cursor_that_resumes_behind_it() {
    let fake = Fake::start();
    for number in 0..5 {
        fake.say(bob(), &format!("m{number}"));
    }
    let texts = |out: &str| -> Vec<(String, String)> {
        let events = out.lines().map(|line| serde_json::from_str::<EventEnvelope>(line).expect("an event"));
        events.map(|event| (event.cursor.to_string(), serde_json::to_string(&event.event).expect("is JSON"))).collect()
    };
    let backlog = texts(&run(&fake, &["tail", "--json", "-n", "3", "--no-follow"]).out);
    assert_eq!(backlog.len(), 3);
    for (read, (cursor, _)) in backlog.iter().enumerate() {
        let rest = texts(&run(&fake, &["tail", "--json", "--since", cursor, "--no-follow"]).out);
        assert_eq!(rest, backlog[read + 1..]);
    }
}

#[test]
fn tail_without_follow_ends() {
    let fake = Fake::start();
    fake.say(bob(), "one");
    fake.say(alice(), "two");
    let both = format!("{DAY}\n01:46 bob: one\n01:46 alice: two\n");
    for arguments in [&["tail", "--no-follow"][..], &["tail", "--no-follow", "--since", "all"]] {
        let ended = run(&fake, arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(0), both.as_str()), "{arguments:?}");
    }
    assert_eq!(run(&fake, &["tail", "--no-follow", "-n", "0"]).out, "");
}

#[test]
fn tail_from_one_member_shows_its_messages_only() {
    let fake = Fake::start();
    fake.say(bob(), "one");
    fake.say(alice(), "two");
    let mut tail = spawn(&fake, &["tail", "--from", "@Bob"]);
    assert_eq!([tail.next_line(), tail.next_line()], [DAY, "01:46 bob: one"]);
    fake.say(alice(), "three");
    let change =
        MembershipChange { action: MembershipAction::Left, peer: peer(3, "carol"), by: peer(3, "carol"), was: None };
    fake.publish(Event::Membership { change });
    fake.say(bob(), "four");
    assert_eq!(tail.next_line(), "01:46 bob: four");
    let ended = run(&fake, &["tail", "--from", "dan"]);
    assert_eq!(ended.err, "chat: no member is called 'dan'\nhint: 'chat peers' lists the members\n");
    assert_eq!(ended.code, Some(1));
}

#[test]
fn tail_ends_when_its_reader_leaves() {
    let fake = Fake::start();
    fake.say(bob(), "last");
    let (line, ended) = read_and_leave(&fake, &["tail"], 2);
    assert_eq!((line.as_str(), ended.code), ("01:46 bob: last", Some(0)));
}

#[test]
fn refused_stream_ends_the_tail() {
    let mut fake = Fake::start();
    let mut tail = spawn(&fake, &["tail", "-n", "0"]);
    fake.answered("GET /v1/status");
    fake.stop();
    assert_eq!(tail.next_said(), "chat: the daemon is gone, waiting for it to come back");
    let problem = chat_proto::error::Problem::new(chat_proto::error::ErrorCode::Forbidden, "no longer");
    fake.fault("GET /v1/events", FakeFault::Refuse(problem));
    fake.restart();
    assert_eq!(tail.next_said(), "chat: no longer");
    assert_eq!(tail.wait(SOON).code(), Some(4));
}
