//! Promise P6: a peer gets into a room by a ticket, by address into an open room, or by a knock that a member admits; all
//! others stay out.

use std::time::Duration;

use chat_proto::api::members::Knock;
use chat_tests::cluster::{TestRoom, all_online};
use chat_tests::daemon::{Daemon, StartDaemon};
use chat_tests::eventually::{SOON, eventually, eventually_true};
use chat_tests::home::TestHome;
use chat_tests::process::Running;

/// The room's id as this peer has it.
#[track_caller]
fn room(peer: &Daemon) -> String {
    peer.api().status().room.id.to_string()
}

/// The words that a waiting 'chatd start' or 'chat join' says: three, with hyphens between them.
#[track_caller]
fn words_of(waiting: &Running) -> String {
    let find = |line: &str| {
        let words = line.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
        words.filter(|word| word.matches('-').count() == 2).map(str::to_owned).next_back()
    };
    let line = waiting.says(SOON, |line| find(line).is_some());
    find(&line).expect("it was found")
}

/// The one knock that waits there.
#[track_caller]
fn the_knock(peer: &Daemon) -> Knock {
    eventually(SOON, "a knock", || {
        let mut knocks: Vec<Knock> = peer.chat(&["knocks", "--json"]).json();
        if knocks.len() == 1 { Ok(knocks.remove(0)) } else { Err(format!("{knocks:?}")) }
    })
}

/// A knock at `at` by a new daemon, which waits.
#[track_caller]
fn knock(home: &TestHome, name: &str, at: &Daemon) -> Running {
    home.chatd(&["start", "--name", name, "--join", &at.home().address()]).spawn()
}

#[test]
fn ticket_admits_its_holder() {
    let alice = StartDaemon::found("alice").args(&["--room", "lab"]).start();
    let home = TestHome::new();
    let said = home.chatd(&["start", "--name", "bob", "--join", &alice.ticket()]).run().ok();
    assert!(said.contains("bob") && said.contains("is in lab"), "{said}");
    let bob = Daemon::adopt("bob", home);
    all_online(&[&alice, &bob]);
    assert_eq!(room(&bob), room(&alice));
}

#[test]
fn folded_ticket_on_standard_input_admits() {
    let alice = StartDaemon::found("alice").start();
    let folded = alice.ticket().as_bytes().chunks(72).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\r\n");
    let home = TestHome::new();
    home.chatd(&["start", "--name", "bob", "--join", "-"]).input(folded).run().ok();
    all_online(&[&alice, &Daemon::adopt("bob", home)]);
}

#[test]
fn removed_member_goes_with_those_that_it_let_in() {
    let alice = StartDaemon::found("alice").start();
    let bob = StartDaemon::join("bob", &alice.ticket()).start();
    let carol = StartDaemon::join("carol", &bob.ticket()).start();
    let dan = StartDaemon::join("dan", &alice.ticket()).start();
    all_online(&[&alice, &bob, &carol, &dan]);
    let ended = alice.chat(&["remove", "bob", "--with-guests", "--yes"]);
    assert!(ended.stderr.contains("removed bob and carol"), "{}", ended.stderr);
    let members = || alice.api().peers().iter().map(|peer| peer.peer.name.clone()).collect::<Vec<_>>();
    eventually_true(SOON, "bob and carol are out", || members() == ["alice", "dan"]);
}

#[test]
fn ticket_admits_while_its_author_is_away() {
    let mut peers = TestRoom::of(&["alice", "bob"]);
    let ticket = peers["alice"].ticket();
    peers["alice"].kill();
    let carol = StartDaemon::join("carol", &ticket).start();
    all_online(&[&peers["bob"], &carol]);
}

#[test]
fn running_daemon_moves_with_a_ticket() {
    let alice = StartDaemon::found("alice").start();
    let bob = StartDaemon::found("bob").start();
    assert_ne!(room(&bob), room(&alice));
    // As a terminal of 72 columns has folded it.
    let folded = alice.ticket().as_bytes().chunks(72).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n  ");
    bob.chat(&["join", &folded]).ok();
    all_online(&[&alice, &bob]);
    assert_eq!(room(&bob), room(&alice));
    let again = bob.home().chat(&["join", "-"]).input(alice.ticket()).run().refuses(1);
    assert!(again.contains("room"), "{again}");
}

#[test]
fn open_room_admits_every_knock() {
    let alice = StartDaemon::found("alice").args(&["--open"]).start();
    let bob = StartDaemon::join("bob", &alice.home().address()).start();
    let dave = StartDaemon::found("dave").start();
    dave.chat(&["join", &alice.home().address()]).ok();
    all_online(&[&alice, &bob, &dave]);
}

#[test]
fn admitted_knock_shows_the_same_words_on_both_sides() {
    let alice = StartDaemon::found("alice").start();
    let home = TestHome::new();
    let mut waiting = knock(&home, "bob", &alice);
    let words = words_of(&waiting);
    let knock = the_knock(&alice);
    assert_eq!((knock.name.as_str(), knock.words.as_str()), ("bob", words.as_str()));
    assert!(alice.chat(&["knocks"]).ok().contains(&words));
    alice.chat(&["admit", &knock.id.to_string()]).ok();
    assert!(waiting.wait(SOON).success());
    let bob = Daemon::adopt("bob", home);
    all_online(&[&alice, &bob]);
    assert_eq!(alice.chat(&["knocks", "--json"]).ok(), "");
}

#[test]
fn knock_by_a_running_daemon_shows_its_words() {
    let alice = StartDaemon::found("alice").start();
    let bob = StartDaemon::found("bob").start();
    let mut joining = bob.chat_on(&["join", &alice.home().address()]);
    let words = words_of(&joining);
    let knock = the_knock(&alice);
    assert_eq!(knock.words, words);
    alice.chat(&["admit", &knock.id.to_string()]).ok();
    assert!(joining.wait(SOON).success());
    all_online(&[&alice, &bob]);
}

#[test]
fn denied_knock_may_be_repeated() {
    let alice = StartDaemon::found("alice").start();
    let home = TestHome::new();
    let mut waiting = knock(&home, "mallory", &alice);
    let id = the_knock(&alice).id.to_string();
    alice.chat(&["deny", &id]).ok();
    assert_eq!(waiting.wait(SOON).code(), Some(4));
    assert!(home.holder().is_none(), "a refused start leaves no process");
    let said = waiting.said().join("\n");
    assert!(said.contains("not let in") || said.contains("refused") || said.contains("denied"), "{said}");
    assert_eq!(alice.api().status().members, 1);
    alice.chat(&["admit", &id]).refuses(1);

    let said = home.chatd(&["start"]).run().refuses(1);
    assert!(said.contains("--join TICKET") && said.contains("--room NAME"), "no room is founded by itself: {said}");

    let mut again = knock(&home, "mallory", &alice);
    alice.chat(&["admit", &the_knock(&alice).id.to_string()]).ok();
    assert!(again.wait(SOON).success());
    all_online(&[&alice, &Daemon::adopt("mallory", home)]);
}

#[test]
fn void_ticket_is_refused_with_the_reason() {
    let alice = StartDaemon::found("alice").start();
    let tried = |ticket: &str| TestHome::new().chatd(&["start", "--name", "bob", "--join", ticket]).run();
    let refused = |ticket: &str| tried(ticket).refuses(1);

    let mut mistyped = alice.ticket();
    mistyped.replace_range(20..21, if &mistyped[20..21] == "a" { "b" } else { "a" });
    // No daemon has to be asked about these: the command line is wrong.
    for wrong in [&mistyped, &alice.ticket()[..140]] {
        let said = tried(wrong).refuses(2);
        assert!(said.contains("incomplete or mistyped"), "{said}");
    }
    let bob = StartDaemon::found("bob").start();
    let said = bob.chat(&["join", &mistyped]).refuses(1);
    assert!(said.contains("incomplete or mistyped"), "{said}");

    let revoked = alice.ticket();
    let invites: Vec<chat_proto::api::invites::Invite> = alice.chat(&["invites", "--json"]).json();
    alice.chat(&["revoke", &invites[0].id.to_string()]).ok();
    let said = refused(&revoked);
    assert!(said.contains("revoked"), "{said}");

    let single = alice.chat(&["invite", "--uses", "1"]).ok();
    let bob = StartDaemon::join("bob", single.trim()).start();
    all_online(&[&alice, &bob]);
    let said = refused(single.trim());
    assert!(said.contains("used up"), "{said}");

    let short = alice.chat(&["invite", "--expires", "1s"]).ok();
    eventually_true(Duration::from_secs(10), "the ticket expires", || {
        alice.chat(&["invites"]).ok().contains("expired")
    });
    let said = refused(short.trim());
    assert!(said.contains("expired"), "{said}");
    assert_eq!(alice.api().status().members, 2, "none of them let anybody in");
}

#[test]
fn unreachable_address_is_refused() {
    let home = TestHome::new();
    let said = home.chatd(&["start", "--name", "bob", "--join", &TestHome::new().address()]).run().refuses(1);
    assert!(said.contains("reach"), "{said}");
    // A plain start asks again; a room is founded only where that is said.
    let said = home.chatd(&["start"]).run().refuses(1);
    assert!(said.contains("reach") && said.contains("--room NAME"), "{said}");
    home.chatd(&["start", "--name", "bob", "--room", "own"]).run().ok();
    assert_eq!(Daemon::adopt("bob", home).api().status().members, 1);
}

#[test]
fn knock_of_a_killed_daemon_is_resumed_by_a_plain_start() {
    let alice = StartDaemon::found("alice").start();
    let home = TestHome::new();
    let mut first = knock(&home, "bob", &alice);
    words_of(&first);
    home.end();
    first.wait(SOON);
    let mut plain = home.chatd(&["start"]).spawn();
    let words = words_of(&plain);
    let knock = eventually(SOON, "the new knock", || {
        let knocks: Vec<Knock> = alice.chat(&["knocks", "--json"]).json();
        knocks.iter().find(|knock| knock.words == words).map(|knock| knock.id).ok_or(format!("{knocks:?}"))
    });
    alice.chat(&["admit", &knock.to_string()]).ok();
    assert!(plain.wait(SOON).success());
    assert!(!home.files().contains(&"join.json".to_owned()), "the wish is fulfilled");
    let bob = Daemon::adopt("bob", home);
    assert_eq!((bob.api().status().peer.name.as_str(), room(&bob)), ("bob", room(&alice)));
    all_online(&[&alice, &bob]);
}

#[test]
fn waiting_daemon_that_leaves_forgets_its_wish() {
    let alice = StartDaemon::found("alice").start();
    let home = TestHome::new();
    let mut waiting = knock(&home, "bob", &alice);
    words_of(&waiting);
    home.chat(&["leave"]).run().ok();
    waiting.wait(SOON);
    home.wait_until_free();
    home.chatd(&["start", "--name", "bob"]).run().ok();
    assert_eq!(Daemon::adopt("bob", home).api().status().members, 1);
}
