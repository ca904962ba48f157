//! A member that keeps texts for a day only: what it drops is shown as such, and the room goes on. Promises P2 and P8 hold for
//! what is left.

use std::time::Duration;

use chat_tests::cluster::all_online;
use chat_tests::daemon::{Daemon, StartDaemon};
use chat_tests::eventually::{SOON, eventually_true};
use chat_tests::home::TestHome;

const DROPPED: &str = "(text no longer kept)";

/// Time for which a daemon drops nothing after its start, and more than enough to drop a few texts.
const DROPS: Duration = Duration::from_secs(60);

fn shows(peer: &Daemon, texts: &[&str]) {
    eventually_true(SOON, &format!("{} shows {texts:?}, not {:?}", peer.name(), peer.api().texts()), || {
        peer.api().texts() == texts
    });
}

#[test]
fn newcomer_joins_through_a_member_without_texts_and_gets_them_from_one_that_has_them() {
    let home = || TestHome::new().clock("-40d");
    let short = home();
    short.write("config.toml", "retention_days = 1\n");
    let mut alice = StartDaemon::found("alice").home(short).start();
    let mut bob = StartDaemon::join("bob", &alice.ticket()).home(home()).start();
    all_online(&[&alice, &bob]);
    alice.api().send("one");
    bob.api().send("two");
    alice.api().send_to(&["bob"], "a word in private");
    let texts = ["one", "two", "a word in private"];
    [&alice, &bob].iter().for_each(|peer| shows(peer, &texts));
    bob.stop();

    // Ten days later alice starts again and learns how long it has held that; after thirty more, it is old.
    for clock in ["-30d", "+0s"] {
        alice.stop();
        alice.home().set_clock(clock);
        alice.start_again();
    }
    eventually_true(DROPS, "alice drops the texts", || alice.api().texts() == [DROPPED; 3]);
    assert!(alice.api().history().iter().all(|message| message.dropped));
    let log = alice.chat(&["log"]).ok();
    assert!(log.contains("bob") && log.contains(DROPPED), "{log}");
    let checked = alice.chatd(&["check"]).ok();
    assert!(checked.contains("0 damaged") && checked.contains("the text of 3 entries is no longer kept"), "{checked}");

    let now = TestHome::new().clock("+0s");
    let carol = StartDaemon::join("carol", &alice.ticket()).home(now).start();
    all_online(&[&alice, &carol]);
    alice.api().send("today");
    carol.api().send("welcome me");
    for peer in [&alice, &carol] {
        shows(peer, &[DROPPED, DROPPED, DROPPED, "today", "welcome me"]);
    }

    bob.home().set_clock("+0s");
    bob.start_again();
    all_online(&[&alice, &bob, &carol]);
    bob.api().send("back again");
    // A direct message between others is not for carol.
    shows(&carol, &["one", "two", "today", "welcome me", "back again"]);
    shows(&bob, &["one", "two", "a word in private", "today", "welcome me", "back again"]);
    shows(&alice, &[DROPPED, DROPPED, DROPPED, "today", "welcome me", "back again"]);
    let mut events = carol.api().events_at("/v1/events?since=all", None);
    let mut told: Vec<String> = (0..5).map(|_| events.message(SOON).text).collect();
    told.sort();
    assert_eq!(told, ["back again", "one", "today", "two", "welcome me"], "each is announced once, with its text");

    let file = alice.home().path().join("export.jsonl");
    std::fs::write(&file, alice.chatd(&["export"]).ok()).expect("writes");
    let verified = alice.chatd(&["verify", &file.to_string_lossy()]);
    assert!(verified.stderr.contains("the texts of 3 entries were no longer kept"), "{}", verified.stderr);
    verified.ok();
}
