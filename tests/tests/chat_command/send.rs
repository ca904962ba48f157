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
    refused(run_with_input(&fake, &["send"], b"\xff"), "chat: standard input is not UTF-8 text");
    let long = vec![b'x'; 20_000];
    refused(
        run_with_input(&fake, &["send"], &long),
        "chat: standard input has more than the 16384 bytes that fit one message: send it in parts",
    );
    assert!(fake.state().requests.is_empty());
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
    let texts = |fake: &Fake| fake.state().messages.iter().map(|message| message.text.clone()).collect::<Vec<_>>();
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
