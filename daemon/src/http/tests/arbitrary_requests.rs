//! Whatever is sent: nothing panics, every refusal is a problem document, and the next caller is answered.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::http::routes::routes;
use crate::http::tests::test_api::{ApiTestRoom, TestApi};
use crate::http::tests::test_client::{TestRequest, raw};

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

fn method() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(vec!["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]);
    prop_oneof![9 => known.prop_map(str::to_owned), 1 => "[A-Z]{1,12}".prop_filter("opens a tunnel", |m| m != "CONNECT")]
}

/// A path of the API with anything in its variable segment, or any path at all.
fn path() -> impl Strategy<Value = String> {
    let paths: Vec<&'static str> = routes().into_iter().map(|(path, _)| path).collect();
    let segment = prop_oneof![segment(), "[0-9a-f]{64}(\\.[0-9]{1,6})?", "[0-9]{1,25}"];
    let known = (proptest::sample::select(paths), segment).prop_map(|(path, id)| path.replace("{id}", &id));
    prop_oneof![9 => known, 1 => segment_path()]
}

/// Any bytes, percent-encoded where they must be.
fn segment() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<u8>(), 1..24).prop_map(|bytes| encode(&bytes))
}

fn segment_path() -> impl Strategy<Value = String> {
    proptest::collection::vec(segment(), 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn encode(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~@".contains(&byte);
    let piece = |&byte: &u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    bytes.iter().map(piece).collect()
}

fn query() -> impl Strategy<Value = String> {
    let names = ["since", "type", "from", "with", "q", "limit", "before", "after", "x"];
    let value = prop_oneof![segment(), "[0-9]{1,4}", Just("all".to_owned()), Just("bob".to_owned())];
    let pair = (proptest::sample::select(names.to_vec()), value).prop_map(|(name, value)| format!("{name}={value}"));
    let pairs = proptest::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&"));
    prop_oneof![3 => Just(String::new()), 3 => pairs.prop_map(|q| format!("?{q}")), 1 => segment().prop_map(|q| format!("?{q}"))]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let words = ["text", "to", "wait", "copies", "timeout_ms", "target", "name", "admit", "uses", "expires_ms"];
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("true".into()),
        Just("\"bob\"".into()),
        Just("[\"bob\",\"carol\"]".into()),
        Just("\"stored\"".into()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:?}")),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        Just("[".repeat(200)),
    ];
    let field =
        (proptest::sample::select(words.to_vec()), value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let object =
        proptest::collection::vec(field, 0..4).prop_map(|fields| format!("{{{}}}", fields.join(",")).into_bytes());
    prop_oneof![2 => Just(Vec::new()), 4 => object, 1 => proptest::collection::vec(any::<u8>(), 0..200)]
}

fn header_value() -> impl Strategy<Value = String> {
    "[ -~\u{80}-\u{ff}]{0,40}"
}

#[derive(Clone, Debug)]
struct Anything {
    method: String,
    target: String,
    body: Vec<u8>,
    media_type: String,
    headers: Vec<(&'static str, String)>,
}

fn anything() -> impl Strategy<Value = Anything> {
    let names = ["idempotency-key", "last-event-id", "accept", "origin", "authorization", "content-encoding", "range"];
    let headers = proptest::collection::vec((proptest::sample::select(names.to_vec()), header_value()), 0..3);
    let media_type = prop_oneof![9 => Just("application/json".to_owned()), 1 => header_value()];
    (method(), path(), query(), body(), media_type, headers).prop_map(
        |(method, path, query, body, media_type, headers)| Anything {
            method,
            target: path + &query,
            body,
            media_type,
            headers,
        },
    )
}

async fn try_it(running: &TestApi, anything: Anything) -> Result<(), TestCaseError> {
    let mut ask = TestRequest::new(&anything.method, anything.target.as_str()).body(anything.body.clone());
    ask = ask.header("content-type", anything.media_type.as_str());
    for (name, value) in &anything.headers {
        ask = ask.header(name, value.as_str());
    }
    let at = if anything.target.len().is_multiple_of(2) { &running.unix } else { &running.tcp };
    let response = ask.open(at).await;
    let status = response.status().as_u16();
    prop_assert!(status != 500, "{:?}", anything);
    if status >= 400 {
        let media_type = response.headers().get("content-type").map(|value| value.as_bytes().to_vec());
        prop_assert_eq!(media_type.as_deref(), Some(&b"application/problem+json"[..]));
    }
    Ok(())
}

#[test]
fn arbitrary_request_is_answered_and_every_error_is_a_problem() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (running, _stage): (TestApi, ApiTestRoom) = runtime.block_on(TestApi::with_room());
    let result = runner(1500).run(&anything(), |anything| runtime.block_on(try_it(&running, anything)));
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn arbitrary_bytes_do_not_disturb_other_callers() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let running = runtime.block_on(TestApi::start());
    let head =
        prop_oneof![Just(String::new()), Just("GET /healthz HTTP/1.1\r\n".into()), Just("POST / HTTP/1.1\r\n".into())];
    let bytes = proptest::collection::vec(any::<u8>(), 0..400);
    let result = runner(200).run(&(head, bytes), |(head, bytes)| {
        runtime.block_on(async {
            let answer = raw(&running.tcp, &[head.as_bytes(), &bytes].concat()).await;
            prop_assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", answer);
            prop_assert_eq!(TestRequest::get("/healthz").send(&running.tcp).await.status, 200);
            Ok(())
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
