//! A stream of messages: each line is answered in order, as a request with it alone would be.

use chat_proto::api::messages::SentLine;
use chat_proto::error::ErrorCode;

use crate::http::extract::BODY_BYTES_MAX;
use crate::http::tests::test_api::TestApi;
use crate::http::tests::test_client::{Endpoint, TestRequest};

async fn post(at: &Endpoint, key: Option<&str>, body: String) -> Vec<SentLine> {
    let request = TestRequest::new("POST", "/v1/messages").header("content-type", "application/x-ndjson").body(body);
    let request = match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    };
    let answer = request.send(at).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    answer.text().lines().map(|line| serde_json::from_str(line).expect("an answer")).collect()
}

fn statuses(answers: &[SentLine]) -> Vec<(u64, u16)> {
    answers.iter().map(|answer| (answer.line, answer.status)).collect()
}

#[tokio::test]
async fn each_line_is_answered_in_order_as_a_request_with_it_alone() {
    let (running, stage) = TestApi::with_room().await;
    let lines = [
        r#"{"text": "one"}"#,
        "",
        r#"["two"]"#,
        r#"{"text": ""}"#,
        r#"{"text": "three", "to": ["bob"]}"#,
        r#"{"text": "four", "to": ["nobody"]}"#,
        "{",
        r#"{"text": "five"}"#,
    ];
    let answers = post(&running.unix, None, lines.join("\n")).await;
    let expected = [(1, 201), (3, 400), (4, 400), (5, 201), (6, 404), (7, 400), (8, 201)];
    assert_eq!(statuses(&answers), expected, "{answers:?}");
    assert_eq!(stage.script.posts(), 3);
    for answer in &answers {
        assert_eq!(answer.id.is_some(), answer.problem.is_none(), "{answer:?}");
        assert_eq!(answer.state.as_ref().is_some_and(|state| state.stored), answer.status == 201);
    }
}

#[tokio::test]
async fn more_lines_than_wait_at_a_time_are_all_posted() {
    let (running, stage) = TestApi::with_room().await;
    let body: String = (0..1_500).map(|n| format!("{{\"text\": \"{n}\"}}\n")).collect();
    let answers = post(&running.tcp, None, body).await;
    assert_eq!(statuses(&answers), (1..=1_500).map(|line| (line, 201)).collect::<Vec<_>>());
    assert_eq!(stage.script.posts(), 1_500);
}

#[tokio::test]
async fn stream_with_a_key_is_repeated_without_posting_twice() {
    let (running, stage) = TestApi::with_room().await;
    let body = |count: usize| (0..count).map(|n| format!("{{\"text\": \"{n}\"}}\n")).collect::<String>();
    let first = post(&running.unix, Some("night"), body(3)).await;
    let again = post(&running.unix, Some("night"), body(4)).await;
    assert_eq!(statuses(&again), [(1, 200), (2, 200), (3, 200), (4, 201)]);
    assert_eq!(
        first.iter().map(|line| line.id).collect::<Vec<_>>(),
        again[..3].iter().map(|line| line.id).collect::<Vec<_>>()
    );
    assert_eq!(stage.script.posts(), 4);
}

#[tokio::test]
async fn line_that_is_too_long_is_refused_and_the_rest_is_posted() {
    let (running, stage) = TestApi::with_room().await;
    let long = "x".repeat(2 * BODY_BYTES_MAX);
    let answers = post(&running.unix, None, format!("{{\"text\": \"one\"}}\n{long}\n{{\"text\": \"two\"}}\n")).await;
    assert_eq!(statuses(&answers), [(1, 201), (2, 413), (3, 201)]);
    assert_eq!(answers[1].problem.as_ref().map(|problem| problem.code), Some(ErrorCode::TooLong));
    let at_the_end = post(&running.unix, None, long).await;
    assert_eq!(statuses(&at_the_end), [(1, 413)]);
    assert_eq!(stage.script.posts(), 2);
}

#[tokio::test]
async fn other_calls_take_no_lines() {
    let (running, _stage) = TestApi::with_room().await;
    let request = TestRequest::new("POST", "/v1/invites").header("content-type", "application/x-ndjson").body("{}");
    assert_eq!(request.send(&running.unix).await.problem().code, ErrorCode::UnsupportedMediaType);
}
