//! Joining a room with a ticket or by knocking, at the start or while running; leaving it; and what is left of it.

use chat_proto::api::members::Knock;
use chat_proto::error::ErrorCode;
use chat_tests::api::{RawCall, RawReply};
use chat_tests::eventually::{SOON, eventually_true};
use chat_tests::home::TestHome;
use chat_tests::process::{Running, Signal};
use serde_json::{Value, json};

/// Starts a daemon that knocks at another one's room, and waits for the words it shows.
#[track_caller]
fn knock(home: &TestHome, at: &TestHome) -> (Running, String) {
    let knocking = home.chatd(&["start", "--json", "--name", "bob", "--join", &at.address()]).spawn();
    let line = knocking.says(SOON, |line| line.trim().starts_with("words "));
    let words = line.trim().trim_start_matches("words ").trim().to_owned();
    (knocking, words)
}

/// The only knock at a home's room.
#[track_caller]
fn only_knock(home: &TestHome) -> Knock {
    let mut knocks: Vec<Knock> = home.chat(&["knocks", "--json"]).run().json();
    assert_eq!(knocks.len(), 1, "{knocks:?}");
    knocks.remove(0)
}

#[track_caller]
fn join(home: &TestHome, target: &str) -> RawReply {
    home.api().post("/v1/join", &json!({"target": target}))
}

#[test]
fn a_joined_peer_may_write_at_once_and_joining_again_changes_nothing() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    let founded = ann.start(&[]);
    let ticket = ann.ticket();
    let joined = bob.start(&["--name", "bob", "--join", &ticket]);
    assert_eq!(joined["room"], founded["room"], "the name of the room has arrived");
    assert_eq!((joined["peer"]["name"].as_str(), joined["members"].as_u64()), (Some("bob"), Some(2)));
    bob.api().send("hello");

    assert_eq!(bob.start(&["--join", &ticket])["already_running"], true);
    bob.chatd(&["stop"]).run().ok();
    let again = bob.start(&["--join", &ticket]);
    assert_eq!((&again["room"], &again["peer"]), (&founded["room"], &joined["peer"]));
    assert!(!bob.log().contains(&ticket[..60]) && !bob.log().contains("hello"), "neither tickets nor texts are logged");
}

#[test]
fn another_room_is_refused_with_what_to_do() {
    let (ann, bob, carol) = (TestHome::new(), TestHome::new(), TestHome::new());
    ann.start(&[]);
    carol.start(&[]);
    bob.start(&["--name", "bob", "--join", &ann.ticket()]);
    let other = carol.ticket();
    for state in ["running", "stopped"] {
        let said = bob.chatd(&["start", "--join", &other]).run().refuses(1);
        assert!(said.contains("chat leave"), "{state}: {said}");
        assert!(!said.contains("chat1"), "{state}: {said}");
        bob.chatd(&["stop"]).run().ok();
    }
}

/// A daemon that was started before the ticket came joins by the same command as one that was not.
#[test]
fn start_with_a_ticket_moves_a_home_that_is_alone_in_its_room() {
    let ann = TestHome::new();
    let founded = ann.start(&["--open"]);
    for running in [true, false] {
        let home = TestHome::new();
        let own = home.start(&["--name", "bob"]);
        if !running {
            home.chatd(&["stop"]).run().ok();
        }
        let said = home.chatd(&["start", "--json", "--join", "127.0.0.1:1"]).run().refuses(1);
        assert!(said.contains("reach"), "{said}");
        assert_eq!(home.start(&[])["room"], own["room"], "nothing was changed");
        if !running {
            home.chatd(&["stop"]).run().ok();
        }
        let target = if running { ann.ticket() } else { ann.address() };
        let moved = home.start(&["--join", &target]);
        assert_eq!((&moved["room"], moved["already_running"].as_bool()), (&founded["room"], Some(running)));
        assert!(moved["notes"].to_string().contains("in which this peer was alone"), "{moved}");
        assert_eq!(home.api().get("/v1/status").json::<Value>(200)["room"], founded["room"]);
        home.api().send("hello");
        home.chatd(&["stop"]).run().ok();
        assert_eq!(home.start(&[])["room"], founded["room"]);
    }
}

#[test]
fn a_knocking_daemon_answers_and_its_start_returns_when_it_is_admitted() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    let founded = ann.start(&[]);
    let (mut knocking, words) = knock(&bob, &ann);
    let knock = only_knock(&ann);
    assert_eq!((knock.name, knock.words), ("bob".to_owned(), words));

    let said = bob.chatd(&["start"]).run().refuses(1);
    assert!(said.contains("is waiting to be admitted to a room"), "{said}");
    assert_eq!(bob.api().get("/v1/status").problem(503).code, ErrorCode::Joining);

    assert_eq!(ann.api().post(&format!("/v1/knocks/{}", knock.id), &json!({"admit": true})).status, 204);
    let joined: Value = serde_json::from_str(&knocking.next_line()).expect("JSON");
    assert_eq!(joined["room"], founded["room"]);
}

#[test]
fn a_knock_ends_with_the_command_that_waits_and_with_chatd_stop() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    ann.start(&[]);
    let (mut knocking, _) = knock(&bob, &ann);
    knocking.signal(Signal::INT);
    knocking.wait(SOON);
    bob.wait_until_free();

    let (mut knocking, _) = knock(&bob, &ann);
    assert_eq!(bob.chatd(&["stop"]).run().ok(), "chatd has stopped\n");
    assert_eq!(knocking.wait(SOON).code(), Some(1));
    eventually_true(SOON, "the knock is gone", || ann.chat(&["knocks", "--json"]).run().ok().is_empty());
}

#[test]
fn a_running_daemon_that_is_alone_moves_and_keeps_what_is_its_own() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    let (there, here) = (ann.start(&[]), bob.start(&["--name", "bob"]));
    bob.api().send("alone");
    let (api, port) = (bob.api_file(), bob.api().status().reachability.port);

    assert_eq!(join(&bob, "127.0.0.1:1").problem(502).code, ErrorCode::Unreachable);
    assert_eq!(bob.api().get("/v1/status").json::<Value>(200)["room"], here["room"], "nothing was changed");

    assert_eq!(join(&bob, &ann.ticket()).json::<Value>(200)["room"], there["room"]);
    bob.api().send("hello");
    assert_eq!((bob.api_file(), bob.api().status().reachability.port), (api, port));
    assert!(bob.files().iter().any(|name| name.starts_with("room.db.left-")), "{:?}", bob.files());

    assert_eq!(join(&bob, &ann.ticket()).problem(409).code, ErrorCode::AlreadyInRoom);
    bob.chatd(&["stop"]).run().ok();
    assert_eq!(bob.start(&[])["room"], there["room"]);
}

#[test]
fn leaving_tells_the_members_sets_the_room_aside_and_stops() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    ann.start(&[]);
    let joined = bob.start(&["--name", "bob", "--join", &ann.ticket()]);
    let leave = RawCall { method: "POST", path: "/v1/leave", headers: &[], body: Some(b"") };
    assert_eq!(bob.api().call(leave).expect("an answer").status, 204);
    bob.wait_until_free();
    assert!(!bob.files().contains(&"room.db".to_owned()), "{:?}", bob.files());
    eventually_true(SOON, "the other member learns of it", || ann.api().status().members == 1);
    assert!(!bob.log().contains("WARN"), "{}", bob.log());
    let own = bob.start(&[]);
    assert_eq!(own["peer"]["id"], joined["peer"]["id"], "the key stays");
    assert_ne!(own["room"]["id"], joined["room"]["id"]);
}
