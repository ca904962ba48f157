//! Event streams: begun anywhere, cut anywhere, resumed exactly, none missed and none twice.

use chat_proto::cursor::Cursor;
use chat_proto::error::ErrorCode;
use chat_proto::event::{Event, KnockState};
use chat_proto::id::KnockId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::http::api_state::{NoRoom, READERS_MAX};
use crate::http::tests::test_api::{ApiTestRoom, TestApi};
use crate::http::tests::test_client::{Endpoint, TestRequest, TestStream, soon};

fn events(query: &str) -> TestRequest {
    TestRequest::get(format!("/v1/events{query}"))
}

fn here(stage: &ApiTestRoom) -> Cursor {
    stage.store.cursor(stage.store.cursor_now())
}

fn knock(n: u64) -> Event {
    Event::Knock { knock: KnockId(n), name: "eve".into(), words: "a-b-c".into(), state: KnockState::Waiting }
}

#[tokio::test]
async fn first_block_is_the_cursor_and_the_others_are_events() {
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["before"]).await;
    let begin = here(&stage);
    let mut stream = TestStream::open(&running.tcp, events("")).await;
    let first = stream.block().await;
    assert_eq!((first.id, first.event, first.data), (Some(begin.to_string()), None, None));
    stage.bob_says(&["hello"]).await;
    let block = stream.block().await;
    assert_eq!(block.id, Some(here(&stage).to_string()));
    assert_eq!(block.event.as_deref(), Some("message"));
    let json = block.json();
    assert_eq!((&json["cursor"], &json["type"]), (&Value::from(here(&stage).to_string()), &Value::from("message")));
    assert_eq!((&json["message"]["text"], &json["message"]["from"]["name"]), (&"hello".into(), &"bob".into()));
}

#[tokio::test]
async fn lines_have_the_same_events_as_sse() {
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["one", "two"]).await;
    let ask = events("?since=all&type=message").header("accept", "application/x-ndjson");
    let mut lines = TestStream::open(&running.unix, ask).await;
    let mut blocks = TestStream::open(&running.unix, events("?since=all&type=message")).await;
    for text in ["one", "two"] {
        let line = lines.piece().await.expect("a line");
        let block = blocks.event().await;
        assert_eq!(Some(line.as_str()), block.data.as_deref());
        assert_eq!(block.json()["message"]["text"], text);
    }
    stage.bob_says(&["three"]).await;
    let (line, block) = (lines.piece().await, blocks.event().await);
    assert_eq!(line, block.data, "live ones, too");
}

#[tokio::test]
async fn stream_starts_at_the_requested_point() {
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["one"]).await;
    let after_one = here(&stage);
    stage.bob_says(&["two", "three"]).await;
    let read = async |ask: TestRequest, count| TestStream::open(&running.unix, ask).await.texts(count).await;
    assert_eq!(read(events("?since=all"), 3).await, ["one", "two", "three"]);
    assert_eq!(read(events("?since=1h"), 3).await, ["one", "two", "three"]);
    assert_eq!(read(events("?since=2020-01-01T00:00:00Z"), 3).await, ["one", "two", "three"]);
    assert_eq!(read(events(&format!("?since={after_one}")), 2).await, ["two", "three"]);
    let wins = events("?since=all").header("last-event-id", after_one.to_string());
    assert_eq!(read(wins, 2).await, ["two", "three"]);
    let empty = events("?since=all").header("last-event-id", "");
    assert_eq!(read(empty, 3).await, ["one", "two", "three"]);
    let future = events("?since=2100-01-01T00:00:00Z");
    assert_eq!(TestStream::open(&running.unix, future).await.block().await.id, Some(here(&stage).to_string()));
    for bad in [events("?since=soon"), events("?since="), events("").header("last-event-id", "7")] {
        assert_eq!(bad.send(&running.unix).await.problem().code, ErrorCode::BadRequest);
    }
}

#[tokio::test]
async fn filters_select_by_type_and_member() {
    let (running, mut stage) = TestApi::with_room().await;
    let mut knocks = TestStream::open(&running.unix, events("?since=all&type=knock,rendezvous")).await;
    let mut bobs = TestStream::open(&running.unix, events("?from=bob&since=all")).await;
    let mut anns = TestStream::open(&running.unix, events("?from=ann&type=message&since=all")).await;
    stage.publish(knock(1)).await;
    stage.bob_says(&["from bob"]).await;
    stage.publish(knock(2)).await;
    let sent = TestRequest::post("/v1/messages", &serde_json::json!({"text": "from ann"})).send(&running.unix).await;
    assert_eq!(sent.status, 201);
    assert_eq!(knocks.event().await.json()["knock"], 1);
    assert_eq!(knocks.event().await.json()["knock"], 2);
    assert_eq!(bobs.texts(1).await, ["from bob"]);
    assert_eq!(anns.texts(1).await, ["from ann"]);
    for (bad, code) in [
        ("?type=mesage", ErrorCode::BadRequest),
        ("?type=message,", ErrorCode::BadRequest),
        ("?from=nobody", ErrorCode::UnknownMember),
    ] {
        assert_eq!(events(bad).send(&running.unix).await.problem().code, code, "{bad}");
    }
}

#[tokio::test]
async fn cursor_of_another_database_leads_to_a_gap() {
    let (running, mut stage) = TestApi::with_room().await;
    for word in ["replaced", "rolled back"] {
        stage.bob_says(&["before"]).await;
        let now = here(&stage);
        let cursor = match word {
            "rolled back" => Cursor { event: now.event + 1000, ..now },
            _ => Cursor { run: now.run ^ 1, event: 1 },
        };
        let mut stream = TestStream::open(&running.unix, events(&format!("?since={cursor}&type=message"))).await;
        assert_eq!(stream.block().await.id, Some(cursor.to_string()), "cut here, it would hear of the gap again");
        let gap = stream.event().await;
        assert_eq!((gap.event.as_deref(), gap.id.clone()), (Some("gap"), Some(now.to_string())));
        assert!(gap.json()["reason"].as_str().expect("a reason").contains(word), "{}", gap.json());
        stage.bob_says(&[word]).await;
        assert_eq!(stream.texts(1).await, [word], "and goes on from now");
    }
}

#[tokio::test]
async fn pruned_events_lead_to_a_gap_unless_the_stream_starts_at_all() {
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["one"]).await;
    let after_one = here(&stage);
    stage.publish(knock(1)).await;
    stage.bob_says(&["two"]).await;
    stage.publish(knock(2)).await;
    let after_knocks = here(&stage);
    stage.bob_says(&["three"]).await;
    stage.forget(after_knocks.event);
    let mut resumed = TestStream::open(&running.unix, events(&format!("?since={after_one}"))).await;
    assert_eq!(resumed.event().await.json()["reason"], "older events are no longer kept");
    assert_eq!(resumed.texts(2).await, ["two", "three"]);
    let mut all = TestStream::open(&running.unix, events("?since=all")).await;
    for text in ["one", "two", "three"] {
        assert_eq!(all.event().await.json()["message"]["text"], text);
    }
    let mut later = TestStream::open(&running.unix, events(&format!("?since={after_knocks}"))).await;
    assert_eq!(later.event().await.json()["message"]["text"], "three");
}

#[tokio::test]
async fn slow_reader_misses_no_event() {
    const BURSTS: usize = 60;
    let (running, mut stage) = TestApi::with_room().await;
    let mut slow = TestStream::open(&running.tcp, events("?type=message")).await;
    slow.block().await;
    // Its connection holds far less than this, and so does one page.
    let filling = "x".repeat(1000);
    let mut expected = Vec::new();
    for burst in 0..BURSTS {
        let texts: Vec<String> = (0..50).map(|n| format!("{burst}-{n} {filling}")).collect();
        stage.bob_says(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
        expected.extend(texts);
    }
    assert_eq!(slow.texts(expected.len()).await, expected);
}

#[tokio::test]
async fn streams_end_on_shutdown_and_when_the_room_is_left() {
    let (running, stage) = TestApi::with_room().await;
    let mut left = TestStream::open(&running.unix, events("")).await;
    left.block().await;
    running.slot.remove(NoRoom::Starting);
    assert_eq!(left.piece().await, None);
    running.enter(&stage);
    let mut ended = TestStream::open(&running.unix, events("")).await;
    ended.block().await;
    running.ending.cancel();
    assert_eq!(ended.piece().await, None);
    soon(running.task).await.expect("the server ends without panic");
}

#[tokio::test]
async fn head_request_of_a_stream_ends() {
    let (running, _stage) = TestApi::with_room().await;
    let answer = TestRequest::new("HEAD", "/v1/events").send(&running.unix).await;
    assert_eq!((answer.status, answer.text(), answer.header("content-type")), (200, "", "text/event-stream"));
}

#[tokio::test]
async fn readers_over_the_maximum_are_rejected_until_one_ends() {
    let (running, _stage) = TestApi::with_room().await;
    let mut open = Vec::new();
    for _ in 0..READERS_MAX {
        open.push(TestStream::open(&running.unix, events("")).await);
    }
    let refused = events("").send(&running.unix).await;
    assert_eq!(refused.problem().code, ErrorCode::Busy);
    assert_eq!(TestRequest::get("/v1/rooms").send(&running.unix).await.status, 200, "calls are still answered");
    open.pop();
    soon(async {
        while events("").open(&running.unix).await.status() != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A reader that is cut now and then.
#[derive(Clone, Debug)]
struct Cuts {
    /// After how many blocks each connection is cut.
    blocks: Vec<usize>,
    /// How many messages are written before each connection.
    bursts: Vec<usize>,
    lines: bool,
}

fn cuts() -> impl Strategy<Value = Cuts> {
    let blocks = proptest::collection::vec(0..12usize, 1..8);
    let bursts = proptest::collection::vec(0..10usize, 8);
    (blocks, bursts, any::<bool>()).prop_map(|(blocks, bursts, lines)| Cuts { blocks, bursts, lines })
}

/// Reads with interruptions and tells which texts came, in which order.
async fn read_in_pieces(cuts: &Cuts) -> (Vec<String>, Vec<String>) {
    let (mut running, mut stage) = TestApi::with_room().await;
    let mut cursor = here(&stage).to_string();
    let (mut written, mut seen) = (Vec::new(), Vec::new());
    for (burst, blocks) in cuts.bursts.iter().zip(cuts.blocks.iter().chain(std::iter::repeat(&usize::MAX))) {
        let texts: Vec<String> = (0..*burst).map(|n| format!("{}", written.len() + n)).collect();
        stage.bob_says(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
        written.extend(texts);
        if *blocks == 3 {
            running = running.restart(&stage).await;
        }
        let wanted = (*blocks).min(written.len() - seen.len());
        read_some(&running.unix, cuts.lines, wanted, &mut cursor, &mut seen).await;
    }
    let rest = written.len() - seen.len();
    read_some(&running.unix, cuts.lines, rest, &mut cursor, &mut seen).await;
    (written, seen)
}

async fn read_some(at: &Endpoint, lines: bool, count: usize, cursor: &mut String, seen: &mut Vec<String>) {
    let ask = events("").header("last-event-id", cursor.as_str());
    let ask = if lines { ask.header("accept", "application/x-ndjson") } else { ask };
    let mut stream = TestStream::open(at, ask).await;
    for _ in 0..count {
        let json: Value = if lines {
            serde_json::from_str(&stream.piece().await.expect("a line")).expect("JSON")
        } else {
            stream.event().await.json()
        };
        assert_eq!(json["type"], "message", "{json}");
        *cursor = json["cursor"].as_str().expect("a cursor").to_owned();
        seen.push(json["message"]["text"].as_str().expect("a text").to_owned());
    }
}

#[test]
fn stream_cut_anywhere_and_resumed_is_complete() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let result = runner.run(&cuts(), |cuts| {
        let (written, seen) = runtime.block_on(read_in_pieces(&cuts));
        prop_assert_eq!(written, seen);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_cut_repeatedly_under_load_is_complete() {
    let (running, mut stage) = TestApi::with_room().await;
    let mut cursor = here(&stage).to_string();
    let expected: Vec<String> = (0..1500).map(|n| n.to_string()).collect();
    let flood = tokio::spawn({
        let texts = expected.clone();
        async move {
            for burst in texts.chunks(7) {
                stage.bob_says(&burst.iter().map(String::as_str).collect::<Vec<_>>()).await;
            }
            stage
        }
    });
    let mut seen = Vec::new();
    for count in [1, 30, 2, 0, 17, 100, 5].into_iter().cycle() {
        let left = expected.len() - seen.len();
        if left == 0 {
            break;
        }
        read_some(&running.tcp, seen.len().is_multiple_of(2), count.min(left), &mut cursor, &mut seen).await;
    }
    assert_eq!(seen, expected);
    soon(flood).await.expect("no panic");
}

#[tokio::test]
async fn many_readers_under_load_receive_all_events_in_order() {
    let (running, mut stage) = TestApi::with_room().await;
    let mut readers = Vec::new();
    for n in 0..8 {
        let at = if n % 2 == 0 { running.unix.clone() } else { running.tcp.clone() };
        let mut stream = TestStream::open(&at, events("?type=message")).await;
        stream.block().await;
        readers.push(tokio::spawn(async move { stream.texts(1000).await }));
    }
    let expected: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    for burst in expected.chunks(25) {
        stage.bob_says(&burst.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    for reader in readers {
        assert_eq!(soon(reader).await.expect("no panic"), expected);
    }
}
