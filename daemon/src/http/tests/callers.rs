//! Who may call: the matrix of sockets, tokens, scopes, hosts and origins.

use chat_proto::api::tokens::{NewToken, TokenList, TokenScope};
use chat_proto::error::ErrorCode;
use serde_json::json;

use crate::http::tests::test_api::{TOKEN, TestApi};
use crate::http::tests::test_client::{Endpoint, TestRequest, TestStream, raw, soon};

/// Makes a token; gives its owner's way to the API.
async fn with_token(running: &TestApi, name: &str, scope: TokenScope) -> Endpoint {
    let made = TestRequest::post("/v1/tokens", &json!({"name": name, "scope": scope})).send(&running.tcp).await;
    assert_eq!(made.status, 201);
    Endpoint::Tcp(running.addr, Some(made.json::<NewToken>().secret))
}

#[tokio::test]
async fn token_permits_the_calls_of_its_scope_and_no_others() {
    let (running, _stage) = TestApi::with_room().await;
    let read = with_token(&running, "reader", TokenScope::Read).await;
    let send = with_token(&running, "bot", TokenScope::Send).await;
    let admit = with_token(&running, "door", TokenScope::Admit).await;
    let admin = with_token(&running, "boss", TokenScope::Admin).await;
    let asks = [
        (TestRequest::get("/v1/status"), TokenScope::Read),
        (TestRequest::get("/v1/messages"), TokenScope::Read),
        (TestRequest::get("/metrics"), TokenScope::Read),
        (TestRequest::new("HEAD", "/v1/rooms"), TokenScope::Read),
        (TestRequest::post("/v1/messages", &json!({"text": "hello"})), TokenScope::Send),
        (TestRequest::new("PUT", "/v1/readers/bot").json(&json!({})), TokenScope::Send),
        (TestRequest::get("/v1/tokens"), TokenScope::Admin),
        (TestRequest::new("POST", "/v1/web/links"), TokenScope::Admin),
        (TestRequest::post("/v1/tokens", &json!({"name": "more", "scope": "admin"})), TokenScope::Admin),
        (TestRequest::new("POST", "/v1/tokens/more/rotate"), TokenScope::Admin),
        (TestRequest::new("DELETE", "/v1/tokens/more"), TokenScope::Admin),
        (TestRequest::new("POST", "/v1/invites"), TokenScope::Admin),
        (TestRequest::new("PUT", "/v1/name").json(&json!({"name": "anna"})), TokenScope::Admin),
        (TestRequest::new("POST", "/v1/members/bob/remove"), TokenScope::Admin),
        (TestRequest::new("POST", "/v1/shutdown"), TokenScope::Admin),
    ];
    for (ask, needed) in asks {
        let given = [
            (&read, TokenScope::Read),
            (&send, TokenScope::Send),
            (&admit, TokenScope::Admit),
            (&admin, TokenScope::Admin),
        ];
        for (at, scope) in given {
            let answer = ask.clone().send(at).await;
            assert_eq!(answer.status == 403, scope < needed, "{ask:?} with {scope}: {}", answer.status);
            assert!(scope != needed || answer.status < 300, "{ask:?} with {scope}: {}", answer.status);
        }
    }
    let knock = || TestRequest::post("/v1/knocks/7", &json!({"admit": true}));
    assert_eq!((knock().send(&send).await.status, knock().send(&admit).await.status), (403, 404), "no peer knocks");
    let unknown = TestRequest::get("/v1/nothing").send(&send).await;
    assert_eq!(unknown.problem().code, ErrorCode::NotFound, "what is no call is said to be none");
}

#[tokio::test]
async fn streams_of_a_rotated_or_revoked_token_end_and_others_go_on() {
    let (running, mut stage) = TestApi::with_room().await;
    let one = with_token(&running, "one", TokenScope::Read).await;
    let two = with_token(&running, "two", TokenScope::Read).await;
    let events = || TestRequest::get("/v1/events");
    let mut streams = Vec::new();
    for at in [&one, &two, &running.tcp, &running.unix] {
        let mut stream = TestStream::open(at, events()).await;
        stream.block().await;
        streams.push(stream);
    }
    assert_eq!(TestRequest::new("DELETE", "/v1/tokens/one").send(&running.tcp).await.status, 204);
    let renewed = TestRequest::new("POST", "/v1/tokens/two/rotate").send(&running.tcp).await;
    let renewed = Endpoint::Tcp(running.addr, Some(renewed.json::<NewToken>().secret));
    assert_eq!(streams[0].piece().await, None);
    assert_eq!(streams[1].piece().await, None);
    for void in [&one, &two] {
        assert_eq!(TestRequest::get("/v1/rooms").send(void).await.problem().code, ErrorCode::Unauthorized);
    }
    assert_eq!(TestRequest::get("/v1/rooms").send(&renewed).await.status, 200);
    stage.bob_says(&["hello"]).await;
    for stream in &mut streams[2..] {
        assert_eq!(stream.texts(1).await, ["hello"]);
    }
    let own = TestRequest::new("POST", "/v1/tokens/default/rotate").send(&running.unix).await;
    assert_eq!(own.json::<NewToken>().token.scope, TokenScope::Admin);
    assert_eq!(streams[2].piece().await, None);
    assert_eq!(TestRequest::get("/v1/rooms").send(&running.tcp).await.status, 401);
    let left = TestRequest::get("/v1/tokens").send(&running.unix).await;
    let names: Vec<String> = left.json::<TokenList>().tokens.into_iter().map(|token| token.name).collect();
    assert_eq!(names, ["default", "two"]);
}

#[tokio::test]
async fn tokens_have_different_names_and_a_bounded_number() {
    let running = TestApi::start().await;
    let make = async |name: &str| {
        TestRequest::post("/v1/tokens", &json!({"name": name, "scope": "read"})).send(&running.unix).await.status
    };
    for number in 1..64 {
        assert_eq!(make(&format!("bot{number}")).await, 201);
    }
    assert_eq!((make("bot1").await, make("default").await, make("a b").await), (400, 400, 400));
    assert_eq!(make("bot64").await, 400, "64 with the home's own");
    assert_eq!(TestRequest::new("DELETE", "/v1/tokens/bot7").send(&running.unix).await.status, 204);
    assert_eq!(make("bot64").await, 201);
    assert_eq!(TestRequest::new("DELETE", "/v1/tokens/bot7").send(&running.unix).await.status, 404);
    assert_eq!(TestRequest::new("DELETE", "/v1/tokens/default").send(&running.unix).await.status, 400);
}

#[tokio::test]
async fn unix_socket_needs_no_token_from_its_user() {
    let running = TestApi::start().await;
    assert_eq!(TestRequest::get("/v1/rooms").send(&running.unix).await.status, 200);
    let with_token = TestRequest::get("/v1/rooms").header("authorization", "Bearer wrong");
    assert_eq!(with_token.send(&running.unix).await.status, 200, "a token that is not needed is not looked at");
}

#[tokio::test]
async fn tcp_without_a_token_answers_only_healthz() {
    let running = TestApi::start().await;
    let bare = Endpoint::Tcp(running.addr, None);
    for path in ["/v1/rooms", "/v1/events", "/metrics", "/v1/openapi.json", "/", "/no/such", "/healthz/x"] {
        let answer = TestRequest::get(path).send(&bare).await;
        assert_eq!(answer.problem().code, ErrorCode::Unauthorized, "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    assert_eq!(TestRequest::new("POST", "/healthz").send(&bare).await.problem().code, ErrorCode::Unauthorized);
    let health = TestRequest::get("/healthz").send(&bare).await;
    assert_eq!((health.status, health.text()), (200, "ok\n"));
    assert_eq!(TestRequest::new("HEAD", "/healthz").send(&bare).await.status, 200);
}

#[tokio::test]
async fn token_in_another_form_than_bearer_is_rejected() {
    let running = TestApi::start().await;
    let bare = Endpoint::Tcp(running.addr, None);
    for good in [format!("Bearer {TOKEN}"), format!("bearer  {TOKEN} ")] {
        let answer = TestRequest::get("/v1/rooms").header("authorization", good.as_str()).send(&bare).await;
        assert_eq!(answer.status, 200, "{good}");
    }
    for bad in [
        TOKEN.to_owned(),
        format!("Basic {TOKEN}"),
        "Bearer".into(),
        "Bearer ".into(),
        format!("Bearer {TOKEN}x"),
        format!("Bearer {}", &TOKEN[1..]),
        format!("Bearer {}", TOKEN.to_uppercase()),
        format!("Bearer \"{TOKEN}\""),
    ] {
        let answer = TestRequest::get("/v1/rooms").header("authorization", bad.as_str()).send(&bare).await;
        assert_eq!(answer.problem().code, ErrorCode::Unauthorized, "{bad}");
    }
    let twice = TestRequest::get("/v1/rooms").header("authorization", "Bearer x").send(&running.tcp).await;
    assert_eq!(twice.problem().code, ErrorCode::Unauthorized, "two tokens are none");
    let in_query = TestRequest::get(format!("/v1/rooms?token={TOKEN}")).send(&bare).await;
    assert_eq!(in_query.problem().code, ErrorCode::Unauthorized);
}

#[tokio::test]
async fn tcp_with_a_foreign_host_is_rejected() {
    let running = TestApi::start().await;
    let port = running.addr.port();
    for own in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")] {
        assert_eq!(
            TestRequest::get("/v1/rooms").header("host", own.as_str()).send(&running.tcp).await.status,
            200,
            "{own}"
        );
    }
    for foreign in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "127.0.0.1".into(),
        "localhost".into(),
        format!("localhost:{}", port.wrapping_add(1)),
        format!("127.0.0.1.evil.example:{port}"),
        format!("0.0.0.0:{port}"),
        String::new(),
    ] {
        for path in ["/v1/rooms", "/healthz"] {
            let answer = TestRequest::get(path).header("host", foreign.as_str()).send(&running.tcp).await;
            assert_eq!(answer.problem().code, ErrorCode::Forbidden, "{foreign} {path}");
        }
    }
    assert_eq!(TestRequest::get("/v1/rooms").header("host", "anything").send(&running.unix).await.status, 200);
}

#[tokio::test]
async fn absolute_address_of_another_host_is_rejected() {
    let running = TestApi::start().await;
    let ask = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n")
    };
    let own = running.addr.to_string();
    let good = raw(&running.tcp, ask(&format!("http://{own}/v1/rooms"), &own).as_bytes()).await;
    assert!(good.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&good));
    let bad = raw(&running.tcp, ask("http://evil.example/v1/rooms", &own).as_bytes()).await;
    assert!(bad.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&bad));
    let no_host = format!("GET /v1/rooms HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    assert!(raw(&running.tcp, no_host.as_bytes()).await.starts_with(b"HTTP/1.0 403"));
    let two_hosts = format!("GET /v1/rooms HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\nConnection: close\r\n\r\n");
    let answer = raw(&running.tcp, two_hosts.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 40"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn tcp_with_a_foreign_origin_is_rejected_despite_the_token() {
    let running = TestApi::start().await;
    let port = running.addr.port();
    for own in [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}"), format!("http://[::1]:{port}")]
    {
        assert_eq!(
            TestRequest::get("/v1/rooms").header("origin", own.as_str()).send(&running.tcp).await.status,
            200,
            "{own}"
        );
    }
    for foreign in [
        "null".to_owned(),
        "http://evil.example".into(),
        format!("https://localhost:{port}"),
        "http://localhost".into(),
        format!("http://localhost:{port}/"),
        format!("http://localhost:{port}.evil.example"),
        String::new(),
    ] {
        for ask in
            [TestRequest::get("/v1/rooms"), TestRequest::get("/healthz"), TestRequest::new("OPTIONS", "/v1/rooms")]
        {
            let answer = ask.header("origin", foreign.as_str()).send(&running.tcp).await;
            assert_eq!(answer.problem().code, ErrorCode::Forbidden, "{foreign:?}");
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
}

#[tokio::test]
async fn shutdown_call_is_accepted_and_shutdown_removes_the_socket() {
    let running = TestApi::start().await;
    let answer = TestRequest::new("POST", "/v1/shutdown").send(&running.unix).await;
    assert_eq!(answer.status, 202);
    assert!(running.around.stopped.is_cancelled());
    let Endpoint::Unix(socket) = &running.unix else { return };
    running.ending.cancel();
    soon(running.task).await.expect("the server ends without panic");
    assert!(!socket.exists(), "the socket goes with the server");
    assert!(tokio::net::TcpStream::connect(running.addr).await.is_err());
}
