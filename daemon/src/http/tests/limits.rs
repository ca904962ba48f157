//! Bodies, media types, query parameters and connections within their bounds.

use chat_proto::api::members::RoomList;
use chat_proto::error::ErrorCode;
use serde_json::json;

use crate::http::extract::BODY_BYTES_MAX;
use crate::http::tests::test_api::{TOKEN, TestApi};
use crate::http::tests::test_client::{TestRequest, raw};

#[tokio::test]
async fn body_that_is_not_json_is_rejected() {
    let running = TestApi::start().await;
    let join = || TestRequest::new("POST", "/v1/join").body(r#"{"target":"192.0.2.7"}"#);
    for good in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
        assert_eq!(join().header("content-type", good).send(&running.tcp).await.status, 200, "{good}");
    }
    for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/problem+json", ""]
    {
        for at in [&running.unix, &running.tcp] {
            let answer = join().header("content-type", bad).send(at).await;
            assert_eq!(answer.problem().code, ErrorCode::UnsupportedMediaType, "{bad}");
        }
    }
    assert_eq!(join().send(&running.unix).await.problem().code, ErrorCode::UnsupportedMediaType);
    for (body, word) in [
        ("{", "is not JSON"),
        ("", "requires a JSON body"),
        ("[]", "does not fit this call"),
        (r#"{"target":7}"#, "expected a string"),
        (r#"{"name":"x"}"#, "missing field `target`"),
        (r#"{"target":"a","tarket":"b"}"#, "unknown field `tarket`"),
        (r#"{"target":"a","target":"b"}"#, "duplicate field"),
        (r#"{"target":"a"} x"#, "is not JSON"),
    ] {
        let ask = TestRequest::new("POST", "/v1/join").header("content-type", "application/json").body(body);
        let problem = ask.send(&running.unix).await.problem();
        assert_eq!(problem.code, ErrorCode::BadRequest, "{body}");
        assert!(problem.detail.contains(word), "{body}: {}", problem.detail);
    }
}

#[tokio::test]
async fn body_over_the_maximum_size_is_rejected() {
    let running = TestApi::start().await;
    let padded = |bytes: usize| {
        let body = json!({"target": "192.0.2.7"}).to_string();
        body.clone() + &" ".repeat(bytes - body.len())
    };
    let ask = |body| TestRequest::new("POST", "/v1/join").header("content-type", "application/json").body(body);
    assert_eq!(ask(padded(BODY_BYTES_MAX)).send(&running.unix).await.status, 200);
    let problem = ask(padded(BODY_BYTES_MAX + 1)).send(&running.unix).await.problem();
    assert_eq!(problem.code, ErrorCode::TooLong);
    let head = "POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let chunked = format!("{head}Connection: close\r\n\r\n{}0\r\n\r\n", chunk.repeat(BODY_BYTES_MAX / 0x1000 + 1));
    let answer = raw(&running.unix, chunked.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
    let cut = format!("{head}\r\n1000\r\n{{");
    let answer = raw(&running.unix, cut.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn head_over_the_maximum_size_is_rejected() {
    let running = TestApi::start().await;
    let long = format!("GET /v1/rooms HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024));
    let answer = raw(&running.unix, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(TestRequest::get("/healthz").send(&running.unix).await.status, 200);
}

#[tokio::test]
async fn query_parameter_unknown_or_repeated_is_rejected() {
    let running = TestApi::start().await;
    for (path, detail) in [
        ("/v1/rooms?x=1", "unknown query parameter 'x'"),
        ("/v1/rooms?", ""),
        ("/v1/status?verbose", "unknown query parameter 'verbose'"),
        ("/v1/messages?limit=1&limt=2", "unknown query parameter 'limt'"),
        ("/v1/messages?limit=1&limit=1", "query parameter 'limit' given more than once"),
        ("/v1/messages?%FF=1", "unknown query parameter '\u{FFFD}'"),
        ("/v1/events?from=a%0Ab&froom=c", "unknown query parameter 'froom'"),
    ] {
        let answer = TestRequest::get(path).send(&running.unix).await;
        if detail.is_empty() {
            assert_eq!(answer.json::<RoomList>().rooms.len(), 1);
        } else {
            let problem = answer.problem();
            assert_eq!((problem.code, problem.detail.as_str()), (ErrorCode::BadRequest, detail), "{path}");
            let hint = problem.hint.expect("says what to do");
            assert!(
                hint.starts_with("this call has no")
                    || hint.starts_with("its query parameters are")
                    || hint == "give it once",
                "{hint}"
            );
        }
    }
}

#[tokio::test]
async fn connection_serves_many_requests() {
    let running = TestApi::start().await;
    let one = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", running.addr);
    let last = format!(
        "GET /v1/rooms HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n",
        running.addr
    );
    let answer = raw(&running.tcp, (one.repeat(20) + &last).as_bytes()).await;
    let text = String::from_utf8(answer).expect("text");
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 21, "{text}");
    assert_eq!(text.matches("cache-control: no-store").count(), 21);
}
