//! Problem documents, word for word: scripts and people rely on them.

use chat_core::admission::codec::DenyReason;
use chat_core::output::CommandError;
use chat_proto::error::{ErrorCode, Problem};
use serde_json::json;

use crate::http::daemon_control::MoveError;
use crate::http::problem::Refusal;
use crate::http::tests::test_api::{TOKEN, TestApi};
use crate::http::tests::test_client::{Endpoint, TestRequest};
use crate::net::JoinError;

#[tokio::test]
async fn problem_documents_match_their_golden_text() {
    let running = TestApi::start().await;
    let answer = TestRequest::get("/v1/nothing").send(&running.unix).await;
    assert_eq!(answer.status, 404);
    let golden = r#"{"type":"about:blank","title":"Not Found","status":404,"code":"not_found","detail":"there is no call /v1/nothing","hint":"GET /v1/openapi.json describes every call"}"#;
    assert_eq!(answer.text(), golden);
    let answer = TestRequest::get("/v1/status").send(&Endpoint::Tcp(running.addr, Some("wrong".into()))).await;
    let golden = r#"{"type":"about:blank","title":"Unauthorized","status":401,"code":"unauthorized","detail":"the token is wrong","hint":"send 'Authorization: Bearer TOKEN'; 'chatd env' prints the token, or use the Unix socket"}"#;
    assert_eq!(answer.text(), golden);
    assert!(!golden.contains(TOKEN));
}

#[tokio::test]
async fn rejected_requests_name_the_cause() {
    let running = TestApi::start().await;
    let asks = [
        (TestRequest::get("/v1/status"), 503, "this daemon waits to be admitted to a room"),
        (TestRequest::get("/v1/peers"), 503, "this daemon waits to be admitted to a room"),
        (TestRequest::get("/v1/events"), 503, "this daemon waits to be admitted to a room"),
        (TestRequest::new("DELETE", "/v1/rooms"), 405, "/v1/rooms does not support the method DELETE"),
        (TestRequest::get("/v1/name"), 405, "/v1/name does not support the method GET"),
        (TestRequest::new("BREW", "/v1/name"), 405, "/v1/name does not support the method BREW"),
        (TestRequest::get("/"), 404, "there is no call /"),
        (TestRequest::get("/v1/messages/"), 404, "there is no call /v1/messages/"),
        (TestRequest::get("/v1/messages/%FF"), 400, "the path is not percent-encoded UTF-8"),
        (
            TestRequest::get("/v1/messages/7"),
            400,
            "'7' is not a message id: expected 64 hexadecimal digits, a dot and a number",
        ),
        (TestRequest::post("/v1/knocks/x", &json!({"admit": true})), 400, "'x' is not a knock id: expected a number"),
        (
            TestRequest::post("/v1/join", &json!({"target": "a b"})),
            400,
            "'a b' is neither a ticket nor an address: give the line from 'chat invite', HOST, HOST:PORT, or the name of a room that 'chat rooms' lists",
        ),
        (
            TestRequest::post("/v1/join", &json!({"target": "chat1 aa"})),
            400,
            "the ticket is incomplete or mistyped: copy the whole line again",
        ),
        (TestRequest::post("/v1/join", &json!({"target": "a", "name": "a b"})), 400, ""),
        (TestRequest::new("PUT", "/v1/name").json(&json!({"name": ""})), 400, "the name is empty"),
        (TestRequest::new("PUT", "/v1/name").json(&json!({"name": "x".repeat(33)})), 413, ""),
    ];
    for (ask, status, detail) in asks {
        let shown = format!("{ask:?}");
        let problem = ask.send(&running.unix).await.problem();
        assert_eq!(problem.status, status, "{shown}");
        assert!(detail.is_empty() || problem.detail == detail, "{shown}: {}", problem.detail);
    }
    let answer = TestRequest::new("DELETE", "/v1/messages").send(&running.unix).await;
    assert_eq!(answer.problem().code, ErrorCode::MethodNotAllowed);
    let mut allowed: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn body_that_is_no_object_or_has_a_null_is_rejected() {
    let (running, stage) = TestApi::with_room().await;
    for (method, path, body, detail) in [
        ("POST", "/v1/messages", r#"["hi"]"#, "invalid type: sequence, expected an object"),
        ("POST", "/v1/messages", r#"["hi",[],"stored",null,null]"#, "invalid type: sequence"),
        ("POST", "/v1/messages", r#"{"text":"hi","copies":null}"#, "'copies' is null: leave it out"),
        ("POST", "/v1/messages", r#"{"text":"hi","to":["bob"],"timeout_ms":null}"#, "'timeout_ms' is null"),
        ("POST", "/v1/messages", r#"{"text":"hi","text":"ho"}"#, "duplicate field `text`"),
        ("POST", "/v1/messages", r#"{"text":"hi"}{}"#, "trailing characters"),
        ("POST", "/v1/messages", "null", "invalid type: null, expected an object"),
        ("PUT", "/v1/name", r#"["zed"]"#, "expected an object"),
        ("POST", "/v1/invites", "[null,null]", "expected an object"),
        ("POST", "/v1/invites", r#"{"uses":null}"#, "'uses' is null"),
        ("POST", "/v1/join", r#"{"target":"192.0.2.7","name":null}"#, "'name' is null"),
    ] {
        let ask = TestRequest::new(method, path).header("content-type", "application/json").body(body);
        let problem = ask.send(&running.unix).await.problem();
        assert_eq!((problem.status, problem.code), (400, ErrorCode::BadRequest), "{body}");
        assert!(problem.detail.contains(detail), "{body}: {}", problem.detail);
    }
    assert!(stage.script.given().is_empty(), "the room was not asked");
}

#[tokio::test]
async fn failed_join_reports_its_cause() {
    let running = TestApi::start().await;
    let tried = || "192.0.2.7:24283".to_owned();
    for (failure, code) in [
        (MoveError::AlreadyInRoom, ErrorCode::AlreadyInRoom),
        (MoveError::Moving, ErrorCode::Busy),
        (MoveError::Room(CommandError::Stopping), ErrorCode::ShuttingDown),
        (MoveError::Join(JoinError::Unreachable { tried: tried() }), ErrorCode::Unreachable),
        (MoveError::Join(JoinError::Denied(DenyReason::Expired)), ErrorCode::BadTicket),
        (MoveError::Join(JoinError::Denied(DenyReason::Refused)), ErrorCode::Denied),
        (MoveError::Join(JoinError::Denied(DenyReason::Busy)), ErrorCode::Busy),
        (MoveError::Join(JoinError::Itself { tried: tried() }), ErrorCode::BadRequest),
        (MoveError::Join(JoinError::Stopping), ErrorCode::ShuttingDown),
        (MoveError::Failed("a secret of the inside".into()), ErrorCode::Internal),
    ] {
        *running.around.join_fails.lock().expect("no panic before") = Some(failure);
        let answer = TestRequest::post("/v1/join", &json!({"target": "192.0.2.7"})).send(&running.unix).await;
        let problem = answer.problem();
        assert_eq!(problem.code, code);
        assert!(problem.hint.is_some());
        assert!(!answer.text().contains("secret"), "{}", answer.text());
        let later = matches!(code, ErrorCode::Busy | ErrorCode::ShuttingDown);
        assert_eq!(answer.header("retry-after") == "1", later, "{code:?}");
    }
}

#[test]
fn command_errors_keep_their_code() {
    for error in [
        CommandError::NotMember,
        CommandError::NotAdmin,
        CommandError::NotThisDoor,
        CommandError::RanksAbove("ann".into()),
        CommandError::Removed,
        CommandError::UnknownInvite,
        CommandError::UnknownKnock,
        CommandError::TooLong,
        CommandError::Busy,
        CommandError::DiskFull,
        CommandError::StoreFailed,
        CommandError::Stopping,
    ] {
        let refusal = Refusal::from(error.clone());
        assert_eq!(refusal.problem().code, error.code());
        assert!(refusal.problem().hint.is_some(), "{error}");
    }
}

#[test]
fn failed_write_is_answered_with_an_unknown_outcome_and_the_safe_retry() {
    let refusal = Refusal::from(CommandError::StoreFailed);
    let Problem { status, code, hint, .. } = refusal.problem();
    assert_eq!((*status, *code), (500, ErrorCode::OutcomeUnknown));
    assert!(hint.as_ref().is_some_and(|hint| hint.contains("same Idempotency-Key")), "{hint:?}");
}

#[test]
fn detail_quotes_input_in_one_safe_line() {
    let refusal = Refusal::bad(format!("'{}\x1b[2J\u{202E}\n'", "x".repeat(1000))).hint("a\nb");
    let Problem { detail, hint, .. } = refusal.problem();
    assert!(detail.chars().count() <= 401 && !detail.contains(['\x1b', '\n', '\u{202E}']), "{detail}");
    assert_eq!(hint.as_deref(), Some("a b"));
}
