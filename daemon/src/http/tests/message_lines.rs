//! A stream of messages: each line is answered in order, as a request with it alone would be.

use chat_proto::api::messages::SentLine;
use chat_proto::error::ErrorCode;

use crate::http::extract::BODY_BYTES_MAX;
use crate::http::tests::test_api::TestApi;
use crate::http::tests::test_client::{Endpoint, TestRequest, TestResponse, soon};

fn request(key: Option<&str>, first: Option<u64>, body: String) -> TestRequest {
    let path = first.map_or("/v1/messages".to_owned(), |line| format!("/v1/messages?line={line}"));
    let request = TestRequest::new("POST", path).header("content-type", "application/x-ndjson").body(body);
    match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    }
}

async fn post(at: &Endpoint, key: Option<&str>, body: String) -> Vec<SentLine> {
    answers(request(key, None, body).send(at).await)
}

fn answers(answer: TestResponse) -> Vec<SentLine> {
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
async fn many_streams_at_once_are_slowed_down_and_not_refused() {
    let (running, stage) = TestApi::with_room().await;
    let posting: Vec<_> = (0..16)
        .map(|stream| {
            let unix = running.unix.clone();
            let body: String = (0..600).map(|n| format!("{{\"text\": \"{stream} {n}\"}}\n")).collect();
            tokio::spawn(async move { post(&unix, Some(&format!("stream {stream}")), body).await })
        })
        .collect();
    for posted in posting {
        let sent = soon(posted).await.expect("no panic");
        assert_eq!(sent.iter().find(|answer| answer.status != 201), None);
        assert_eq!(sent.len(), 600);
    }
    assert_eq!(stage.script.posts(), 16 * 600);
    running.sends_in_progress(|count| count == 0).await;
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
async fn stream_is_resumed_at_the_first_line_that_was_not_answered() {
    let (running, stage) = TestApi::with_room().await;
    let body = |from: usize, to: usize| (from..=to).map(|n| format!("{{\"text\": \"{n}\"}}\n")).collect::<String>();
    post(&running.unix, Some("night"), body(1, 5)).await;
    let resumed = answers(request(Some("night"), Some(4), body(4, 7)).send(&running.unix).await);
    assert_eq!(statuses(&resumed), [(4, 200), (5, 200), (6, 201), (7, 201)]);
    assert_eq!(stage.script.posts(), 7);
    let other = answers(request(Some("night"), Some(5), body(4, 4)).send(&running.unix).await);
    assert_eq!(other[0].problem.as_ref().map(|problem| problem.code), Some(ErrorCode::KeyReused));
    let refused = request(None, Some(0), body(1, 1)).send(&running.unix).await;
    assert_eq!(refused.problem().code, ErrorCode::BadRequest);
    let single = TestRequest::post("/v1/messages?line=2", &serde_json::json!({"text": "x"})).send(&running.unix).await;
    assert_eq!(single.problem().code, ErrorCode::BadRequest);
}

#[tokio::test]
async fn lines_with_keys_do_not_wait_for_each_other() {
    let (running, stage) = TestApi::with_room().await;
    stage.script.open(false);
    let body: String = (0..100).map(|n| format!("{{\"text\": \"{n}\"}}\n")).collect();
    let unix = running.unix.clone();
    let posting = tokio::spawn(async move { post(&unix, Some("night"), body).await });
    running.sends_in_progress(|count| count == 100).await;
    stage.script.open(true);
    let sent = soon(posting).await.expect("no panic");
    assert_eq!(statuses(&sent), (1..=100).map(|line| (line, 201)).collect::<Vec<_>>());
}

#[tokio::test]
async fn lines_of_a_caller_that_hung_up_keep_their_keys_until_they_are_stored() {
    let (running, stage) = TestApi::with_room().await;
    stage.script.open(false);
    let body: String = (0..20).map(|n| format!("{{\"text\": \"{n}\"}}\n")).collect();
    let first = request(Some("night"), None, body.clone()).open(&running.unix).await;
    running.sends_in_progress(|count| count == 20).await;
    drop(first);
    let unix = running.unix.clone();
    let again = tokio::spawn(async move { post(&unix, Some("night"), body).await });
    tokio::task::yield_now().await;
    stage.script.open(true);
    let sent = soon(again).await.expect("no panic");
    assert!(sent.len() == 20 && sent.iter().all(|answer| answer.id.is_some()), "{sent:?}");
    assert_eq!(stage.script.posts(), 20);
    running.sends_in_progress(|count| count == 0).await;
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
