//! Promise P8: an event stream resumed at a cursor misses nothing and repeats nothing, across restarts of either side.

use std::collections::HashSet;
use std::time::Duration;

use chat_proto::event::{Event, MembershipAction};
use chat_tests::api::events::EventReader;
use chat_tests::api::{DaemonApi, RawCall};
use chat_tests::cluster::TestRoom;
use chat_tests::daemon::StartDaemon;
use chat_tests::eventually::SOON;

/// Takes messages until there are `until` in all.
#[track_caller]
fn take(events: &mut EventReader, texts: &mut Vec<String>, until: usize) {
    while texts.len() < until {
        texts.push(events.message(SOON).text);
    }
}

#[test]
fn killed_reader_resumes_across_a_restart_of_the_daemon() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    let mut texts = Vec::new();
    let mut sent = Vec::new();
    let mut say = |room: &TestRoom, count: usize| {
        for _ in 0..count {
            let text = format!("number {}", sent.len());
            room["alice"].api().send(&text);
            sent.push(text);
        }
        sent.len()
    };
    let mut events = room["bob"].api().events(None);
    say(&room, 20);
    // The reader takes a part of what there is and is killed.
    take(&mut events, &mut texts, 7);
    let last = events.last_id().expect("events have ids").to_owned();
    drop(events);
    say(&room, 20);
    room["bob"].kill();
    say(&room, 20);
    room["bob"].start_again();
    let mut events = room["bob"].api().events(Some(&last));
    take(&mut events, &mut texts, 50);
    // The daemon is stopped under the reader.
    room["bob"].stop();
    room["bob"].start_again();
    let last = events.last_id().expect("events have ids").to_owned();
    drop(events);
    let all = say(&room, 20);
    let mut events = room["bob"].api().events(Some(&last));
    take(&mut events, &mut texts, all);
    assert_eq!(texts, sent, "every message, once, in order");
}

#[test]
fn event_ids_grow_and_do_not_repeat() {
    let room = TestRoom::of(&["alice", "bob"]);
    let mut events = room["bob"].api().events_at("/v1/events?since=all", None);
    for number in 0..50 {
        room["alice"].api().send(&number.to_string());
    }
    let mut ids = HashSet::new();
    let mut messages = 0;
    while messages < 50 {
        let raw = events.next(SOON).expect("events come");
        let envelope = raw.envelope();
        assert!(ids.insert(raw.id.clone()), "{} came twice", raw.id);
        messages += usize::from(matches!(envelope.event, Event::Message { .. }));
    }
}

#[test]
fn stream_from_the_beginning_has_every_kind_of_event() {
    let alice = StartDaemon::found("alice").start();
    let mut events = alice.api().events(None);
    let bob = StartDaemon::join("bob", &alice.ticket()).start();
    let membership = |event: &Event| match event {
        Event::Membership { change } if change.peer.name == "bob" => Some(change.action),
        Event::Membership { .. }
        | Event::Message { .. }
        | Event::Peer { .. }
        | Event::Rendezvous { .. }
        | Event::Delivery { .. }
        | Event::Knock { .. }
        | Event::Fork { .. }
        | Event::Gap { .. } => None,
    };
    assert_eq!(events.find(SOON, "bob's admission", membership), MembershipAction::Admitted);
    let online = |event: &Event, name: &str, state: bool| match event {
        Event::Peer { peer } if peer.peer.name == name && peer.online == state => Some(()),
        Event::Peer { .. }
        | Event::Message { .. }
        | Event::Membership { .. }
        | Event::Rendezvous { .. }
        | Event::Delivery { .. }
        | Event::Knock { .. }
        | Event::Fork { .. }
        | Event::Gap { .. } => None,
    };
    let mut events = alice.api().events_at("/v1/events?since=all", None);
    events.find(SOON, "bob online", |event| online(event, "bob", true));
    let sent = alice.api().send_to(&["bob"], "psst");
    events.find(SOON, "the delivery", |event| match event {
        Event::Delivery { message, copies, delivered } if *message == sent.message.id && *copies >= 1 => {
            (delivered.len() == 1).then_some(())
        }
        Event::Delivery { .. }
        | Event::Message { .. }
        | Event::Peer { .. }
        | Event::Membership { .. }
        | Event::Rendezvous { .. }
        | Event::Knock { .. }
        | Event::Fork { .. }
        | Event::Gap { .. } => None,
    });
    drop(bob);
    events.find(SOON, "bob offline", |event| online(event, "bob", false));
}

#[test]
fn cursor_of_another_database_is_answered_with_a_gap() {
    let alice = StartDaemon::found("alice").start();
    alice.api().send("hello");
    let mut events = alice.api().events(Some("deadbeef-7"));
    events.find(SOON, "a gap", |event| matches!(event, Event::Gap { .. }).then_some(()));
    let strange = RawCall { headers: &[("Last-Event-ID", "x")], ..RawCall::get("/v1/events") };
    alice.api().call(strange).expect("answered").problem(400);
}

#[test]
fn first_bytes_of_a_stream_come_at_once() {
    let alice = StartDaemon::found("alice").start();
    let socket = alice.home().socket();
    let curl = format!("exec curl --silent --no-buffer --unix-socket {} http://localhost/v1/events", socket.display());
    let mut curl = alice.home().shell(&curl).spawn();
    // Long before the first keep-alive, which comes after 15 s.
    curl.line(Duration::from_secs(10), |_| true);
}

#[test]
fn json_lines_have_the_same_events() {
    let alice = StartDaemon::found("alice").start();
    alice.api().send("hello");
    let curl = alice.home().shell(&format!(
        "curl --silent --no-buffer --max-time 20 --unix-socket {} -H 'Accept: application/x-ndjson' \
         'http://localhost/v1/events?since=all' | grep -m 1 hello",
        alice.home().socket().display()
    ));
    let line = curl.run();
    let line = line.stdout.lines().next().unwrap_or_default();
    let envelope: chat_proto::event::EventEnvelope = serde_json::from_str(line).expect("a line is an event");
    let mut events = alice.api().events_at("/v1/events?since=all", None);
    loop {
        let raw = events.next(SOON).expect("it is there");
        if raw.id == envelope.cursor.to_string() {
            assert_eq!(raw.envelope(), envelope);
            break;
        }
    }
}

#[test]
fn stream_over_tcp_needs_the_token() {
    let alice = StartDaemon::found("alice").start();
    let mut events = alice.tcp().events(None);
    alice.tcp().send("over tcp");
    assert_eq!(events.message(SOON).text, "over tcp");
    DaemonApi::tcp(&alice.url(), None).get("/v1/events").problem(401);
}
