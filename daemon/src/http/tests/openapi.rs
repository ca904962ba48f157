//! The OpenAPI document is complete and true: every route stands in it, every call in it answers as it says.

use std::collections::BTreeSet;

use chat_proto::api::peers::{MemberRole, PathView, PeerView, RoleView};
use chat_proto::api::rendezvous::{ChangeReason, HolderChange, RankedPeer};
use chat_proto::cursor::Cursor;
use chat_proto::event::{Event, EventEnvelope, KnockState, MembershipAction, MembershipChange};
use chat_proto::id::{EntryHash, KnockId, MessageId, Term};
use chat_proto::time::Timestamp;
use serde_json::{Value, json};

use crate::http::calls::{CALLS, ParameterIn, RequestBody, ResponseBody};
use crate::http::openapi::document;
use crate::http::routes::routes;
use crate::http::tests::test_api::{ANN, BOB, TestApi, TestRoom, peer};
use crate::http::tests::test_client::TestRequest;

fn paths() -> BTreeSet<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// Checks a value against a schema of the document, as far as its schemas go.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{at}: {what}: {value}"));
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/components/schemas/");
        let target = &document["components"]["schemas"][name];
        assert!(target.is_object(), "{at}: there is no schema {name}");
        return check(document, target, value, &format!("{at}:{name}"));
    }
    if let Some(variants) = schema["oneOf"].as_array() {
        let results: Vec<_> = variants.iter().map(|variant| check(document, variant, value, at)).collect();
        let fits = results.iter().filter(|result| result.is_ok()).count();
        return if fits == 1 { Ok(()) } else { fail(&format!("{fits} variants fit: {results:?}")) };
    }
    let named = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !named.iter().any(|name| name == is || (name == "number" && is == "integer")) {
        return fail(&format!("expected {named:?}"));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return fail("not one of the words");
    }
    if schema.get("const").is_some_and(|constant| constant != value) {
        return fail("not the word");
    }
    if let Some(items) = value.as_array() {
        for (n, item) in items.iter().enumerate() {
            check(document, &schema["items"], item, &format!("{at}[{n}]"))?;
        }
    }
    let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().expect("names are text")) {
            return fail(&format!("{name} is missing"));
        }
    }
    for (name, field) in fields {
        match properties.get(name) {
            Some(schema) => check(document, schema, field, &format!("{at}.{name}"))?,
            None if schema["additionalProperties"] == json!(false) => return fail(&format!("{name} is not described")),
            None => {}
        }
    }
    Ok(())
}

fn assert_fits(schema: &str, value: &Value) {
    let document = document();
    let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
    if let Err(error) = check(&document, &reference, value, "") {
        panic!("{error}");
    }
}

#[test]
fn every_route_is_described_and_every_description_has_a_route() {
    let described: BTreeSet<&str> = CALLS.iter().map(|call| call.path).collect();
    assert_eq!(described, paths());
    let document = document();
    for call in CALLS {
        let operation = &document["paths"][call.path][call.verb.as_str().to_ascii_lowercase()];
        assert!(operation["responses"].is_object(), "{} {}", call.verb.as_str(), call.path);
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
async fn methods_that_are_not_described_are_refused_and_those_that_are_answer() {
    let (running, _stage) = TestApi::with_room().await;
    for path in paths() {
        let concrete = path.replace("{id}", "0");
        let described: BTreeSet<&str> =
            CALLS.iter().filter(|call| call.path == path).map(|call| call.verb.as_str()).collect();
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
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = document();
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for name in schemas.keys() {
        assert!(text.contains(&format!("\"#/components/schemas/{name}\"")), "{name} is not used");
    }
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap_or_default();
        assert!(schemas.contains_key(name), "there is no schema {name}");
    }
}

#[tokio::test]
async fn answers_are_what_the_document_says() {
    let (running, mut stage) = TestApi::with_room().await;
    stage.bob_says(&["hello"]).await;
    stage.script.hold(vec![peer(BOB)]);
    let sent = TestRequest::post("/v1/messages", &json!({"text": "x", "to": ["bob"]})).send(&running.unix).await;
    let id = sent.json::<Value>()["message"]["id"].as_str().expect("an id").to_owned();
    for call in CALLS {
        let [answer, ..] = call.answers else { panic!("{} has no answer", call.path) };
        let ResponseBody::Json(schema) = answer.holds else { continue };
        let body = match call.takes {
            RequestBody::Body("SendRequest") => json!({"text": "hello", "wait": "replicated", "copies": 1}),
            RequestBody::Body("JoinRequest") => json!({"target": "192.0.2.7", "name": "ann"}),
            RequestBody::BodyOrNothing("InviteRequest") => json!({"uses": 1, "expires_ms": 1000}),
            RequestBody::Nothing => Value::Null,
            RequestBody::Body(other) | RequestBody::BodyOrNothing(other) => panic!("{other} has no example"),
        };
        let mut ask = TestRequest::new(call.verb.as_str(), call.path.replace("{id}", &id));
        if !body.is_null() {
            let (RequestBody::Body(request) | RequestBody::BodyOrNothing(request)) = call.takes else { continue };
            assert_fits(request, &body);
            ask = ask.json(&body);
        }
        let answer = ask.send(&running.unix).await;
        let described: Vec<u16> = call.answers.iter().map(|answer| answer.status).collect();
        assert!(described.contains(&answer.status), "{} {}: {}", call.path, answer.status, answer.text());
        assert_fits(schema, &answer.json());
    }
    let problem = TestRequest::get("/v1/messages?limit=0").send(&running.unix).await;
    assert_fits("Problem", &serde_json::from_slice(&problem.body).expect("JSON"));
    let served: Value = TestRequest::get("/v1/openapi.json").send(&running.unix).await.json();
    assert_eq!(served, document());
}

#[tokio::test]
async fn calls_that_answer_without_a_body_do_so() {
    let (running, _stage): (TestApi, TestRoom) = TestApi::with_room().await;
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
fn every_event_is_described() {
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
    };
    let said = chat_proto::api::messages::Message { id: message, time, from: who(), to: vec![who()], text: "x".into() };
    let events = [
        Event::Message { message: said },
        Event::Peer { peer: view },
        Event::Membership { change: MembershipChange { action: MembershipAction::Renamed, peer: who(), by: who() } },
        Event::Rendezvous { change: change() },
        Event::Delivery { message, copies: 1, delivered: vec![who()] },
        Event::Knock { knock: KnockId(1), name: "eve".into(), words: "a-b-c".into(), state: KnockState::Waiting },
        Event::Gap { reason: "x".into() },
    ];
    for event in events {
        let envelope = EventEnvelope { cursor: Cursor { database: 1, event: 2 }, at: time, event };
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
