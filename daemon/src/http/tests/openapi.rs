//! The OpenAPI document is complete and correct: it describes every route, and every answer fits its schema.

use std::collections::BTreeSet;

use chat_proto::api::peers::{MemberLink, MemberRole, PathView, PeerView, RoleView};
use chat_proto::api::rendezvous::{ChangeReason, HolderChange, RankedPeer};
use chat_proto::cursor::Cursor;
use chat_proto::event::{Event, EventEnvelope, KnockState, MembershipAction, MembershipChange};
use chat_proto::id::{EntryHash, KnockId, MessageId, Term};
use chat_proto::time::Timestamp;
use serde_json::{Value, json};

use crate::http::calls::openapi::document;
use crate::http::calls::{CALLS, ParameterIn, RequestBody, ResponseBody};
use crate::http::routes::routes;
use crate::http::tests::test_api::{ANN, ApiTestRoom, BOB, TestApi, peer};
use crate::http::tests::test_client::TestRequest;

fn paths() -> BTreeSet<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// Validates a value against a schema of the document.
fn assert_fits(schema: &str, value: &Value) {
    let mut root = document();
    root["$ref"] = format!("#/components/schemas/{schema}").into();
    let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
    let validator = options.build(&root).expect("the document's schemas are valid");
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{schema}: {errors:?}: {value}");
}

#[test]
fn document_describes_exactly_the_routes() {
    let described: BTreeSet<&str> = CALLS.iter().map(|call| call.path).collect();
    assert_eq!(described, paths());
    let document = document();
    for call in CALLS {
        let operation = &document["paths"][call.path][call.method.as_str().to_ascii_lowercase()];
        assert!(operation["responses"].is_object(), "{} {}", call.method.as_str(), call.path);
        let segments = call.path.matches('{').count();
        let named = call.parameters.iter().filter(|parameter| parameter.place == ParameterIn::Path).count();
        assert_eq!(segments, named, "{}", call.path);
    }
    let ids: Vec<&Value> = document["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|path| path.as_object().expect("operations").values())
        .map(|operation| &operation["operationId"])
        .collect();
    assert_eq!(ids.len(), ids.iter().map(|id| id.as_str()).collect::<BTreeSet<_>>().len(), "ids are unique: {ids:?}");
}

#[tokio::test]
async fn methods_not_in_the_document_are_rejected() {
    let (running, _stage) = TestApi::with_room().await;
    for path in paths() {
        let concrete = path.replace("{id}", "0");
        let described: BTreeSet<&str> =
            CALLS.iter().filter(|call| call.path == path).map(|call| call.method.as_str()).collect();
        let mut answered = BTreeSet::new();
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let answer = TestRequest::new(method, concrete.as_str()).open(&running.unix).await;
            if answer.status() != 405 {
                answered.insert(method);
            }
        }
        assert_eq!(answered, described, "{path}");
    }
}

#[test]
fn schema_references_resolve_and_every_schema_is_used() {
    let document = document();
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for name in schemas.keys() {
        assert!(text.contains(&format!("\"#/components/schemas/{name}\"")), "{name} is unused");
    }
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap_or_default();
        assert!(schemas.contains_key(name), "there is no schema {name}");
    }
}

#[tokio::test]
async fn answers_of_every_call_fit_their_schema() {
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["hello"]).await;
    stage.script.hold(vec![peer(BOB)]);
    let sent = TestRequest::post("/v1/messages", &json!({"text": "x", "to": ["bob"]})).send(&running.unix).await;
    let id = sent.json::<Value>()["message"]["id"].as_str().expect("an id").to_owned();
    for call in CALLS {
        let [answer, ..] = call.answers else { panic!("{} has no answer", call.path) };
        let (ResponseBody::Json(answer_type) | ResponseBody::JsonOrLines(answer_type, _)) = answer.body else {
            continue;
        };
        let id = match call.path {
            "/v1/members/{id}" | "/v1/members/{id}/trust" | "/v1/readers/{id}" => "bob",
            "/v1/tokens/{id}/rotate" => "default",
            _ => id.as_str(),
        };
        let link = TestRequest::new("POST", "/v1/web/links").send(&running.unix).await.json::<Value>();
        let code = link["url"].as_str().and_then(|url| url.split('#').nth(1)).expect("a code");
        let mut ask = TestRequest::new(call.method.as_str(), call.path.replace("{id}", id));
        if let RequestBody::Required(request) | RequestBody::RequiredOrLines(request) | RequestBody::Optional(request) =
            call.request
        {
            let name = (request.name)();
            let body = match name.as_ref() {
                "SendRequest" => json!({"text": "hello", "wait": "replicated", "copies": 1}),
                "JoinRequest" => json!({"target": "192.0.2.7", "name": "ann"}),
                "TokenRequest" => json!({"name": "bot", "scope": "send"}),
                "InviteRequest" => json!({"uses": 1, "expires_ms": 1000}),
                "WebSessionRequest" => json!({"code": code}),
                other => panic!("{other} has no example"),
            };
            assert_fits(&name, &body);
            ask = ask.json(&body);
        }
        let answer = ask.send(&running.unix).await;
        let described: Vec<u16> = call.answers.iter().map(|answer| answer.status).collect();
        assert!(described.contains(&answer.status), "{} {}: {}", call.path, answer.status, answer.text());
        assert_fits(&(answer_type.name)(), &answer.json());
    }
    let problem = TestRequest::get("/v1/messages?limit=0").send(&running.unix).await;
    assert_fits("Problem", &serde_json::from_slice(&problem.body).expect("JSON"));
    let served: Value = TestRequest::get("/v1/openapi.json").send(&running.unix).await.json();
    assert_eq!(served, document());
}

#[tokio::test]
async fn calls_without_an_answer_body_send_none() {
    let (running, _stage): (TestApi, ApiTestRoom) = TestApi::with_room().await;
    for (ask, status) in [
        (TestRequest::new("PUT", "/v1/name").json(&json!({"name": "anna"})), 204),
        (TestRequest::new("POST", "/v1/members/bob/remove"), 204),
        (TestRequest::new("PUT", "/v1/members/bob/role").json(&json!({"role": "admin"})), 204),
        (TestRequest::new("POST", "/v1/leave"), 204),
        (TestRequest::new("POST", "/v1/shutdown"), 202),
    ] {
        let answer = ask.send(&running.unix).await;
        assert_eq!((answer.status, answer.text()), (status, ""));
    }
    assert_eq!(TestRequest::new("DELETE", "/v1/invites/abcd").send(&running.unix).await.status, 404);
    assert_eq!(TestRequest::post("/v1/knocks/7", &json!({"admit": true})).send(&running.unix).await.status, 404);
}

#[test]
fn connections_between_others_fit_their_schema() {
    let link = MemberLink { from: peer(ANN), to: peer(ANN), direct: true, rtt_ms: 0.5 };
    assert_fits("MemberLink", &serde_json::to_value(link).expect("serialises"));
}

#[test]
fn events_of_every_type_fit_their_schema() {
    let who = || chat_proto::api::peers::PeerRef { id: peer(ANN), name: "ann".into(), tag: peer(ANN).tag() };
    let time = Timestamp::from_ms(1_790_000_000_000);
    let message = MessageId { entry: EntryHash::from_bytes([5; 32]), index: 3 };
    let change = || HolderChange {
        term: Term(4),
        from: None,
        to: who(),
        at: time,
        reason: ChangeReason::BetterConnected,
        gap_ms: 7,
    };
    let view = PeerView {
        peer: who(),
        me: false,
        online: true,
        path: PathView::Relayed,
        rtt_ms: Some(0.5),
        last_seen: Some(time),
        role: RoleView::Standby,
        rank: Some(1),
        member: MemberRole::Admin,
        clock_off_ms: Some(-20_000),
        let_in_by: Some(who()),
        used: None,
        safety_words: None,
    };
    let said = chat_proto::api::messages::Message {
        id: message,
        time,
        from: who(),
        to: vec![who()],
        reply_to: Some(message),
        quote: Some(chat_proto::api::messages::Quote { from: who(), text: "?".into() }),
        text: "x".into(),
        dropped: true,
        clock_off_ms: Some(3_600_000),
    };
    let (action, was) = (MembershipAction::Renamed, Some("old".into()));
    let renamed = MembershipChange { action, peer: who(), by: who(), was };
    let events = [
        Event::Message { message: said },
        Event::Peer { peer: view },
        Event::Membership { change: renamed },
        Event::Rendezvous { change: change() },
        Event::Delivery { message, copies: 1, delivered: vec![who()] },
        Event::Knock { knock: KnockId(1), name: "eve".into(), words: "a-b-c".into(), state: KnockState::Waiting },
        Event::Fork { peer: who() },
        Event::Gap { reason: "x".into() },
    ];
    for event in events {
        let envelope = EventEnvelope { cursor: Cursor { run: 1, event: 2 }, at: time, event };
        assert_fits("EventEnvelope", &serde_json::to_value(&envelope).expect("serialises"));
    }
    let ranked = RankedPeer {
        peer: who(),
        rank: 1,
        score: 0.5,
        reach: 1.0,
        inbound: None,
        rtt_ms: None,
        loss: 0.0,
        steady: 1.0,
        reports: 3,
        why: "reach".into(),
    };
    assert_fits("RankedPeer", &serde_json::to_value(&ranked).expect("serialises"));
    assert_fits("HolderChange", &serde_json::to_value(change()).expect("serialises"));
}

#[test]
fn requests_outside_of_their_schema_are_rejected_by_it() {
    let document = document();
    let fits = |schema: &str, value: &Value| {
        let mut root = document.clone();
        root["$ref"] = format!("#/components/schemas/{schema}").into();
        jsonschema::validator_for(&root).expect("valid").is_valid(value)
    };
    assert!(fits("SendRequest", &json!({"text": "x"})));
    for bad in [
        json!({}),
        json!({"text": ""}),
        json!({"text": "x", "colour": "red"}),
        json!({"text": "x", "copies": 0}),
        json!({"text": "x", "copies": null}),
        json!(["x"]),
        json!({"text": "x", "wait": "read"}),
        json!({"text": "x", "timeout_ms": 3_600_001}),
    ] {
        assert!(!fits("SendRequest", &bad), "{bad}");
    }
    assert!(fits("ErrorCode", &json!("code_of_a_newer_daemon")));
    assert!(!fits("MessageId", &json!("7")));
}
