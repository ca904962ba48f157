//! Getting into a room with a ticket or by knocking, at the start or while running; leaving it; and what stays behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::run::{COMMAND_MAX, TestHome, wait};

/// Starts a knock and waits for the words it shows.
fn knock(home: &TestHome, args: &[&str]) -> (Child, String) {
    let mut command = home.command(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("chatd was built");
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
    let words = said
        .find_map(|line| line.expect("text").trim().strip_prefix("words ").map(|words| words.trim().to_owned()))
        .expect("words");
    // So that nobody has to read on.
    std::thread::spawn(move || said.for_each(drop));
    (child, words)
}

/// The only knock at a home's room.
fn only_knock(home: &TestHome) -> serde_json::Value {
    let (status, list) = home.call("GET", "/v1/knocks", "");
    assert_eq!(status, 200);
    let knocks = list["knocks"].as_array().expect("a list");
    assert_eq!(knocks.len(), 1, "{list}");
    knocks[0].clone()
}

#[test]
fn a_ticket_lets_in_and_joining_again_is_done_already() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    let founded = ann.start(&[]);
    let ticket = ann.ticket();
    let joined = bob.start(&["--name", "bob", "--join", &ticket]);
    assert_eq!(joined["room"], founded["room"], "the name of the room has arrived");
    assert_eq!((joined["peer"]["name"].as_str(), joined["members"].as_u64()), (Some("bob"), Some(2)));
    let (status, _) = bob.call("POST", "/v1/messages", &json!({"text": "hello"}).to_string());
    assert_eq!(status, 201, "whoever has joined may talk at once");

    assert_eq!(bob.start(&["--join", &ticket])["already_running"], true);
    bob.chatd(&["stop"]).ok();
    let again = bob.start(&["--join", &ticket]);
    assert_eq!((&again["room"], &again["peer"]), (&founded["room"], &joined["peer"]));
    let log = std::fs::read_to_string(bob.path().join("chatd.log")).expect("a log");
    assert!(!log.contains(&ticket[..60]) && !log.contains("hello"), "neither tickets nor texts are logged");
}

#[test]
fn another_room_is_refused_with_what_to_do() {
    let (ann, bob, carol) = (TestHome::new(), TestHome::new(), TestHome::new());
    ann.start(&[]);
    carol.start(&[]);
    bob.start(&["--name", "bob", "--join", &ann.ticket()]);
    let other = carol.ticket();
    for state in ["running", "stopped"] {
        let said = bob.chatd(&["start", "--join", &other]).fails(1);
        assert!(said.contains("chat leave"), "{state}: {said}");
        let said = carol.chatd(&["start", "--join", &ann.ticket()]).fails(1);
        assert!(said.contains("chat join TICKET"), "{state}: {said}");
        assert!(!said.contains("chat1"), "{state}: {said}");
        bob.chatd(&["stop"]).ok();
        carol.chatd(&["stop"]).ok();
    }
}

#[test]
fn a_knock_shows_the_words_that_the_members_see_and_waits() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    let founded = ann.start(&[]);
    let (child, words) = knock(&bob, &["start", "--json", "--name", "bob", "--join", &ann.address()]);
    let knock = only_knock(&ann);
    assert_eq!((knock["name"].as_str(), knock["words"].as_str()), (Some("bob"), Some(&*words)));

    let said = bob.chatd(&["start"]).fails(1);
    assert!(said.contains("waits to be let into a room"), "{said}");
    assert_eq!(bob.call("GET", "/v1/status", "").0, 409, "it answers while it waits");

    let (status, _) = ann.call("POST", &format!("/v1/knocks/{}", knock["id"]), r#"{"admit":true}"#);
    assert_eq!(status, 204);
    let joined: serde_json::Value = serde_json::from_str(&wait(child).ok()).expect("JSON");
    assert_eq!(joined["room"], founded["room"]);
}

#[test]
fn a_knock_that_is_denied_has_its_exit_code_and_leaves_nothing() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    ann.start(&[]);
    let (child, _) = knock(&bob, &["start", "--join", &ann.address()]);
    let knock = only_knock(&ann);
    ann.call("POST", &format!("/v1/knocks/{}", knock["id"]), r#"{"admit":false}"#);
    assert_eq!(wait(child).code, Some(4));
    assert_eq!(bob.holder(), None);
    bob.start(&[]);
}

#[test]
fn a_knock_ends_with_the_command_that_waits_and_with_chatd_stop() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    ann.start(&[]);
    let (child, _) = knock(&bob, &["start", "--join", &ann.address()]);
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("small")).expect("a process");
    kill_process(pid, Signal::INT).expect("it waits");
    wait(child);
    bob.wait_until_free();

    let (child, _) = knock(&bob, &["start", "--join", &ann.address()]);
    assert_eq!(bob.chatd(&["stop"]).ok(), "chatd has stopped\n");
    assert_eq!(wait(child).code, Some(1));
}

#[test]
fn an_open_room_needs_nobody_to_say_yes() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    let founded = ann.start(&["--open"]);
    assert_eq!(bob.start(&["--name", "bob", "--join", &ann.address()])["room"], founded["room"]);
}

#[test]
fn a_running_daemon_that_is_alone_moves_and_keeps_what_is_its_own() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    let (there, here) = (ann.start(&[]), bob.start(&["--name", "bob"]));
    bob.call("POST", "/v1/messages", r#"{"text":"alone"}"#);
    let (api, port) = (bob.api(), bob.address());

    let (status, problem) = bob.call("POST", "/v1/join", &json!({"target": "127.0.0.1:1"}).to_string());
    assert_eq!((status, problem["code"].as_str()), (502, Some("unreachable")));
    assert_eq!(bob.call("GET", "/v1/status", "").1["room"], here["room"], "nothing was changed");

    let (status, joined) = bob.call("POST", "/v1/join", &json!({"target": ann.ticket()}).to_string());
    assert_eq!((status, &joined["room"]), (200, &there["room"]), "{joined}");
    assert_eq!(bob.call("POST", "/v1/messages", r#"{"text":"hello"}"#).0, 201);
    assert_eq!((bob.api(), bob.address()), (api, port));
    let set_aside: Vec<_> = bob.files().into_iter().filter(|name| name.contains(".left-")).collect();
    assert!(set_aside.iter().any(|name| name.starts_with("room.db.left-")), "{set_aside:?}");

    let (status, problem) = bob.call("POST", "/v1/join", &json!({"target": ann.ticket()}).to_string());
    assert_eq!((status, problem["code"].as_str()), (409, Some("already_in_room")), "{problem}");
    bob.chatd(&["stop"]).ok();
    assert_eq!(bob.start(&[])["room"], there["room"]);
}

#[test]
fn leaving_tells_the_others_sets_the_room_aside_and_stops() {
    let (ann, bob) = (TestHome::new(), TestHome::new());
    ann.start(&[]);
    let joined = bob.start(&["--name", "bob", "--join", &ann.ticket()]);
    assert_eq!(bob.call("POST", "/v1/leave", "").0, 204);
    bob.wait_until_free();
    assert!(!bob.files().contains(&"room.db".to_owned()), "{:?}", bob.files());
    let deadline = std::time::Instant::now() + COMMAND_MAX;
    while ann.call("GET", "/v1/status", "").1["members"] != 1 {
        assert!(std::time::Instant::now() < deadline, "nobody was told");
        std::thread::yield_now();
    }
    let log = std::fs::read_to_string(bob.path().join("chatd.log")).expect("a log");
    assert!(!log.contains("WARN"), "{log}");
    let own = bob.start(&[]);
    assert_eq!(own["peer"]["id"], joined["peer"]["id"], "the key stays");
    assert_ne!(own["room"]["id"], joined["room"]["id"]);
}
