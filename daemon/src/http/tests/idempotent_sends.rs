//! A key posts once: in sequence, at the same time, after a caller hung up, after a restart, whatever is waited for.

use chat_core::input::Command;
use chat_core::output::CommandError;
use chat_proto::api::messages::{MessagePage, SentMessage, Wait};
use chat_proto::error::ErrorCode;
use chat_proto::event::Event;
use serde_json::{Value, json};

use crate::http::tests::test_api::{BOB, TestApi, peer};
use crate::http::tests::test_client::{TestRequest, TestResponse, soon};

fn send(key: &str, body: &Value) -> TestRequest {
    TestRequest::post("/v1/messages", body).header("idempotency-key", key)
}

fn id(answer: &TestResponse) -> String {
    answer.json::<SentMessage>().message.id.to_string()
}

#[tokio::test]
async fn key_with_the_same_request_replays_and_with_another_is_rejected() {
    let (running, stage) = TestApi::with_room().await;
    let body = json!({"text": "hello"});
    let first = send("k1", &body).send(&running.unix).await;
    assert_eq!(first.status, 201);
    let again = send("k1", &body).send(&running.tcp).await;
    assert_eq!((again.status, id(&again)), (200, id(&first)));
    assert_eq!(again.json::<SentMessage>(), first.json::<SentMessage>());
    let waits = send("k1", &json!({"text": "hello", "wait": "stored", "timeout_ms": 5})).send(&running.unix).await;
    assert_eq!((waits.status, id(&waits)), (200, id(&first)), "how long is waited is not part of the request");
    let answer = json!({"text": "hello", "reply_to": id(&first)});
    for other in [json!({"text": "hello "}), json!({"text": "hello", "to": ["bob"]}), answer] {
        let refused = send("k1", &other).send(&running.unix).await;
        assert_eq!(refused.problem().code, ErrorCode::KeyReused, "{other}");
    }
    let second = send("k2", &body).send(&running.unix).await;
    assert_eq!(second.status, 201);
    assert_ne!(id(&second), id(&first));
    assert_eq!(stage.script.posts(), 2);
}

#[tokio::test]
async fn request_without_a_key_posts_every_time() {
    let (running, stage) = TestApi::with_room().await;
    for _ in 0..2 {
        assert_eq!(TestRequest::post("/v1/messages", &json!({"text": "x"})).send(&running.unix).await.status, 201);
    }
    assert_eq!(stage.script.posts(), 2);
}

#[tokio::test]
async fn key_survives_a_restart() {
    let (running, stage) = TestApi::with_room().await;
    let body = json!({"text": "hello", "to": ["bob"]});
    let first = send("k1", &body).send(&running.unix).await;
    let running = running.restart(&stage).await;
    let again = send("k1", &body).send(&running.unix).await;
    assert_eq!((again.status, id(&again)), (200, id(&first)));
    assert_eq!(again.json::<SentMessage>().message, first.json::<SentMessage>().message);
    assert_eq!(send("k1", &json!({"text": "x"})).send(&running.unix).await.status, 409);
    assert_eq!(stage.script.posts(), 1);
}

#[tokio::test]
async fn concurrent_requests_with_one_key_post_once() {
    let (running, stage) = TestApi::with_room().await;
    stage.script.open(false);
    let calls: Vec<_> = (0..24)
        .map(|n| {
            let at = if n % 2 == 0 { running.unix.clone() } else { running.tcp.clone() };
            tokio::spawn(async move { send("k1", &json!({"text": "hello"})).send(&at).await })
        })
        .collect();
    running.sends_in_progress(|count| count > 0).await;
    let other = send("k1", &json!({"text": "other"})).send(&running.unix).await;
    assert_eq!(other.problem().code, ErrorCode::KeyReused);
    stage.script.open(true);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(soon(call).await.expect("no panic"));
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 23);
    assert!(answers.iter().all(|answer| id(answer) == id(&answers[0])));
    assert_eq!(stage.script.posts(), 1);
}

#[tokio::test]
async fn request_of_a_disconnected_caller_posts_once() {
    let (running, stage) = TestApi::with_room().await;
    stage.script.open(false);
    let at = running.unix.clone();
    let body = json!({"text": "hello"});
    let call = tokio::spawn({
        let ask = send("k1", &body);
        async move { ask.send(&at).await }
    });
    running.sends_in_progress(|count| count > 0).await;
    call.abort();
    let retry = tokio::spawn({
        let (ask, at) = (send("k1", &body), running.unix.clone());
        async move { ask.send(&at).await }
    });
    stage.script.open(true);
    let retried = soon(retry).await.expect("no panic");
    assert!(matches!(retried.status, 200 | 201), "{}", retried.text());
    assert_eq!(stage.script.posts(), 1);
    let page: MessagePage = TestRequest::get("/v1/messages").send(&running.unix).await.json();
    assert_eq!(page.messages.len(), 1);
}

#[tokio::test]
async fn failed_send_can_be_retried_with_the_same_key() {
    let (running, stage) = TestApi::with_room().await;
    let body = json!({"text": "hello"});
    stage.script.refuse(Some(CommandError::DiskFull));
    let full = send("k1", &body).send(&running.unix).await;
    assert_eq!(full.problem().code, ErrorCode::DiskFull);
    assert_eq!(full.status, 507);
    stage.script.refuse(None);
    assert_eq!(send("k1", &body).send(&running.unix).await.status, 201);
    assert_eq!(stage.script.posts(), 1);
}

#[tokio::test]
async fn message_is_kept_when_the_wait_times_out() {
    let (running, stage) = TestApi::with_room().await;
    let body = json!({"text": "hello", "wait": "replicated", "copies": 1, "timeout_ms": 20});
    let first = send("k1", &body).send(&running.unix).await;
    assert_eq!(first.status, 202);
    let state = first.json::<SentMessage>().state;
    assert!(state.stored && !state.complete);
    let again = send("k1", &body).send(&running.unix).await;
    assert_eq!((again.status, id(&again)), (202, id(&first)), "a retry waits as long, and posts nothing");
    stage.script.hold(vec![peer(BOB)]);
    let held = send("k1", &body).send(&running.unix).await;
    assert_eq!(held.status, 200);
    assert_eq!(held.json::<SentMessage>().state.copies, 1);
    assert_eq!(stage.script.posts(), 1);
}

#[tokio::test]
async fn retry_waits_for_its_own_condition_while_the_first_request_waits() {
    let (running, stage) = TestApi::with_room().await;
    let long = json!({"text": "hello", "wait": "replicated", "copies": 2, "timeout_ms": 3_600_000});
    let first = tokio::spawn({
        let (ask, at) = (send("k1", &long), running.unix.clone());
        async move { ask.send(&at).await }
    });
    soon(async {
        while stage.script.posts() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stored = send("k1", &json!({"text": "hello"})).send(&running.unix).await;
    assert_eq!(stored.status, 200, "on disk is all that this one wants");
    let message = stored.json::<SentMessage>().message.id;
    let delivered = tokio::spawn({
        let ask = send("k1", &json!({"text": "hello", "wait": "replicated", "copies": 1, "timeout_ms": 60_000}));
        let at = running.unix.clone();
        async move { ask.send(&at).await }
    });
    stage.script.hold(vec![peer(BOB)]);
    stage.publish(Event::Delivery { message, copies: 1, delivered: Vec::new() }).await;
    assert_eq!(soon(delivered).await.expect("no panic").status, 200);
    assert!(!first.is_finished());
    stage.script.hold(vec![peer(BOB), peer(5)]);
    assert_eq!(soon(first).await.expect("no panic").status, 201);
    assert_eq!(stage.script.posts(), 1);
}

#[tokio::test]
async fn key_that_is_unprintable_or_too_long_is_rejected() {
    let (running, stage) = TestApi::with_room().await;
    let body = json!({"text": "x"});
    for bad in ["", &"k".repeat(256), "k\tk"] {
        let refused = send(bad, &body).send(&running.unix).await;
        assert_eq!(refused.problem().code, ErrorCode::BadRequest, "{bad:?}");
    }
    let twice = send("a", &body).header("idempotency-key", "b").send(&running.unix).await;
    assert_eq!(twice.problem().code, ErrorCode::BadRequest);
    assert_eq!(send(&"k".repeat(255), &body).send(&running.unix).await.status, 201);
    assert_eq!(stage.script.posts(), 1);
}

#[tokio::test]
async fn invalid_message_is_rejected_before_the_room_is_asked() {
    let (running, stage) = TestApi::with_room().await;
    for (body, code) in [
        (json!({"text": ""}), ErrorCode::Empty),
        (json!({"text": " \n"}), ErrorCode::Empty),
        (json!({"text": "x".repeat(16 * 1024 + 1)}), ErrorCode::TooLong),
        (json!({"text": "x", "copies": 2}), ErrorCode::BadRequest),
        (json!({"text": "x", "wait": "replicated", "copies": 0}), ErrorCode::BadRequest),
        (json!({"text": "x", "timeout_ms": 3_600_001}), ErrorCode::BadRequest),
        (json!({"text": "x", "wait": "read"}), ErrorCode::BadRequest),
        (json!({"text": "x", "colour": "red"}), ErrorCode::BadRequest),
        (json!({"to": ["bob"]}), ErrorCode::BadRequest),
    ] {
        assert_eq!(TestRequest::post("/v1/messages", &body).send(&running.unix).await.problem().code, code);
    }
    assert!(stage.script.given().is_empty());
    let longest = json!({"text": "\u{1}".repeat(16 * 1024), "wait": "delivered", "timeout_ms": 1000});
    assert_eq!(
        TestRequest::post("/v1/messages", &longest).send(&running.unix).await.status,
        201,
        "six bytes each in JSON"
    );
    let given = stage.script.given();
    assert!(matches!(given.as_slice(), [Command::Post { wait: Wait::Delivered, .. }]));
}
