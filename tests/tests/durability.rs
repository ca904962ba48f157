//! Promise P1: an acknowledged message survives `kill -9` of any daemon, and a replicated one the loss of its sender's disk.

use chat_proto::event::Event;
use chat_tests::cluster::TestRoom;
use chat_tests::daemon::StartDaemon;
use chat_tests::eventually::SOON;
use chat_tests::scenarios::crash::{CrashPlan, run};

#[test]
fn acknowledged_message_survives_killed_daemons() {
    // The same at full size: cargo run -p chat-tests --bin crash -- --messages 10000
    let report = run(CrashPlan { messages: 1200, kills: 3 });
    assert_eq!(report.messages, 1200);
}

#[test]
fn acknowledged_message_is_on_its_senders_disk_before_others_have_it() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    room["bob"].kill();
    let ids: Vec<_> = (0..20).map(|number| room["alice"].api().send(&number.to_string()).message.id).collect();
    room["alice"].kill();
    room["alice"].start_again();
    let kept: Vec<_> = room["alice"].api().history().into_iter().map(|message| message.id).collect();
    assert_eq!(kept, ids);
    room["bob"].start_again();
    room.same_history(20);
}

#[test]
fn replicated_message_survives_the_loss_of_its_senders_disk() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    let wait = ["send", "--wait", "replicated", "--copies", "2", "safe with others"];
    room["alice"].chat(&wait).ok();
    room["alice"].kill();
    let alice = room.peers.remove(0);
    drop(alice);
    room.same_history(1);
}

/// Alice sends a message and waits until it is on two disks.
#[track_caller]
fn replicated(room: &TestRoom, text: &str) {
    room["alice"].chat(&["send", "--wait", "replicated", "--copies", "2", text]).ok();
}

/// The database of one peer is put back as it was some messages ago, in place, while its daemon is down: neither inode nor
/// time of creation show it. It posts at once, before it reaches any member.
#[test]
fn replicated_messages_survive_a_database_that_is_rolled_back_in_place() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    for number in 0..5 {
        replicated(&room, &format!("before the copy {number}"));
    }
    room["alice"].kill();
    let database = room["alice"].home().path().join("room.db");
    let files = ["room.db", "room.db-wal"].map(|name| database.with_file_name(name));
    let old = files.clone().map(|file| std::fs::read(file).unwrap_or_default());
    room["alice"].start_again();
    room.all_online();
    for number in 0..5 {
        replicated(&room, &format!("after the copy {number}"));
    }
    room["alice"].kill();
    for (file, content) in files.iter().zip(&old) {
        std::fs::write(file, content).expect("the home can be written");
    }
    room["alice"].start_again();
    for number in 0..10 {
        room["alice"].api().send(&format!("after the roll-back {number}"));
    }
    room.all_online();
    room.same_history(20);
}

/// A whole home is put back as it was, with the second record of its newest entry, and its daemon posts while no member is
/// there: it continues the log from the older entry on, and the log forks. Nothing of either branch is lost.
#[test]
fn replicated_messages_survive_a_forked_log() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    for number in 0..5 {
        replicated(&room, &format!("before the copy {number}"));
    }
    room["alice"].stop();
    let files = ["room.db", "head.mark"].map(|name| room["alice"].home().path().join(name));
    let old = files.clone().map(|file| std::fs::read(file).expect("a home that was stopped has it"));
    room["alice"].start_again();
    room.all_online();
    for number in 0..5 {
        replicated(&room, &format!("one branch {number}"));
    }
    for name in ["alice", "bob", "carol"] {
        room[name].stop();
    }
    for (file, content) in files.iter().zip(&old) {
        std::fs::write(file, content).expect("the home can be written");
    }
    room["alice"].start_again();
    for number in 0..5 {
        room["alice"].api().send(&format!("the other branch {number}"));
    }
    room["bob"].start_again();
    room["carol"].start_again();
    room.all_online();
    replicated(&room, "after the fork");
    let history = room.same_history(16);
    for name in ["alice", "bob", "carol"] {
        let mut forks = room[name].api().events_at("/v1/events?since=all&type=fork", None);
        let author =
            forks.find(
                SOON,
                "the fork",
                |event| {
                    if let Event::Fork { peer } = event { Some(peer.name.clone()) } else { None }
                },
            );
        assert_eq!(author, "alice", "as {name} is told");
        let said = room[name].chat(&["tail", "--since", "all", "--no-follow"]).ok();
        assert!(said.contains("the data of alice went back to an older copy"), "{said}");
    }
    for name in ["alice", "bob", "carol"] {
        room[name].stop();
        let exported = room[name].home().path().join("export.jsonl");
        std::fs::write(&exported, room[name].chatd(&["export"]).ok()).expect("the home can be written");
        room[name].chatd(&["verify", exported.to_str().expect("text")]).ok();
        assert!(room[name].chatd(&["check"]).ok().contains(" 0 damaged"));
        room[name].start_again();
    }
    assert_eq!(room.same_history(16), history);
    let ticket = room["bob"].ticket();
    room.peers.push(StartDaemon::join("dave", &ticket).start());
    assert_eq!(room.same_history(16), history, "a newcomer");
}
