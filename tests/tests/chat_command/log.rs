//! `chat log`: pages, filters, and readers that leave early.

use chat_proto::api::messages::Message;

use crate::fake::{Fake, bob};
use crate::process::{read_and_leave, run};

fn filled(count: usize) -> Fake {
    let fake = Fake::start();
    for number in 0..count {
        fake.say(bob(), &format!("m{number}"));
    }
    fake
}

fn texts(fake: &Fake, arguments: &[&str]) -> Vec<String> {
    let ended = run(fake, &[&["log", "--json"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    ended.out.lines().map(|line| serde_json::from_str::<Message>(line).expect("a message a line").text).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("m{number}")).collect()
}

#[test]
fn log_pages_join_without_gap_or_repetition() {
    let fake = filled(1_234);
    assert_eq!(texts(&fake, &["--all"]), numbers(0..1_234));
    assert_eq!(texts(&fake, &[]), numbers(1_134..1_234));
    assert_eq!(texts(&fake, &["-n", "1100"]), numbers(134..1_234));
    assert_eq!(texts(&fake, &["-5"]), numbers(1_229..1_234));
    assert_eq!(texts(&fake, &["-n", "9999"]), numbers(0..1_234));
    let id = fake.state().messages[99].id.to_string();
    assert_eq!(texts(&fake, &["--after", &id, "-n", "600"]), numbers(100..700));
    assert_eq!(texts(&fake, &["--after", &id]), numbers(100..1_234));
    assert_eq!(texts(&fake, &["--before", &id, "-n", "9"]), numbers(90..99));
    assert_eq!(texts(&fake, &["--before", &id, "--all"]), numbers(0..99));
    assert_eq!(texts(&fake, &["-q", "m12", "--from", "@bob"])[..2], ["m12", "m120"]);
}

#[test]
fn option_that_cannot_be_read_is_a_usage_error() {
    let fake = filled(1);
    for arguments in [
        &["tail", "--since", "bogus"][..],
        &["log", "--after", "bogus"],
        &["log", "--before", "yesterday"],
        &["log", "five"],
        &["log", "-5", "-n", "6"],
    ] {
        let ended = run(&fake, arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.starts_with("error: "), "{}", ended.err);
    }
    let said = run(&fake, &["tail", "--since", "bogus"]).err;
    assert!(said.contains("a cursor, a time like '2026-11-22 14:05', or a duration like '10m'"), "{said}");
}

#[test]
fn log_line_has_its_date() {
    let fake = filled(2);
    let ended = run(&fake, &["log"]);
    assert_eq!(ended.out, "2001-09-09 01:46 bob: m0\n2001-09-09 01:46 bob: m1\n");
    assert_eq!(texts(&fake, &["--after", "2001-09-09 01:46:40"]), ["m1"]);
}

#[test]
fn log_whose_reader_leaves_exits_with_success() {
    let fake = filled(1_000);
    fake.state().messages.iter_mut().for_each(|message| message.text += &"x".repeat(1_000));
    let (_, ended) = read_and_leave(&fake, &["log", "--all"], 1);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}
