//! Promise P6: a direct message reaches the member that is meant, also where a name moves from one member to another.

use std::fs;

use chat_proto::api::messages::SendRequest;
use chat_proto::api::peers::PeerRef;
use chat_proto::error::ErrorCode;
use chat_tests::cluster::TestRoom;
use chat_tests::daemon::Daemon;
use chat_tests::eventually::{SOON, eventually_true};

/// Waits until `peer` sees a member under a name, and gives it.
#[track_caller]
fn sees(peer: &Daemon, name: &str) -> PeerRef {
    let mut found = None;
    eventually_true(SOON, &format!("{} sees {name}", peer.name()), || {
        found = peer.api().peers().into_iter().map(|view| view.peer).find(|peer| peer.name == name);
        found.is_some()
    });
    found.expect("it was found")
}

/// Carol takes the name that bob had.
fn name_moves(room: &TestRoom) -> (PeerRef, PeerRef) {
    let before = sees(&room["alice"], "bob");
    room["bob"].chat(&["name", "robert"]).ok();
    sees(&room["carol"], "robert");
    sees(&room["alice"], "robert");
    room["carol"].chat(&["name", "bob"]).ok();
    let now = sees(&room["alice"], "bob");
    assert_ne!(now.id, before.id);
    (before, now)
}

#[test]
fn name_that_moved_to_another_member_is_refused_until_it_is_trusted() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    room["alice"].chat(&["send", "@bob", "the first"]).ok();
    let (before, now) = name_moves(&room);

    let said = room["alice"].chat(&["send", "@bob", "heron-1"]).refuses(1);
    let (new, old) = (format!("bob~{}", now.tag), format!("robert~{}", before.tag));
    assert!(said.contains(&new) && said.contains(&old) && said.contains("chat trust bob"), "{said}");
    // The daemon refuses it after a restart, too, and to callers of the API and to a pipe.
    room["alice"].stop();
    room["alice"].start_again();
    let request = SendRequest { text: "heron-2".into(), to: vec!["bob".into()], ..SendRequest::default() };
    let problem = room["alice"].api().post("/v1/messages", &request).problem(409);
    assert_eq!(problem.code, ErrorCode::NameMoved);
    let candidates: Vec<_> = problem.candidates.iter().map(|one| (one.peer.id, one.before)).collect();
    assert_eq!(candidates, [(now.id, false), (before.id, true)]);
    let piped = room["alice"].home().chat(&["--plain"]).input("@bob heron-3\n").run();
    assert!(piped.fails(1).contains(&new));
    assert!(room["alice"].api().texts().iter().all(|text| !text.starts_with("heron")));

    let trusted = room["alice"].chat(&["trust", "bob"]);
    assert!(trusted.stderr.contains(now.tag.to_string().as_str()), "{trusted:?}");
    room["alice"].chat(&["send", "@bob", "the second"]).ok();
    room["alice"].chat(&["send", "@robert", "the third"]).ok();
    eventually_true(SOON, "carol reads what is for it", || room["carol"].api().texts() == ["the second"]);
    eventually_true(SOON, "bob reads what is for it", || room["bob"].api().texts() == ["the first", "the third"]);
}

#[test]
fn tag_or_key_says_which_member_is_meant_and_pins_its_name() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    room["alice"].api().send_to(&["bob"], "the first");
    let (before, now) = name_moves(&room);
    room["alice"].api().send_to(&[before.id.to_string().as_str()], "by key");
    room["alice"].chat(&["send", "@bob", "not sent"]).refuses(1);
    room["alice"].chat(&["send", &format!("@bob~{}", now.tag), "by tag"]).ok();
    room["alice"].chat(&["send", "@bob", "by name"]).ok();
    eventually_true(SOON, "carol reads both", || room["carol"].api().texts() == ["by tag", "by name"]);
    eventually_true(SOON, "bob reads both", || room["bob"].api().texts() == ["the first", "by key"]);
}

#[test]
fn new_keys_of_a_member_are_shown() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    room["alice"].api().send_to(&["bob"], "the first");
    room["bob"].stop();
    let path = room["bob"].home().path().join("room.db");
    fs::write(&path, vec![0xA5; 64 * 1024]).expect("our own file");
    room["bob"].start_again();
    room.all_online();
    eventually_true(SOON, "alice is shown that bob has new keys", || {
        let shown = room["alice"].chat(&["tail", "--no-follow", "--since", "1h", "--json"]).ok();
        shown.contains(r#""action":"keys""#)
    });
}

#[test]
fn words_to_compare_are_the_same_for_both_members_and_for_no_third() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    let words = |peer: &str, of: &str| room[peer].chat(&["verify", of]).ok().trim().to_owned();
    let alice_and_bob = words("alice", "bob");
    assert_eq!(alice_and_bob.split('-').count(), 6, "{alice_and_bob}");
    assert_eq!(words("bob", "@alice"), alice_and_bob);
    assert_ne!(words("alice", "carol"), alice_and_bob);
    assert_ne!(words("bob", "carol"), alice_and_bob);
    assert_eq!(words("carol", "bob"), words("bob", "carol"));
    assert_eq!(words("alice", "alice"), "", "there is nothing to compare");
    room["alice"].chat(&["verify", "nobody"]).refuses(1);
}
