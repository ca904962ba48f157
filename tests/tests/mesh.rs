//! Promises P2 and P3: messages travel the mesh. Members that cannot reach each other get them through those that reach
//! both; a split room goes on in both halves and merges.

use std::time::Duration;

use chat_tests::cluster::{TestRoom, all_miss, all_online, same_history};
use chat_tests::daemon::StartDaemon;
use chat_tests::eventually::{SOON, eventually_true};
use chat_tests::process::TestCommand;

#[test]
fn members_in_a_chain_share_one_history() {
    // Alice listens on IPv4 and carol on IPv6, so that neither reaches the other; bob listens on both.
    let bob = StartDaemon::found("bob").args(&["--open", "--listen", "0"]).start();
    let port = bob.api().status().reachability.port;
    let alice = StartDaemon::join("alice", &format!("127.0.0.1:{port}")).start();
    let carol = StartDaemon::join("carol", &format!("[::1]:{port}")).args(&["--listen", "[::1]:0"]).start();
    all_online(&[&alice, &bob, &carol]);
    for number in 0..20 {
        alice.api().send(&format!("alice {number}"));
        carol.api().send(&format!("carol {number}"));
    }
    same_history(&[&alice, &bob, &carol], 40, SOON);
    alice.api().send_to(&["carol"], "through bob: siskin-77");
    eventually_true(SOON, "carol reads it", || carol.api().texts().iter().any(|text| text.contains("siskin-77")));
    assert_eq!(bob.home().files_with("siskin-77"), [""; 0]);
}

#[test]
fn suspended_peer_catches_up() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    room["carol"].suspend();
    for number in 0..200 {
        room["alice"].api().send(&format!("alice {number}"));
        room["bob"].api().send(&format!("bob {number}"));
    }
    same_history(&[&room["alice"], &room["bob"]], 400, SOON);
    room["carol"].resume();
    room.same_history(400);
    room.all_online();
}

#[test]
fn silent_peer_is_missed_long_before_its_connection_ends() {
    // A connection with a path over the relay lasts half a minute without a packet.
    const MISSED_MAX: Duration = Duration::from_secs(12);
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    let sees = |room: &TestRoom, who: &str, whom: &str, online: bool| {
        room[who].api().peers().iter().any(|view| view.peer.name == whom && view.online == online)
    };
    room["carol"].suspend();
    let both = |room: &TestRoom| sees(room, "alice", "carol", false) && sees(room, "bob", "carol", false);
    eventually_true(MISSED_MAX, "a peer that stands still is offline", || both(&room));
    room["alice"].api().send("without carol");
    same_history(&[&room["alice"], &room["bob"]], 1, SOON);
    room["carol"].resume();
    room.all_online();
    room.same_history(1);
    room["carol"].kill();
    eventually_true(MISSED_MAX, "a peer that was killed is offline", || both(&room));
}

#[test]
fn conversation_goes_on_without_the_founder() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    room["alice"].kill();
    room["bob"].api().send("where is alice?");
    room["carol"].api().send("gone");
    room.same_history(2);
    all_miss(&[&room["bob"], &room["carol"]], "alice");
    // Also in letting others in.
    let ticket = room["carol"].ticket();
    room.peers.push(StartDaemon::join("dave", &ticket).start());
    room.all_online();
    room.same_history(2);
}

#[test]
fn separated_halves_go_on_and_merge() {
    // Each half lives while the other one is down: no message of one is known to the other before they meet.
    let mut room = TestRoom::of(&["alice", "bob", "carol", "dave"]);
    room["alice"].api().send("together");
    room.same_history(1);
    for name in ["carol", "dave"] {
        room[name].kill();
    }
    for number in 0..30 {
        room["alice"].api().send(&format!("alice {number}"));
        room["bob"].api().send(&format!("bob {number}"));
    }
    room.same_history(61);
    for name in ["alice", "bob"] {
        room[name].kill();
    }
    for name in ["carol", "dave"] {
        room[name].start_again();
    }
    for number in 0..30 {
        room["carol"].api().send(&format!("carol {number}"));
        room["dave"].api().send(&format!("dave {number}"));
    }
    room.same_history(61);
    for name in ["alice", "bob"] {
        room[name].start_again();
    }
    room.same_history(121);
    room.all_online();
}

#[test]
fn piped_lines_are_posted_quickly() {
    let room = TestRoom::of(&["alice", "bob"]);
    let lines: String = (0..300).map(|number| format!("line {number}\n")).collect();
    let piped: TestCommand = room["alice"].home().chat(&[]).input(lines);
    piped.run().ok();
    let history = room.same_history(300);
    assert!(history.iter().enumerate().all(|(number, message)| message.text == format!("line {number}")));
}
