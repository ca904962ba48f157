//! Who may call: the matrix of sockets, tokens, hosts and origins.

use chat_proto::error::ErrorCode;

use crate::http::tests::test_api::{TOKEN, TestApi};
use crate::http::tests::test_client::{Endpoint, TestRequest, raw, soon};

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
