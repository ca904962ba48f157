//! Reading: `chat tail`, `log`, `peers` and `status`, for people and as JSON.

use std::fs;

use chat_proto::api::messages::{Message, MessagePage};
use chat_proto::api::peers::{MemberRole, PathView, PeerView, RoleView};
use chat_proto::api::status::Status;
use chat_proto::event::{Event, EventEnvelope};
use chat_tests::cluster::{TestRoom, all_miss};
use chat_tests::daemon::{Daemon, StartDaemon};
use chat_tests::eventually::{SOON, eventually_true};

#[test]
fn tail_shows_the_last_messages_and_then_new_ones() {
    let room = TestRoom::of(&["alice", "bob"]);
    for number in 0..15 {
        room["alice"].api().send(&format!("number {number}"));
    }
    room.same_history(15);
    let mut tail = room["bob"].chat_on(&["tail", "-n", "3"]);
    for number in 12..15 {
        let line = tail.line(SOON, |_| true);
        assert!(line.ends_with(&format!("alice: number {number}")), "{line}");
    }
    room["alice"].api().send("live");
    tail.line(SOON, |line| line.ends_with("alice: live"));
    room["alice"].chat(&["send", "@bob", "quietly"]).ok();
    tail.line(SOON, |line| line.ends_with("alice → you: quietly"));
}

#[test]
fn json_backlog_resumes_behind_each_of_its_lines() {
    let alice = StartDaemon::found("alice").start();
    for text in ["zero", "one", "two", "three"] {
        alice.api().send(text);
    }
    let backlog: Vec<EventEnvelope> = alice.chat(&["tail", "--json", "--no-follow", "-n", "3"]).json();
    for (event, next) in backlog.iter().zip(["two", "three"]) {
        let mut resumed = alice.api().events(Some(&event.cursor.to_string()));
        assert_eq!(resumed.message(SOON).text, next);
    }
    alice.api().send("four");
    let last = backlog.last().expect("three messages").cursor.to_string();
    assert_eq!(alice.api().events(Some(&last)).message(SOON).text, "four");
}

/// Promise P8: an event stream resumed at any cursor repeats nothing.
#[test]
fn database_rolled_back_in_place_gives_a_gap_and_repeats_nothing() {
    let mut alice = StartDaemon::found("alice").start();
    let cursor_of = |alice: &Daemon, text: &str| {
        let page: MessagePage = alice.api().get("/v1/messages").json(200);
        page.with_cursors().find(|(message, _)| message.text == text).and_then(|(_, cursor)| cursor).expect("a cursor")
    };
    alice.api().send("kept");
    let kept = cursor_of(&alice, "kept").to_string();
    alice.stop();
    let database = alice.home().path().join("room.db");
    let older = fs::read(&database).expect("reads");
    alice.start_again();
    alice.api().send("lost");
    let lost = cursor_of(&alice, "lost").to_string();
    alice.stop();
    fs::write(&database, older).expect("writes in place");
    alice.start_again();
    for text in ["new", "newer", "newest"] {
        alice.api().send(text);
    }
    let mut resumed = alice.api().events(Some(&lost));
    let next = resumed.next(SOON).expect("an event").envelope();
    assert!(matches!(next.event, Event::Gap { .. }), "{next:?}");
    alice.api().send("after the gap");
    assert_eq!(resumed.message(SOON).text, "after the gap");
    assert_eq!(alice.api().events(Some(&kept)).message(SOON).text, "new");
}

#[test]
fn tail_survives_a_restart_of_its_daemon() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    let mut tail = room["bob"].chat_on(&["tail", "-n", "5"]);
    room["alice"].api().send("one");
    tail.line(SOON, |line| line.ends_with("alice: one"));
    room["bob"].kill();
    room["alice"].api().send("two");
    room["bob"].start_again();
    room["alice"].api().send("three");
    let texts: Vec<String> = (0..2)
        .map(|_| tail.line(SOON, |line| line.contains("alice: ")))
        .map(|line| line.rsplit("alice: ").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(texts, ["two", "three"], "each once, in order");
}

#[test]
fn tail_can_look_back_and_end() {
    let room = TestRoom::of(&["alice", "bob"]);
    for (number, (who, text)) in [("alice", "a1"), ("bob", "b1"), ("alice", "a2")].into_iter().enumerate() {
        room[who].api().send(text);
        room.same_history(number + 1);
    }
    let bob = &room["bob"];
    let shown = bob.chat(&["tail", "--no-follow"]).ok();
    assert_eq!(shown.lines().count(), 3, "{shown}");
    let shown = bob.chat(&["tail", "--no-follow", "--from", "alice"]).ok();
    assert!(shown.contains("a1") && shown.contains("a2") && !shown.contains("b1"), "{shown}");
    let events: Vec<EventEnvelope> = bob.chat(&["tail", "--no-follow", "--json", "--since", "all"]).json();
    let texts = |events: &[EventEnvelope]| -> Vec<String> {
        let text = |event: &EventEnvelope| match &event.event {
            Event::Message { message } => Some(message.text.clone()),
            Event::Peer { .. }
            | Event::Membership { .. }
            | Event::Rendezvous { .. }
            | Event::Delivery { .. }
            | Event::Knock { .. }
            | Event::Fork { .. }
            | Event::Gap { .. } => None,
        };
        events.iter().filter_map(text).collect()
    };
    assert_eq!(texts(&events), ["a1", "b1", "a2"]);
    assert!(events.iter().any(|event| matches!(event.event, Event::Membership { .. })), "{events:?}");
    // From the first message's cursor on.
    let first = events.iter().position(|event| matches!(event.event, Event::Message { .. })).expect("a message");
    let since = events[first].cursor.to_string();
    let later: Vec<EventEnvelope> = bob.chat(&["tail", "--no-follow", "--json", "--since", &since]).json();
    assert_eq!(texts(&later), ["b1", "a2"]);
}

#[test]
fn log_is_the_same_everywhere_and_searchable() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    for number in 0..30 {
        for name in ["alice", "bob", "carol"] {
            room[name].api().send(&format!("{name} says {number}"));
        }
    }
    room.same_history(90);
    let logs: Vec<String> = room.peers.iter().map(|peer| peer.chat(&["log", "--all", "--json"]).ok()).collect();
    assert_eq!(logs[0].lines().count(), 90);
    assert!(logs.iter().all(|log| *log == logs[0]), "byte for byte the same");

    let alice = &room["alice"];
    let found: Vec<Message> = alice.chat(&["log", "--json", "-q", "bob says 17"]).json();
    assert!(found.iter().any(|message| message.text == "bob says 17"), "{found:?}");
    assert!(found.iter().all(|message| message.text.contains("17")), "{found:?}");
    let from: Vec<Message> = alice.chat(&["log", "--json", "--from", "@carol", "-n", "5"]).json();
    assert_eq!(from.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(), {
        ["carol says 25", "carol says 26", "carol says 27", "carol says 28", "carol says 29"]
    });
    // Between two messages.
    let all: Vec<Message> = alice.chat(&["log", "--all", "--json"]).json();
    let (after, before) = (all[9].id.to_string(), all[20].id.to_string());
    let between: Vec<Message> = alice.chat(&["log", "--json", "--after", &after, "--before", &before]).json();
    assert_eq!(between, all[10..20]);
    let lines = alice.chat(&["log", "-n", "2"]).ok();
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

#[test]
fn direct_messages_are_found_by_partner() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    room["alice"].api().send("to all");
    room["alice"].api().send_to(&["bob"], "to bob");
    room["alice"].api().send_to(&["carol"], "to carol");
    let with: Vec<Message> = room["alice"].chat(&["log", "--json", "--with", "bob"]).json();
    assert_eq!(with.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(), ["to bob"]);
}

#[test]
fn peers_lists_every_member_with_its_connection() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    let view = |room: &TestRoom, name: &str| -> PeerView {
        let peers: Vec<PeerView> = room["alice"].chat(&["peers", "--json"]).json();
        assert_eq!(peers.len(), 3);
        peers.into_iter().find(|view| view.peer.name == name).expect("a member")
    };
    let me = view(&room, "alice");
    assert!(me.me && me.online && me.member == MemberRole::Admin, "{me:?}");
    eventually_true(SOON, "bob is measured", || view(&room, "bob").rtt_ms.is_some());
    let bob = view(&room, "bob");
    assert!(!bob.me && bob.online && bob.path == PathView::Direct, "{bob:?}");
    assert!(bob.rtt_ms.is_some_and(|rtt| rtt > 0.0 && rtt < 1000.0), "{bob:?}");

    room["carol"].kill();
    all_miss(&[&room["alice"], &room["bob"]], "carol");
    let carol = view(&room, "carol");
    assert!(carol.path == PathView::None && carol.last_seen.is_some() && carol.rtt_ms.is_none(), "{carol:?}");
    let table = room["alice"].chat(&["peers"]).ok();
    assert!(table.starts_with("NAME"), "{table}");
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(row("alice (you)").contains("admin"), "{table}");
    assert!(row("bob").contains("direct"), "{table}");
    assert!(row("carol").contains(" no ") && row("carol").contains("ago"), "{table}");
}

#[test]
fn status_shows_peer_room_and_daemon() {
    let room = TestRoom::of(&["alice", "bob"]);
    room["alice"].api().send("one");
    room.same_history(1);
    let status: Status = room["bob"].chat(&["status", "--json"]).json().remove(0);
    assert_eq!((status.peer.name.as_str(), status.members, status.members_online), ("bob", 2, 2));
    assert_eq!((status.messages, status.pid), (1, room["bob"].pid()));
    assert_eq!(status.reachability.port, room["bob"].home().port());
    assert!(!status.room.open && status.home == room["bob"].home().path().to_string_lossy());
    assert!(matches!(status.role, RoleView::Holder | RoleView::Standby | RoleView::Member));
    let text = room["bob"].chat(&["status"]).ok();
    assert!(text.contains("2 members, 2 online") && text.contains("by invitation"), "{text}");
    let of_daemon: Status = room["bob"].chatd(&["status", "--json"]).json().remove(0);
    assert_eq!(of_daemon.peer, status.peer);
    assert!(room["bob"].chatd(&["status"]).ok().contains("2 members, 2 online"));
}

#[test]
fn message_with_escape_sequences_does_not_control_the_terminal() {
    let alice = StartDaemon::found("alice").start();
    alice.api().send("\u{1b}[31mred\u{1b}[0m \u{7} \u{202e}backwards");
    for args in [&["log"][..], &["tail", "--no-follow"]] {
        let shown = alice.chat(args).ok();
        assert!(shown.contains("red") && !shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
    }
    let json = alice.chat(&["log", "--json"]).ok();
    assert!(!json.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{json:?}");
    let messages: Vec<Message> = alice.chat(&["log", "--json"]).json();
    assert_eq!(messages[0].text, "\u{1b}[31mred\u{1b}[0m \u{7} \u{202e}backwards", "scripts get what was written");
}
