//! Nothing that was typed is lost.

use std::time::Duration;

use chat_tests::cluster::TestRoom;
use chat_tests::eventually::{SOON, eventually, eventually_true};
use chat_tests::process::{Handle, Signal};

use crate::terminal::TestTerminal;

#[test]
fn paste_of_many_lines_is_one_message_after_a_question() {
    let room = TestRoom::of(&["alice"]);
    let mut terminal = TestTerminal::open(room["alice"].home(), 80, 24);
    terminal.shows("1/1 online");
    let text: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
    terminal.paste(&text.join("\r"));
    terminal.shows("Put the 500 pasted lines");
    terminal.press("y");
    terminal.shows("line 499");
    terminal.press("\r");
    eventually_true(SOON, "it is one message", || room["alice"].api().texts() == [text.join("\n")]);
    // What does not fit one message is refused, with the way to send it.
    terminal.paste(&"x".repeat(17_000));
    terminal.shows("chat send --split < FILE");
}

#[test]
fn paste_that_is_not_bracketed_loses_no_line() {
    let room = TestRoom::of(&["alice"]);
    let mut terminal = TestTerminal::open(room["alice"].home(), 80, 24);
    terminal.shows("1/1 online");
    let lines: Vec<String> = (0..200).map(|number| format!("pasted line {number}")).collect();
    terminal.press(&(lines.join("\r") + "\r"));
    terminal.shows("pasted lines");
    terminal.press("y");
    terminal.shows("pasted line 199");
    terminal.press("\r");
    eventually(SOON, "all lines are there, in order", || {
        let said = room["alice"].api().texts().join("\n");
        if said.lines().eq(lines.iter().map(String::as_str)) { Ok(()) } else { Err(said) }
    });
}

#[test]
fn line_is_kept_by_ctrl_c_and_after_ctrl_z() {
    let room = TestRoom::of(&["alice"]);
    let variables = [("TERM", "xterm-256color")];
    let script = "PS1=\"shell> \" exec bash --norc --noprofile -i";
    let mut terminal = TestTerminal::run(room["alice"].home(), script, 80, 24, &variables);
    terminal.shows("shell>");
    terminal.press("chat\r");
    terminal.shows("1/1 online");
    terminal.press("\x03");
    terminal.shows("press Ctrl-C again");
    terminal.press("not lost");
    terminal.shows("> not lost");
    terminal.press("\x03");
    terminal.shows("kept: Up brings it back");
    terminal.press("\x1b[A");
    terminal.shows("> not lost");
    terminal.press("\x1a");
    terminal.shows("Stopped");
    assert!(terminal.is_plain() || !terminal.is_taken());
    terminal.press("fg\r");
    terminal.shows("> not lost");
    assert!(terminal.is_taken(), "pastes are bracketed again");
    terminal.press(" at all\r");
    eventually_true(SOON, "it is sent", || room["alice"].api().texts() == ["not lost at all"]);
}

#[test]
fn draft_and_history_are_there_in_the_next_run() {
    let room = TestRoom::of(&["alice"]);
    let mut terminal = TestTerminal::open(room["alice"].home(), 80, 24);
    terminal.shows("1/1 online");
    terminal.press("sent before\r");
    terminal.shows("alice: sent before ✓");
    terminal.press("a draft");
    terminal.shows("> a draft");
    terminal.signal(Signal::HUP);
    assert_eq!(terminal.exit_code(), Some(0));
    let mut terminal = TestTerminal::open(room["alice"].home(), 80, 24);
    terminal.shows("> a draft");
    terminal.press("\x15\x1b[A");
    terminal.shows("> sent before");
}

#[test]
fn unread_messages_are_marked_where_the_last_run_left_off() {
    let room = TestRoom::of(&["alice", "bob"]);
    room["alice"].api().send("read before");
    let mut terminal = TestTerminal::open(room["bob"].home(), 80, 24);
    terminal.shows("alice: read before");
    terminal.press("exit\r");
    assert_eq!(terminal.exit_code(), Some(0));
    for number in 0..50 {
        room["alice"].api().send(&format!("said meanwhile {number}"));
    }
    room.same_history(51);
    let mut terminal = TestTerminal::open(room["bob"].home(), 80, 24);
    let screen = terminal.shows("50 unread");
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let marker = lines.iter().position(|line| line.contains("── new ──")).expect("a marker");
    assert!(lines[marker - 1].contains("read before") && lines[marker + 1].contains("said meanwhile 0"), "{screen}");
    terminal.press("\x1b");
    terminal.shows("said meanwhile 49");
    terminal.hides("unread");
}

#[test]
fn resize_leaves_no_copies_of_the_line() {
    let room = TestRoom::of(&["alice"]);
    room["alice"].api().send("a message that stays");
    let mut terminal = TestTerminal::open(room["alice"].home(), 80, 24);
    terminal.shows("a message that stays");
    let line = "a half typed line that is wrapped on a narrow screen";
    terminal.press(line);
    terminal.shows(line);
    for (columns, rows) in [(40, 10), (200, 50), (30, 8), (80, 24)] {
        terminal.resize(columns, rows);
        let screen = terminal.shows("> a half typed");
        assert_eq!(screen.matches("a half typed").count(), 1, "{columns}×{rows}:\n{screen}");
        assert_eq!(terminal.shows("a message that").matches("a message that").count(), 1);
    }
    terminal.press("\r");
    eventually_true(SOON, "it is sent whole", || room["alice"].api().texts().contains(&line.to_owned()));
}

#[test]
fn program_ends_as_asked_and_gives_the_terminal_back() {
    let room = TestRoom::of(&["alice"]);
    for keys in ["exit\r", "quit\r", "/quit\r", "\x04", "\x03\x03"] {
        let mut terminal = TestTerminal::open(room["alice"].home(), 80, 24);
        terminal.shows("1/1 online");
        terminal.press(keys);
        assert_eq!(terminal.exit_code(), Some(0), "{keys:?}");
        eventually_true(SOON, "the terminal is given back", || terminal.is_plain() && !terminal.is_taken());
    }
    let mut terminal = TestTerminal::open(room["alice"].home(), 80, 24);
    terminal.shows("1/1 online");
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.exit_code(), Some(0));
    eventually_true(SOON, "the terminal is given back", || terminal.is_plain() && !terminal.is_taken());
}

#[test]
fn line_mode_loses_no_line_either() {
    let room = TestRoom::of(&["alice"]);
    let script = "PS1=\"shell> \" exec bash --norc --noprofile -i";
    let mut terminal = TestTerminal::run(room["alice"].home(), script, 80, 24, &[("TERM", "xterm")]);
    terminal.shows("shell>");
    terminal.press("chat --plain\r");
    terminal.shows("alice>");
    terminal.press("\x03");
    terminal.shows("press Ctrl-C again");
    terminal.press("not lost");
    terminal.shows("alice> not lost");
    terminal.press("\x03");
    terminal.shows("kept: Up brings it back");
    terminal.press("\x1b[A\r");
    eventually_true(SOON, "it is sent", || room["alice"].api().texts() == ["not lost"]);
    terminal.press("\x1a");
    terminal.shows("Stopped");
    terminal.press("fg\r");
    eventually_true(SOON, "pastes are bracketed again", || terminal.brackets_pastes());
    let lines: Vec<String> = (0..200).map(|number| format!("pasted line {number}")).collect();
    terminal.press(&(lines.join("\r") + "\r"));
    eventually(SOON, "all lines are there, in order", || {
        let said = room["alice"].api().texts();
        if said[1..] == lines { Ok(()) } else { Err(said.join("\n")) }
    });
}

#[test]
fn program_whose_terminal_is_lost_ends_at_once() {
    let room = TestRoom::of(&["alice"]);
    let home = room["alice"].home();
    for (arguments, ready) in [("", "1/1 online"), ("--plain", "alice>")] {
        // In a session of its own, no signal tells that the terminal is gone; the terminal is that of 'script'.
        home.write("in-terminal.sh", &format!("echo $$ > {0}/pid; exec chat {arguments}", home.path().display()));
        let script =
            format!("exec script -qc \"exec setsid -w bash {}/in-terminal.sh\" /dev/null", home.path().display());
        let mut terminal = TestTerminal::run(home, &script, 80, 24, &[("TERM", "xterm-256color")]);
        terminal.shows(ready);
        let pid = std::fs::read_to_string(home.path().join("pid")).expect("it was written");
        let chat = Handle::open(pid.trim().parse().expect("a number")).expect("chat runs");
        terminal.signal(Signal::KILL);
        terminal.exit_code();
        assert!(chat.wait(Duration::from_secs(5)), "chat {arguments} goes on without a terminal");
    }
}
