//! Status, peers, metrics: figures from the room, the store and the process come together.

use chat_proto::api::status::Status;

use crate::http::tests::test_api::{ANN, TestApi, peer};
use crate::http::tests::test_client::TestRequest;

#[tokio::test]
async fn status_combines_room_store_and_process() {
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["one", "two"]).await;
    let status: Status = TestRequest::get("/v1/status").send(&running.tcp).await.json();
    assert_eq!((status.peer.id, status.peer.name.as_str()), (peer(ANN), "ann"));
    assert_eq!((status.room.id, status.room.name.as_str()), (stage.room, "lab"));
    assert_eq!((status.members, status.members_online, status.messages), (2, 1, 2));
    assert_eq!((status.reachability.port, status.reachability.addrs.len()), (24283, 1));
    assert_eq!((status.pid, status.home), (std::process::id(), running.dir.path().display().to_string()));
}

#[tokio::test]
async fn metrics_are_valid_with_and_without_a_room() {
    let running = TestApi::start().await;
    let bare = TestRequest::get("/metrics").send(&running.tcp).await;
    assert_eq!(bare.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(bare.text().contains("\nchatd_peer_connections 5\n"));
    assert!(bare.text().contains("\nchatd_queue_drops_total 2\n"));
    assert!(!bare.text().contains("chatd_messages"));
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["one"]).await;
    let _stream = TestRequest::get("/v1/events").open(&running.unix).await;
    let full = TestRequest::get("/metrics").send(&running.tcp).await;
    for line in ["chatd_messages 1", "chatd_event_streams 1", "chatd_members 2", "chatd_members_online 1"] {
        assert!(full.text().lines().any(|found| found == line), "{line}: {}", full.text());
    }
    let commits = full.text().lines().find_map(|line| line.strip_prefix("chatd_store_commits_total "));
    assert!(commits.and_then(|commits| commits.parse::<u64>().ok()).is_some_and(|commits| commits >= 2), "{commits:?}");
    for line in full.text().lines() {
        let value = line.rsplit(' ').next().unwrap_or_default();
        assert!(line.starts_with('#') || value.parse::<f64>().is_ok(), "{line}");
    }
}
