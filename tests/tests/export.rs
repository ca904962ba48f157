//! Exports: what was said in a room can be checked on another machine, without a network.

use std::fs;
use std::path::Path;

use chat_tests::cluster::TestRoom;
use chat_tests::home::TestHome;
use chat_tests::process::Finished;

fn verify(file: &Path) -> Finished {
    // A home of its own: nothing of the room is needed.
    TestHome::new().chatd(&["verify", &file.to_string_lossy()]).run()
}

#[test]
fn export_is_verified_elsewhere_and_continued_later() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    room["alice"].api().send("question");
    room.same_history(1);
    room["bob"].api().send("answer");
    room["alice"].api().send_to(&["bob"], "a secret");
    room.same_history(2);
    let first = room["alice"].home().path().with_file_name("first.jsonl");
    // While the daemon runs.
    fs::write(&first, room["alice"].chatd(&["export"]).ok()).expect("the directory is ours");
    let verified = verify(&first);
    assert!(verified.stderr.contains("sound: the room"), "{}", verified.stderr);
    let said = verified.ok();
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("'{text}' is in {said}"));
    assert!(at("alice~") < at(": question") && at(": question") < at(": answer"), "{said}");
    assert!(said.contains("a direct message to bob~") && !said.contains("a secret"), "{said}");

    room["bob"].api().send("later");
    room.same_history(3);
    room["alice"].stop();
    let after = ["export", "--after", &first.to_string_lossy()].map(str::to_owned);
    let after: Vec<&str> = after.iter().map(String::as_str).collect();
    let second = first.with_file_name("second.jsonl");
    fs::write(&second, room["alice"].chatd(&after).ok()).expect("the directory is ours");
    let said = verify(&second).ok();
    assert!(said.contains(": later") && !said.contains(": question"), "{said}");

    let whole = fs::read_to_string(&first).expect("it was written");
    let line = whole.lines().find(|line| line.contains("question")).expect("it is readable");
    for changed in [whole.replace("question", "quibbles"), whole.replace(&format!("{line}\n"), "")] {
        fs::write(&first, changed).expect("the directory is ours");
        let said = verify(&first).refuses(1);
        assert!(said.contains("is not a sound export"), "{said}");
    }
}
