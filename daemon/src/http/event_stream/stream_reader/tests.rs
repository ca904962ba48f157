//! Keep-alives, which take too long to wait for over a socket.

use tokio::sync::Semaphore;

use super::*;
use crate::http::auth::Caller;
use crate::http::event_stream::start_point::StartPoint;
use crate::http::tests::test_api::ApiTestRoom;
use crate::http::tests::test_client::soon;

async fn reader(stage: &ApiTestRoom, filter: EventFilter, format: StreamFormat) -> StreamReader {
    let room = Arc::new(stage.api_room());
    let place = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("a place");
    let opening = StartPoint::Now.open(&room.store).await.map_err(|_| "refused").expect("opens");
    let connection = CallerConnection::new(Caller::SameUser, CancellationToken::new());
    let mut reader = StreamReader::new(room, opening, filter, format, &connection, place);
    reader.keep_alive = Duration::from_millis(10);
    reader
}

async fn chunk(reader: &mut StreamReader) -> String {
    let chunk = soon(reader.next_chunk()).await.expect("the stream goes on");
    String::from_utf8(chunk.to_vec()).expect("text")
}

#[tokio::test]
async fn idle_stream_sends_a_comment_or_an_empty_line() {
    let stage = ApiTestRoom::new().await;
    let mut sse = reader(&stage, EventFilter::default(), StreamFormat::Sse).await;
    assert!(chunk(&mut sse).await.starts_with("id: "));
    assert_eq!(chunk(&mut sse).await, ": keep-alive\n\n");
    let mut lines = reader(&stage, EventFilter::default(), StreamFormat::Lines).await;
    assert_eq!(chunk(&mut lines).await, "\n");
}

#[tokio::test]
async fn keep_alive_reports_the_cursor_when_all_events_are_filtered() {
    let mut stage = ApiTestRoom::new().await;
    let mut sse = reader(&stage, EventFilter::only("knock"), StreamFormat::Sse).await;
    let begin = chunk(&mut sse).await;
    stage.bob_says(&["a", "b"]).await;
    let now = stage.store.cursor(stage.store.cursor_now());
    // Comments may come first, while nothing has been passed over yet.
    let place = loop {
        let sign = chunk(&mut sse).await;
        if sign != ": keep-alive\n\n" {
            break sign;
        }
    };
    assert_eq!(place, format!("id: {now}\n\n"));
    assert_ne!(place, begin);
    assert_eq!(chunk(&mut sse).await, ": keep-alive\n\n");
}

#[tokio::test]
async fn events_that_arrive_together_leave_in_one_chunk() {
    let mut stage = ApiTestRoom::new().await;
    let mut sse = reader(&stage, EventFilter::default(), StreamFormat::Sse).await;
    chunk(&mut sse).await;
    stage.bob_says(&["a", "b", "c"]).await;
    let text = chunk(&mut sse).await;
    assert_eq!(text.matches("event: message\n").count(), 3, "{text}");
}
