//! Requests to a daemon whose room is not loaded yet, or that waits to be admitted to one.

use std::sync::Arc;
use std::time::Duration;

use chat_proto::error::ErrorCode;
use serde_json::json;

use crate::http::api_state::{NoRoom, RoomSlot};
use crate::http::tests::test_api::{ApiTestRoom, TestApi};
use crate::http::tests::test_client::{TestRequest, TestStream, soon};

/// Long enough for a request to arrive, short against the wait for the room.
const ARRIVED: Duration = Duration::from_millis(100);

fn post() -> TestRequest {
    TestRequest::post("/v1/messages", &json!({"text": "early"})).header("idempotency-key", "k")
}

#[tokio::test]
async fn requests_while_the_room_is_loaded_wait_for_it() {
    let (running, room) = (TestApi::start().await, ApiTestRoom::new().await);
    running.slot.remove(NoRoom::Starting);
    let (unix, tcp) = (running.unix.clone(), running.tcp.clone());
    let posted = tokio::spawn(async move { post().send(&unix).await });
    let streamed = tokio::spawn(async move { TestStream::open(&tcp, TestRequest::get("/v1/events?since=all")).await });
    tokio::time::sleep(ARRIVED).await;
    assert!(!posted.is_finished() && !streamed.is_finished(), "both wait");
    running.enter(&room);
    assert_eq!(soon(posted).await.expect("no panic").status, 201);
    assert_eq!(soon(streamed).await.expect("no panic").texts(1).await, ["early"]);
}

#[tokio::test]
async fn room_that_takes_long_to_load_is_answered_with_starting() {
    let running = TestApi::start().await;
    running.slot.remove(NoRoom::Starting);
    let (posted, streamed) =
        tokio::join!(post().send(&running.unix), TestRequest::get("/v1/events").send(&running.unix));
    for answer in [posted, streamed] {
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        assert_eq!(answer.problem().code, ErrorCode::Starting);
    }
}

#[tokio::test]
async fn peer_that_waits_to_be_admitted_answers_so_at_once() {
    let running = TestApi::start().await;
    for request in [post(), TestRequest::get("/v1/events"), TestRequest::get("/v1/status")] {
        let answer = request.send(&running.unix).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        let problem = answer.problem();
        assert_eq!(problem.code, ErrorCode::Joining);
        assert!(problem.hint.is_some_and(|hint| hint.contains("chat admit")), "{}", problem.detail);
    }
}

#[tokio::test]
async fn wait_for_a_room_ends_when_the_daemon_turns_out_to_join_or_stop() {
    let slot = Arc::new(RoomSlot::default());
    for why in [NoRoom::Joining, NoRoom::Stopping] {
        slot.remove(NoRoom::Starting);
        let waiting = tokio::spawn({
            let slot = Arc::clone(&slot);
            async move { slot.wait().await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        slot.remove(why);
        assert_eq!(soon(waiting).await.expect("no panic"), Err(why));
    }
}
