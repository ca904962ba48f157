//! Promise P2: a daemon that starts again finds its room by itself, and gets what it missed from any member that holds it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use chat_proto::api::messages::SendRequest;
use chat_proto::error::ErrorCode;
use chat_tests::api::{DaemonApi, RawCall};
use chat_tests::cluster::{TestRoom, all_miss, all_online, same_history};
use chat_tests::daemon::StartDaemon;
use chat_tests::eventually::SOON;

#[test]
fn absent_member_gets_what_it_missed() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    room["alice"].api().send("before");
    room.same_history(1);
    room["carol"].stop();
    all_miss(&[&room["alice"], &room["bob"]], "carol");
    for number in 0..50 {
        room["alice"].api().send(&format!("meanwhile {number}"));
    }
    room["bob"].api().send("and bob, too");
    room["carol"].start_again();
    let history = room.same_history(52);
    assert_eq!(history[0].text, "before");
    room.all_online();
    // Both ways: what it says from now on arrives as well.
    room["carol"].api().send("back again");
    room.same_history(53);
}

#[test]
fn restarted_member_needs_one_known_address() {
    let mut room = TestRoom::of(&["alice", "bob", "carol", "dave"]);
    room["carol"].stop();
    for moving in ["alice", "bob"] {
        room[moving].stop();
        room[moving].move_away();
        room[moving].start_again();
    }
    room.all_online();
    room["alice"].api().send("we have moved");
    // Only dave is where carol knew it.
    room["carol"].start_again();
    room.all_online();
    room.same_history(1);
    // And it has learned the new addresses: dave is not needed any more.
    room["dave"].kill();
    room["carol"].stop();
    room["carol"].start_again();
    room.all_online();
}

#[test]
fn restarted_member_does_not_need_the_peer_it_joined_through() {
    let alice = StartDaemon::found("alice").start();
    let bob = StartDaemon::join("bob", &alice.ticket()).start();
    let mut carol = StartDaemon::join("carol", &alice.ticket()).start();
    all_online(&[&alice, &bob, &carol]);
    carol.stop();
    drop(alice);
    bob.api().send("alice's machine is broken");
    carol.start_again();
    all_online(&[&bob, &carol]);
    same_history(&[&bob, &carol], 1, SOON);
}

#[test]
fn room_that_was_down_as_a_whole_comes_back() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    for name in ["alice", "bob", "carol"] {
        room[name].api().send(name);
    }
    let before = room.same_history(3);
    for peer in &mut room.peers {
        peer.kill();
    }
    for peer in &mut room.peers {
        peer.start_again();
    }
    room.all_online();
    assert_eq!(room.same_history(3), before, "the same messages in the same order");
}

#[test]
fn member_that_comes_back_alone_serves_what_it_has() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    room["bob"].api().send("written while alice was there");
    room.same_history(1);
    room["alice"].stop();
    room["bob"].api().send("written alone");
    room["bob"].kill();
    room["alice"].start_again();
    assert_eq!(room["alice"].api().texts(), ["written while alice was there"]);
    room["bob"].start_again();
    room.same_history(2);
}

/// Makes calls one after the other until `done`; returns the codes of the refusals. Calls that find no daemon are passed over.
fn refusals(api: &DaemonApi, done: &AtomicBool, call: impl Fn(&DaemonApi, u32) -> Option<ErrorCode>) -> Vec<ErrorCode> {
    let until_done = (0..).take_while(|_| !done.load(Ordering::Relaxed));
    until_done.filter_map(|number| call(api, number)).collect()
}

#[test]
fn callers_of_a_daemon_that_restarts_are_never_told_that_it_has_no_room() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    let socket = room["bob"].home().socket();
    let done = AtomicBool::new(false);
    let code = |status: u16, body: &[u8]| {
        let problem =
            || serde_json::from_slice::<chat_proto::error::Problem>(body).map_or(ErrorCode::NotInRoom, |p| p.code);
        (status >= 400).then(problem)
    };
    let seen: Vec<ErrorCode> = thread::scope(|scope| {
        let posts = scope.spawn(|| {
            refusals(&DaemonApi::unix(&socket), &done, |api, number| {
                let message = SendRequest { text: format!("post {number}"), ..SendRequest::default() };
                let reply = api.post_message(&message, &format!("key {number}")).ok()?;
                code(reply.status, &reply.body)
            })
        });
        let streams = scope.spawn(|| {
            refusals(&DaemonApi::unix(&socket), &done, |api, _| {
                // The head of an answer is enough: a refusal has status 409, whatever its reason.
                let head = RawCall { method: "HEAD", path: "/v1/events", headers: &[], body: None };
                (api.call(head).ok()?.status == 409).then_some(ErrorCode::NotInRoom)
            })
        });
        for _ in 0..6 {
            room["bob"].kill();
            room["bob"].start_again();
        }
        done.store(true, Ordering::Relaxed);
        [posts, streams].into_iter().flat_map(|calls| calls.join().expect("no panic")).collect()
    });
    assert!(!seen.contains(&ErrorCode::NotInRoom), "{seen:?}");
    room.all_online();
}
