//! `chat send`: recipients and text, sent once, and how it fails.

use chat_proto::api::messages::{SendRequest, SentMessage, Wait};
use chat_proto::error::{ErrorCode, Problem};

use crate::fake::{Fake, FakeFault};
use crate::process::{RunResult, run, run_with_input};

const SEND: &str = "POST /v1/messages";

fn silent() -> RunResult {
    RunResult { code: Some(0), out: String::new(), err: String::new() }
}

/// The one request that was made.
fn sent(fake: &Fake) -> SendRequest {
    let requests = fake.requests(SEND, 1);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    serde_json::from_str(&requests[0].body).expect("a send request")
}

fn room(text: &str) -> SendRequest {
    SendRequest { text: text.into(), ..SendRequest::default() }
}

#[test]
fn send_joins_its_words_and_is_silent() {
    let fake = Fake::start();
    assert_eq!(run(&fake, &["send", "hello", "dear  all", "-1"]), silent());
    assert_eq!(sent(&fake), room("hello dear  all -1"));
}

#[test]
fn leading_names_make_a_send_direct() {
    for arguments in [&["send", "@bob", "@carol,", "psst", "@all"][..], &["send", "@bob @carol, psst @all"]] {
        let fake = Fake::start();
        assert_eq!(run(&fake, arguments), silent());
        assert_eq!(sent(&fake), SendRequest { to: vec!["bob".into(), "carol".into()], ..room("psst @all") });
    }
}

#[test]
fn standard_input_is_sent_unchanged_as_one_message() {
    for (arguments, to) in
        [(&["send"][..], vec![]), (&["send", "-"], vec![]), (&["send", "@bob"], vec!["bob".to_owned()])]
    {
        let fake = Fake::start();
        assert_eq!(run_with_input(&fake, arguments, b"@x  one\n\n  two\n"), silent());
        assert_eq!(sent(&fake), SendRequest { to, ..room("@x  one\n\n  two") });
    }
}

#[test]
fn invalid_message_is_refused_before_it_is_sent() {
    let fake = Fake::start();
    let refused = |ended: RunResult, line: &str| {
        assert_eq!(ended, RunResult { code: Some(1), out: String::new(), err: format!("{line}\n") });
    };
    refused(run(&fake, &["send", " "]), "chat: the message is empty");
    refused(run_with_input(&fake, &["send"], b"\n"), "chat: the message is empty");
    let long = vec![b'x'; 20_000];
    refused(
        run_with_input(&fake, &["send"], &long),
        "chat: standard input has more than the 16384 bytes that fit one message\nhint: 'chat send --tail' sends the last \
         part that fits, 'chat send --split' sends several messages",
    );
    assert!(fake.state().requests.is_empty());
}

fn texts(fake: &Fake) -> Vec<String> {
    fake.state().messages.iter().map(|message| message.text.clone()).collect()
}

#[test]
fn input_that_is_too_long_is_sent_by_its_tail_or_in_parts() {
    let fake = Fake::start();
    let log: String = (0..3_000).map(|number| format!("make: step {number}\n")).collect();
    assert_eq!(run_with_input(&fake, &["send", "--tail"], log.as_bytes()), silent());
    let last = texts(&fake).remove(0);
    assert!(last.len() > 16_000 && log.trim_end().ends_with(&last) && last.starts_with("make: step"), "{last}");
    assert_eq!(run_with_input(&fake, &["send", "@bob", "--split"], log.as_bytes()), silent());
    let parts = texts(&fake).split_off(1);
    assert_eq!((parts.len(), parts.join("\n")), (3, log.trim_end().to_owned()));
    assert!(fake.state().messages[1..].iter().all(|message| message.to.len() == 1));
    assert_eq!(run_with_input(&fake, &["send", "--split"], b"\n").err, "chat: the message is empty\n");
}

#[test]
fn byte_that_is_not_utf_8_is_replaced_and_ends_nothing() {
    let fake = Fake::start();
    let ended = run_with_input(&fake, &["send"], b"gr\xfcn");
    assert_eq!((ended.code, ended.err.lines().count()), (Some(0), 1), "{}", ended.err);
    let ended = run_with_input(&fake, &[], b"one\ngr\xfcn\nthree\n");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.err, "chat: line 2 is not all UTF-8: what is not was replaced by '\u{FFFD}'\n");
    assert_eq!(texts(&fake), ["gr\u{FFFD}n", "one", "gr\u{FFFD}n", "three"]);
}

#[test]
fn json_and_verbose_report_the_result_of_a_send() {
    let fake = Fake::start();
    let ended = run(&fake, &["send", "--json", "hi"]);
    let sent: SentMessage = serde_json::from_str(&ended.out).expect("a sent message");
    assert_eq!((sent.message.text.as_str(), sent.state.copies), ("hi", 1));
    assert_eq!(run(&fake, &["send", "-v", "hi"]).err, "stored as 0000000000.0, held by 1 other peer\n");
}

#[test]
fn answer_names_the_message_that_it_answers() {
    let fake = Fake::start();
    let id = format!("{}.3", "a".repeat(64));
    assert_eq!(run(&fake, &["send", "--reply", &id, "three"]).code, Some(0));
    assert_eq!(sent(&fake), SendRequest { reply_to: id.parse().ok(), ..room("three") });
    assert_eq!(run(&fake, &["send", "--reply", "a.3", "three"]).code, Some(2));
}

#[test]
fn wait_that_runs_out_exits_with_5() {
    let fake = Fake::start();
    fake.fault(SEND, FakeFault::Status(202));
    let ended = run(&fake, &["send", "hi", "--copies", "2", "--timeout", "250ms"]);
    let err = "chat: the wait ran out after 250ms, held by 1 other peer: the message is stored and still travels\n"
        .to_owned();
    assert_eq!(ended, RunResult { code: Some(5), out: String::new(), err });
    let expected = SendRequest { wait: Wait::Replicated, copies: Some(2), timeout_ms: Some(250), ..room("hi") };
    assert_eq!(sent(&fake), expected);
    assert_eq!(run(&fake, &["send", "hi", "--wait", "delivered", "--copies", "2"]).code, Some(2));
}

#[test]
fn send_to_an_unknown_name_is_refused() {
    let fake = Fake::start();
    let err = "chat: no member is called 'bbo'\nhint: 'chat peers' lists the members\n".to_owned();
    assert_eq!(run(&fake, &["send", "@bbo", "psst"]), RunResult { code: Some(1), out: String::new(), err });
    assert!(fake.state().messages.is_empty());
}

#[test]
fn send_over_a_broken_connection_posts_once() {
    let fake = Fake::start();
    fake.fault(SEND, FakeFault::HangUp);
    fake.fault(SEND, FakeFault::HangUp);
    assert_eq!(run(&fake, &["send", "once"]), silent());
    let requests = fake.requests(SEND, 3);
    let keys: Vec<_> = requests.iter().map(|request| request.header("idempotency-key")).collect();
    assert!(keys[0].is_some_and(|key| key.len() == 32), "{keys:?}");
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(fake.state().messages.len(), 1);
}

#[test]
fn send_waits_for_a_daemon_that_shuts_down() {
    let fake = Fake::start();
    fake.fault(SEND, FakeFault::Refuse(Problem::new(ErrorCode::ShuttingDown, "shutting down")));
    assert_eq!(run(&fake, &["send", "hi"]), silent());
    assert_eq!(fake.state().messages.len(), 1);
}

#[test]
fn send_has_a_new_key_unless_one_is_given() {
    let fake = Fake::start();
    for arguments in [&["send", "a"][..], &["send", "a"], &["send", "--key", "k", "a"], &["send", "--key", "k", "a"]] {
        assert_eq!(run(&fake, arguments), silent());
    }
    let requests = fake.requests(SEND, 4);
    let keys: Vec<_> = requests.iter().map(|request| request.header("idempotency-key")).collect();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[2..], [Some("k"), Some("k")]);
    assert_eq!(fake.state().messages.len(), 3);
}

#[test]
fn piped_lines_are_sent_until_one_is_refused() {
    let fake = Fake::start();
    assert_eq!(run_with_input(&fake, &[], b"one\r\n\n@bob two\nexit\n"), silent());
    assert_eq!(texts(&fake), ["one", "two", "exit"]);
    assert_eq!(fake.state().messages[1].to.len(), 1);
    let ended = run_with_input(&fake, &[], b"three\n@bbo four\nfive\n");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.starts_with("chat: line 2 was not sent, nor the lines after it\nchat: no member"),
        "{}",
        ended.err
    );
    assert_eq!(texts(&fake), ["one", "two", "exit", "three"]);
}

#[test]
fn lines_go_over_one_connection_in_their_order() {
    let fake = Fake::start();
    let lines: String = (0..2_000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(run_with_input(&fake, &[], lines.as_bytes()), silent());
    assert_eq!(texts(&fake), (0..2_000).map(|number| format!("line {number}")).collect::<Vec<_>>());
    let requests = fake.requests(SEND, 2_000);
    assert!(requests.iter().all(|request| !request.query.contains_key("line")));
}

#[test]
fn lines_that_were_on_their_way_when_one_was_refused_are_told() {
    let fake = Fake::start();
    fake.fault(SEND, FakeFault::Refuse(Problem::new(ErrorCode::NotInRoom, "you left")));
    let ended = run_with_input(&fake, &[], b"one\ntwo\nthree\n");
    assert_eq!(ended.code, Some(1));
    let sent = texts(&fake);
    let last = sent.len() + 1;
    let expected = match sent.len() {
        0 => "chat: line 1 was not sent, nor the lines after it\n".to_owned(),
        _ => {
            format!("chat: line 1 was not sent; those up to line {last} were on their way and were sent\n")
        }
    };
    assert!(ended.err.starts_with(&expected), "{}\n{sent:?}", ended.err);
}

#[test]
fn lines_over_broken_connections_are_posted_once() {
    let fake = Fake::start();
    for _ in 0..3 {
        fake.fault(SEND, FakeFault::HangUp);
    }
    fake.fault(SEND, FakeFault::Refuse(Problem::new(ErrorCode::ShuttingDown, "shutting down")));
    let lines: String = (0..300).map(|number| format!("line {number}\n")).collect();
    assert_eq!(run_with_input(&fake, &[], lines.as_bytes()), silent());
    assert_eq!(texts(&fake), (0..300).map(|number| format!("line {number}")).collect::<Vec<_>>());
}

#[test]
fn older_daemon_is_sent_line_by_line() {
    let fake = Fake::start();
    fake.state().is_old = true;
    assert_eq!(run_with_input(&fake, &[], b"one\n@bob two\nthree\n"), silent());
    assert_eq!(texts(&fake), ["one", "two", "three"]);
}

#[test]
fn long_text_is_split_and_its_parts_are_sent_in_order() {
    let fake = Fake::start();
    let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(run_with_input(&fake, &["send", "--split"], text.as_bytes()), silent());
    assert_eq!(texts(&fake).join("\n") + "\n", text);
    assert_eq!(run_with_input(&fake, &["send", "--split"], b"\n").code, Some(1));
}
