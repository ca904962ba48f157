//! Promises P2 and P6: messages to the room reach every member in the same order, direct ones only their recipients, also
//! members that are away.

use chat_proto::api::messages::{Message, SentMessage};
use chat_tests::cluster::{TestRoom, all_miss, all_online};
use chat_tests::daemon::Daemon;
use chat_tests::eventually::{SOON, eventually_true};

/// Waits until this peer can read a message with this text, and gives it.
#[track_caller]
fn reads(peer: &Daemon, text: &str) -> Message {
    let mut found = None;
    eventually_true(SOON, &format!("{} reads '{text}'", peer.name()), || {
        found = peer.api().history().into_iter().find(|message| message.text == text);
        found.is_some()
    });
    found.expect("it was found")
}

#[test]
fn room_message_reaches_every_member() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    room["alice"].chat(&["send", "hello"]).ok();
    room["bob"].chat(&["send", "two", "words"]).ok();
    room["carol"].home().chat(&["send"]).input("several\nlines\n").run().ok();
    room["carol"].home().chat(&["send", "-"]).input("from standard input").run().ok();
    let history = room.same_history(4);
    let mut texts: Vec<&str> = history.iter().map(|message| message.text.trim_end()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["from standard input", "hello", "several\nlines", "two words"]);
}

#[test]
fn reply_follows_the_message_it_answers() {
    let room = TestRoom::of(&["alice", "bob"]);
    for round in 0..20 {
        let (asks, answers) = if round % 2 == 0 { ("alice", "bob") } else { ("bob", "alice") };
        let question = format!("question {round}");
        room[asks].api().send(&question);
        reads(&room[answers], &question);
        room[answers].api().send(&format!("answer {round}"));
        reads(&room[asks], &format!("answer {round}"));
    }
    let history = room.same_history(40);
    let texts: Vec<String> = history.into_iter().map(|message| message.text).collect();
    let expected: Vec<String> = (0..20).flat_map(|n| [format!("question {n}"), format!("answer {n}")]).collect();
    assert_eq!(texts, expected);
}

#[test]
fn answer_is_shown_with_the_message_that_it_answers() {
    let room = TestRoom::of(&["alice", "bob"]);
    let asked = room["alice"].api().send("how many disks?").message.id;
    reads(&room["bob"], "how many disks?");
    room["bob"].chat(&["send", "--reply", &asked.to_string(), "three"]).ok();
    room["bob"].chat(&["send", "--reply", &asked.to_string(), "@alice", "one is broken"]).ok();
    for (text, head) in [("three", "bob"), ("one is broken", "bob → you")] {
        let answer = reads(&room["alice"], text);
        assert_eq!(answer.reply_to, Some(asked));
        let log = room["alice"].chat(&["log"]).ok();
        let lines: Vec<&str> = log.lines().collect();
        let place = lines.iter().position(|line| line.ends_with(&format!("{head}: {text}"))).expect("it is there");
        assert!(lines[place - 1].ends_with("╭ you: how many disks?"), "{log}");
    }
}

#[test]
fn direct_message_is_readable_by_its_recipient_only() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    let secret = "between the two of us: plum-jackdaw-4711";
    room["alice"].chat(&["send", "@bob", secret]).ok();
    room["alice"].chat(&["send", "for everybody: heron-2207"]).ok();
    let read = reads(&room["bob"], secret);
    let to: Vec<&str> = read.to.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!((read.from.name.as_str(), to), ("alice", vec!["bob"]));
    assert_eq!(reads(&room["alice"], secret).id, read.id);
    assert!(room["bob"].chat(&["log"]).ok().contains(&format!("alice → you: {secret}")));

    // Carol's daemon holds the message to all in clear, which shows that the search finds what is there.
    reads(&room["carol"], "for everybody: heron-2207");
    eventually_true(SOON, "carol's files hold what is said to all", || {
        !room["carol"].home().files_with("heron-2207").is_empty()
    });
    assert_eq!(room["carol"].home().files_with("plum-jackdaw-4711"), [""; 0]);
    assert!(room["carol"].api().texts().iter().all(|text| text != secret));
}

#[test]
fn direct_message_to_several_is_readable_by_them_only() {
    let room = TestRoom::of(&["alice", "bob", "carol", "dave"]);
    room["alice"].home().chat(&["send", "@bob", "@carol"]).input("the three of us: magpie-0815").run().ok();
    for name in ["alice", "bob", "carol"] {
        let read = reads(&room[name], "the three of us: magpie-0815");
        assert_eq!(read.to.len(), 2, "{name} sees whom it is for");
    }
    // And they can answer each other.
    room["carol"].chat(&["send", "@alice", "@bob", "agreed: rook-1234"]).ok();
    reads(&room["bob"], "agreed: rook-1234");
    room["alice"].api().send("done");
    reads(&room["dave"], "done");
    for secret in ["magpie-0815", "rook-1234"] {
        assert_eq!(room["dave"].home().files_with(secret), [""; 0]);
    }
}

#[test]
fn direct_message_reaches_an_absent_recipient_without_its_sender() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    room["bob"].stop();
    all_miss(&[&room["alice"], &room["carol"]], "bob");
    let sent: Vec<SentMessage> =
        room["alice"].chat(&["send", "@bob", "for later: osprey-9", "--copies", "1", "--json"]).json();
    assert_eq!(sent[0].state.copies, 1, "carol's daemon holds it");
    room["alice"].kill();
    room["bob"].start_again();
    all_online(&[&room["bob"], &room["carol"]]);
    let read = reads(&room["bob"], "for later: osprey-9");
    assert_eq!(read.id, sent[0].message.id);
    assert_eq!(room["carol"].home().files_with("osprey-9"), [""; 0]);
    // The answer goes the same way.
    room["bob"].chat(&["send", "@alice", "got it: kestrel-3", "--copies", "1"]).ok();
    room["bob"].stop();
    room["alice"].start_again();
    reads(&room["alice"], "got it: kestrel-3");
    assert_eq!(room["carol"].home().files_with("kestrel-3"), [""; 0]);
}

#[test]
fn send_waits_for_copies_on_other_disks() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    let sent: Vec<SentMessage> =
        room["alice"].chat(&["send", "--wait", "replicated", "--copies", "2", "--json", "safe"]).json();
    assert!(sent[0].state.complete && sent[0].state.copies == 2, "{sent:?}");
    let sent: Vec<SentMessage> = room["alice"].chat(&["send", "--wait", "delivered", "--json", "@bob", "read?"]).json();
    assert!(sent[0].state.held_by.iter().any(|peer| peer.name == "bob"), "{sent:?}");

    room["bob"].stop();
    let late = room["alice"].chat(&["send", "--wait", "delivered", "--timeout", "300ms", "@bob", "you there?"]);
    let said = late.refuses(5);
    assert!(said.contains("still travels"), "{said}");
    room["bob"].start_again();
    reads(&room["bob"], "you there?");
}

#[test]
fn new_member_reads_earlier_messages() {
    let alice = chat_tests::daemon::StartDaemon::found("alice").start();
    for number in 0..30 {
        alice.api().send(&number.to_string());
    }
    let bob = chat_tests::daemon::StartDaemon::join("bob", &alice.ticket()).start();
    let history = chat_tests::cluster::same_history(&[&alice, &bob], 30, SOON);
    assert!(history.iter().enumerate().all(|(number, message)| message.text == number.to_string()));
}
