//! The room to type in, on a real terminal.

use std::process::Stdio;

use chat_proto::api::messages::SendRequest;
use chat_proto::text::printable;
use chat_tests::process::Signal;

use crate::answers::view;
use crate::fake::{Fake, alice, bob};
use crate::process::{chat, finish, run};
use crate::pty::PtyTerminal;
use chat_proto::event::Event;

const SEND: &str = "POST /v1/messages";

fn sent(fake: &Fake, count: usize) -> SendRequest {
    let requests = fake.requests(SEND, count);
    serde_json::from_str(&requests[count - 1].body).expect("a send request")
}

#[test]
fn typed_lines_are_sent_and_messages_shown() {
    let fake = Fake::start();
    fake.say(bob(), "earlier");
    let mut room = PtyTerminal::start(&fake);
    room.wait_for("lab: 2 of 2 members online");
    room.wait_for("bob\u{1b}[0m: earlier");
    room.wait_for("alice> ");
    assert!(!room.is_plain());

    room.press("hello all\r");
    assert_eq!(sent(&fake, 1).text, "hello all");
    room.press("half a li");
    room.wait_for("half a li");
    fake.say(bob(), "in between");
    room.wait_for("in between\r\n");
    room.press("ne\r");
    assert_eq!(sent(&fake, 2).text, "half a line");

    // What this peer says from elsewhere is shown; what was typed here is not shown again.
    fake.say(alice(), "from elsewhere");
    let screen = room.wait_for("from elsewhere");
    assert!(!screen.contains("alice\u{1b}[0m: hello all"), "{screen:?}");

    room.press("@b\t");
    room.wait_for("@bob ");
    room.press("psst\r");
    assert_eq!(sent(&fake, 3), SendRequest { to: vec!["bob".into()], text: "psst".into(), ..SendRequest::default() });

    room.press("exit\r");
    assert_eq!(room.exit_code(), Some(0));
    assert!(room.is_plain());
}

#[test]
fn lines_typed_ahead_are_sent_in_order() {
    let fake = Fake::start();
    let mut room = PtyTerminal::start(&fake);
    room.wait_for_line(1);
    room.press("one\rtwo\r@bob three\rexit\r");
    assert_eq!(room.exit_code(), Some(0));
    let texts: Vec<String> = fake.state().messages.iter().map(|message| message.text.clone()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[test]
fn failure_is_shown_and_the_room_goes_on() {
    let mut fake = Fake::start();
    let mut room = PtyTerminal::start(&fake);
    room.wait_for_line(1);
    room.press("@bbo psst\r");
    room.wait_for("chat: no member is called 'bbo'");
    room.wait_for("not sent: psst");
    room.press("/nonsense\r");
    room.wait_for("there is no /nonsense");
    room.press("/peers\r");
    room.wait_for("LAST SEEN");
    fake.publish(Event::Peer { peer: chat_proto::api::peers::PeerView { online: false, ..view(bob(), false) } });
    room.wait_for("bob is away");

    fake.stop();
    room.wait_for("the daemon is gone");
    room.press("patience\r");
    fake.say(bob(), "while away");
    fake.restart();
    room.wait_for("the daemon is back");
    room.wait_for("while away");
    fake.requests(SEND, 2);
    room.wait_for_line(5);
    room.press("\u{4}");
    assert_eq!(room.exit_code(), Some(0));
    assert_eq!(fake.state().messages.last().map(|message| message.text.clone()).as_deref(), Some("patience"));
}

#[test]
fn second_ctrl_c_leaves() {
    let fake = Fake::start();
    let mut room = PtyTerminal::start(&fake);
    room.wait_for_line(1);
    room.press("\u{3}");
    room.wait_for("press Ctrl-C again");
    room.wait_for_line(2);
    room.press("\u{3}");
    assert_eq!(room.exit_code(), Some(0));
}

#[test]
fn signal_restores_the_terminal() {
    let fake = Fake::start();
    let mut room = PtyTerminal::start(&fake);
    room.wait_for_line(1);
    room.signal(Signal::TERM);
    assert_eq!(room.exit_code(), Some(0));
    assert!(room.is_plain());
}

#[test]
fn typed_input_with_redirected_output_is_refused() {
    let fake = Fake::start();
    let (_main, line) = crate::pty::open();
    let mut command = chat(fake.path(), &[]).into_inner();
    command.stdin(line).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = finish(command.spawn().expect("chat runs"));
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("read with 'chat tail', write with 'chat send'"), "{}", ended.err);
}

#[test]
fn leaving_and_removing_ask_on_a_terminal() {
    let fake = Fake::start();
    for (arguments, call) in [(&["leave"][..], "POST /v1/leave"), (&["remove", "bob"], "POST /v1/members/bob/remove")] {
        for (answer, code, calls) in [("\r", 1, 0), ("y\r", 0, 1)] {
            let mut terminal = PtyTerminal::run(&fake, arguments);
            terminal.wait_for("[y/N]");
            terminal.press(answer);
            assert_eq!(terminal.exit_code(), Some(code), "{arguments:?} {answer:?}");
            let made = fake.state().requests.iter().filter(|request| request.call() == call).count();
            assert_eq!(made, calls, "{arguments:?} {answer:?}");
        }
    }
    let mut terminal = PtyTerminal::run(&fake, &["remove", "bob", "--yes"]);
    assert_eq!(terminal.exit_code(), Some(0));
}

#[test]
fn what_is_wider_than_the_terminal_is_wrapped_at_words() {
    let fake = Fake::start();
    let words = vec!["a-word"; 30].join(" ");
    fake.say(bob(), &words);
    for arguments in [&["log"][..], &["tail", "--no-follow"], &["invite"], &["why"], &["peers"]] {
        let mut terminal = PtyTerminal::run(&fake, arguments);
        assert_eq!(terminal.exit_code(), Some(0));
        let written = terminal.wait_for("\r\n");
        let plain = printable(&written.replace("\r\n", "\n"));
        let too_long: Vec<&str> = plain.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(too_long.is_empty(), "{arguments:?}: {too_long:#?}");
        if arguments[0] == "log" || arguments[0] == "tail" {
            assert_eq!(plain.matches("a-word").count(), 30, "no word is cut: {plain}");
        }
    }
    // Pipes get what was said as it was said.
    assert!(run(&fake, &["log"]).out.contains(&words));
}
