//! What the screen shows of the room.

use chat_tests::cluster::TestRoom;
use chat_tests::eventually::{SOON, eventually, eventually_true};
use chat_tests::home::TestHome;

use crate::terminal::TestTerminal;

#[test]
fn messages_are_sent_and_shown_with_members_and_delivery() {
    let room = TestRoom::of(&["alice", "bob"]);
    let (alice, bob) = (&room["alice"], &room["bob"]);
    alice.api().send("said before");
    room.same_history(1);
    let mut terminal = TestTerminal::open(bob.home(), 80, 24);
    terminal.shows("alice: said before");
    terminal.shows("alice holds the room");
    assert!(terminal.is_taken() && !terminal.is_plain());
    terminal.press("hello from the screen\r");
    // On this disk, then on that of alice.
    terminal.shows("bob: hello from the screen ✓1");
    eventually_true(SOON, "alice reads it", || alice.api().texts().contains(&"hello from the screen".to_owned()));
    terminal.press("@al\t");
    terminal.shows("> @alice");
    terminal.press("for you alone\r");
    terminal.shows("bob → alice: for you alone ✓✓");
    alice.api().send_to(&["bob"], "and for you");
    terminal.shows("alice → you: and for you");
    // Half a line stays whole while messages arrive.
    terminal.press("half a li");
    for number in 0..5 {
        alice.api().send(&format!("interruption {number}"));
    }
    terminal.shows("alice: interruption 4");
    assert_eq!(terminal.lines().last().map(String::as_str), Some("> half a li"));
    terminal.press("ne\r");
    eventually_true(SOON, "alice reads it whole", || alice.api().texts().contains(&"half a line".to_owned()));
    terminal.press("exit\r");
    assert_eq!(terminal.exit_code(), Some(0));
    eventually_true(SOON, "the terminal is given back", || terminal.is_plain() && !terminal.is_taken());
}

#[test]
fn daemon_that_restarts_loses_nothing_that_was_typed_or_said() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    let mut terminal = TestTerminal::open(room["bob"].home(), 80, 24);
    terminal.shows("2/2 online");
    room["bob"].stop();
    terminal.shows("the daemon is gone");
    for number in 0..40 {
        terminal.press(&format!("typed meanwhile {number}\r"));
        terminal.shows(&format!("bob: typed meanwhile {number} …"));
    }
    room["alice"].api().send("said meanwhile");
    room["bob"].start_again();
    terminal.shows("typed meanwhile 39 ✓");
    terminal.hides("the daemon is gone");
    let history = room.same_history(41);
    let typed: Vec<&str> = history.iter().map(|m| m.text.as_str()).filter(|text| text.starts_with("typed")).collect();
    let expected: Vec<String> = (0..40).map(|number| format!("typed meanwhile {number}")).collect();
    assert_eq!(typed, expected, "each once, in order");
}

#[test]
fn knock_is_admitted_where_it_is_shown() {
    let room = TestRoom::of(&["alice"]);
    let alice = &room["alice"];
    let mut terminal = TestTerminal::open(alice.home(), 100, 24);
    terminal.shows("you hold the room");
    let home = TestHome::new();
    let mut waiting = home.chatd(&["start", "--name", "bob", "--join", &alice.home().address()]).spawn();
    terminal.shows("bob asks for admission, with the words");
    terminal.press("\x1ba");
    assert!(waiting.wait(SOON).success());
    terminal.shows("bob was admitted");
    terminal.shows("2/2 online");
    terminal.press("/invite\r");
    terminal.shows("anyone with this ticket can join");
}

#[test]
fn move_of_the_role_is_told_in_a_line() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    let terminal = TestTerminal::open(room["carol"].home(), 120, 30);
    terminal.shows("alice holds the room");
    room["alice"].kill();
    // How her end was noticed depends on how long she was watched before.
    terminal.shows("holds the room now: alice");
    terminal.shows("alice is away");
    terminal.shows("2/3 online");
}

#[test]
fn history_scrolls_to_its_beginning_and_is_searched() {
    let room = TestRoom::of(&["alice"]);
    let alice = room["alice"].api();
    alice.send("the very first message about a zebra");
    let lines: String = (0..600).map(|number| format!("message number {number}\n")).collect();
    room["alice"].home().chat(&[]).input(lines).run().ok();
    alice.send("the last message");
    let mut terminal = TestTerminal::open(room["alice"].home(), 80, 24);
    terminal.shows("the last message");
    let mut screen = terminal.screen();
    while !screen.contains("zebra") {
        terminal.press("\x1b[5~");
        screen = terminal.changes(&screen);
    }
    terminal.shows("this is the beginning of the history");
    terminal.press("\x1b");
    terminal.shows("the last message");
    terminal.press("\x06zebra\r");
    terminal.shows("the very first message");
    terminal.shows("1 of 1");
    terminal.press("\r");
    terminal.shows("zebra ✓ ◂");
    terminal.press("\x1b");
    terminal.shows("the last message");
    terminal.press("/log\r");
    terminal.shows("zebra");
}

#[test]
fn mention_rings_notifies_and_counts_in_the_title() {
    let room = TestRoom::of(&["alice", "bob"]);
    let mut terminal = TestTerminal::open(room["bob"].home(), 80, 24);
    terminal.shows("2/2 online");
    assert!(terminal.has_written("– chat\x07"));
    terminal.press("\x1b[O");
    room["alice"].api().send("nothing of interest");
    terminal.shows("1 unread");
    assert!(!terminal.has_written("\x1b]9;"));
    room["alice"].api().send("bob: look");
    terminal.writes("\x1b]9;alice: bob: look\x07");
    terminal.writes("\x1b]0;(2) ");
    terminal.press("\x1b[I");
    terminal.hides("unread");
    terminal.shows("── new ──");
}

#[test]
fn escape_sequences_of_others_do_not_reach_the_terminal() {
    let room = TestRoom::of(&["alice", "bob"]);
    let terminal = TestTerminal::open(room["bob"].home(), 80, 24);
    terminal.shows("2/2 online");
    room["alice"].api().send("\x1b]0;owned\x07\x1b[2Jred \x1b[31malert\x1b[0m, bob");
    terminal.shows("alice: red alert, bob");
    assert!(!terminal.has_written("owned") && !terminal.has_written("\x1b[31malert"));
}

#[test]
fn screen_without_colours_writes_none() {
    let room = TestRoom::of(&["alice"]);
    room["alice"].api().send("hello");
    let variables = [("TERM", "xterm-256color"), ("NO_COLOR", "1")];
    let terminal = TestTerminal::run(room["alice"].home(), "exec chat", 80, 24, &variables);
    terminal.shows("alice: hello");
    for colour in ["\x1b[38;", "\x1b[48;", "\x1b[31m"] {
        assert!(!terminal.has_written(colour), "{colour:?}");
    }
}

#[test]
fn dumb_terminal_and_plain_get_the_line_mode() {
    let room = TestRoom::of(&["alice"]);
    for (script, term) in [("exec chat", "dumb"), ("exec chat --plain", "xterm")] {
        let terminal = TestTerminal::run(room["alice"].home(), script, 80, 24, &[("TERM", term)]);
        terminal.shows("alice>");
        assert!(!terminal.is_taken(), "{script} {term}");
    }
}

#[test]
fn setting_that_is_not_known_is_an_error_that_names_the_file() {
    let room = TestRoom::of(&["alice"]);
    room["alice"].home().write("config.toml", "[chat]\nbel = true\n");
    let mut terminal = TestTerminal::open(room["alice"].home(), 120, 24);
    assert_eq!(terminal.exit_code(), Some(2));
    eventually(SOON, "the reason", || {
        let screen = terminal.screen();
        if screen.contains("config.toml") && screen.contains("bel") { Ok(()) } else { Err(screen) }
    });
}
