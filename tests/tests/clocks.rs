//! Promise P9: a wrong clock never silences, hides or delays any member's messages; it is detected and reported.

use std::time::{SystemTime, UNIX_EPOCH};

use chat_tests::cluster::{all_online, same_history};
use chat_tests::daemon::{Daemon, StartDaemon};
use chat_tests::eventually::{SOON, eventually_true};
use chat_tests::home::TestHome;

/// Waits until a peer shows a message with this text.
#[track_caller]
fn shows(peer: &Daemon, text: &str) {
    eventually_true(SOON, &format!("{} shows '{text}'", peer.name()), || {
        peer.api().history().iter().any(|message| message.text == text)
    });
}

/// How far a peer believes that its clock is off, in whole minutes.
fn clock_off_minutes(peer: &Daemon) -> Option<i64> {
    peer.api().status().clock_off_ms.map(|off_ms| (off_ms + 30_000).div_euclid(60_000))
}

#[test]
fn member_with_a_wrong_clock_is_heard_at_once_and_hears_about_its_clock() {
    let alice = StartDaemon::found("alice").start();
    let bob = StartDaemon::join("bob", &alice.ticket()).start();
    let fast = TestHome::new().clock("+1h");
    let carol = StartDaemon::join("carol", &alice.ticket()).home(fast).start();
    let slow = TestHome::new().clock("-400d");
    let dave = StartDaemon::join("dave", &bob.ticket()).home(slow).start();
    let peers = [&alice, &bob, &carol, &dave];
    all_online(&peers);
    eventually_true(SOON, "both are told", || {
        clock_off_minutes(&carol) == Some(60) && clock_off_minutes(&dave) == Some(-400 * 24 * 60)
    });

    for (number, author) in peers.iter().enumerate() {
        let text = format!("message {number}");
        let sent = author.chat(&["send", &text]);
        let told = sent.stderr.contains("clock of this machine is off by");
        assert_eq!(told, number >= 2, "{}", sent.stderr);
        sent.ok();
        peers.iter().for_each(|peer| shows(peer, &text));
    }
    assert!(carol.chat(&["status"]).ok().contains("off by +1h"));
    let log = alice.chat(&["log"]).ok();
    assert!(log.contains("carol (clock off by +1h): message 2"), "{log}");

    carol.home().set_clock("+0s");
    dave.home().set_clock("+0s");
    for author in [&carol, &dave] {
        let text = format!("{} is right again", author.name());
        // The clock follows within a second: until then the message has the old date.
        eventually_true(SOON, "the clock is right", || {
            let date_ms = author.api().send(&text).message.time.as_ms();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            u128::from(date_ms).abs_diff(now.as_millis()) < 60_000
        });
        peers.iter().for_each(|peer| shows(peer, &text));
    }
    let messages = alice.api().history().len();
    let history = same_history(&peers, messages, SOON);
    let texts: Vec<&str> = history.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(texts[..4], ["message 0", "message 1", "message 2", "message 3"]);
}
