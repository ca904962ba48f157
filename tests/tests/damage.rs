//! Bit rot: an entry that is damaged on one peer's disk reaches newcomers from others, and comes back.

use std::fs;

use chat_tests::cluster::TestRoom;
use chat_tests::daemon::StartDaemon;
use chat_tests::eventually::{SOON, eventually_true};

/// Promise P1: what is replicated survives the corruption of one disk.
#[test]
fn entry_that_rots_on_one_disk_reaches_newcomers_and_is_fetched_anew() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    let text = "this one rots";
    room["alice"].api().send(text);
    room["alice"].api().send("after it");
    room.same_history(2);
    room["bob"].stop();
    room["alice"].stop();

    // The body of the entry: one message to the room. The text stands elsewhere in the file without this prefix.
    let body = [&[0, 1, 0, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let path = room["alice"].home().path().join("room.db");
    let mut raw = fs::read(&path).expect("reads");
    let at = raw.windows(body.len()).position(|bytes| bytes == body).expect("the entry is in the file");
    raw[at + body.len() - 1] ^= 1;
    fs::write(&path, raw).expect("writes in place");

    let found = room["alice"].chatd(&["check"]);
    assert_eq!(found.status.code(), Some(1), "{}", found.stdout);
    assert!(found.stdout.contains("1 damaged"), "{}", found.stdout);

    room["alice"].start_again();
    let carol = StartDaemon::join("carol", &room["alice"].ticket()).start();
    eventually_true(SOON, "alice finds the damage", || room["alice"].api().status().damaged_entries == 1);
    room["bob"].start_again();
    eventually_true(SOON, "carol has it all", || carol.api().texts() == [text, "after it"]);
    eventually_true(SOON, "alice has a good copy", || room["alice"].api().status().damaged_entries == 0);
    assert_eq!(room["alice"].api().texts(), [text, "after it"]);
    let sound = room["alice"].chatd(&["check"]).ok();
    assert!(sound.contains(" 0 damaged"), "{sound}");
}
