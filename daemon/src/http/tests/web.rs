//! The page in the browser: its one-time link, its session, and what other pages and other servers of the machine cannot do.

use std::net::SocketAddr;

use chat_proto::api::tokens::TokenList;
use chat_proto::api::web::{WebLink, WebSession};
use chat_proto::error::ErrorCode;
use serde_json::json;

use crate::http::tests::test_api::{TOKEN, TestApi};
use crate::http::tests::test_client::{Endpoint, TestRequest, TestResponse, TestStream};

/// A browser that has opened the page.
struct OpenPage {
    at: Endpoint,
    origin: String,
    cookie: String,
    session: WebSession,
}

impl OpenPage {
    /// Opens the page by a new link.
    async fn open(running: &TestApi) -> Self {
        let code = code(running).await;
        let answer = exchange(running, &code).await;
        let set_cookie = answer.header("set-cookie").to_owned();
        let cookie = set_cookie.split(';').next().expect("a cookie").to_owned();
        Self { at: bare(running), origin: origin(running.addr), cookie, session: answer.json() }
    }

    /// A request as the page makes it.
    fn request(&self, request: TestRequest) -> TestRequest {
        self.with_cookie(request).header("chat-page-key", self.session.key.as_str())
    }

    /// A request that a page of the same origin without the key can make.
    fn with_cookie(&self, request: TestRequest) -> TestRequest {
        request
            .header("cookie", format!("other=1; {}", self.cookie))
            .header("sec-fetch-site", "same-origin")
            .header("origin", self.origin.as_str())
    }

    async fn send(&self, request: TestRequest) -> TestResponse {
        self.request(request).send(&self.at).await
    }
}

fn bare(running: &TestApi) -> Endpoint {
    Endpoint::Tcp(running.addr, None)
}

fn origin(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

/// The code of a new link.
async fn code(running: &TestApi) -> String {
    let link: WebLink = TestRequest::new("POST", "/v1/web/links").send(&running.unix).await.json();
    let (page, code) = link.url.split_once('#').expect("the code is where servers do not see it");
    assert_eq!(page, format!("http://{}/web/", running.addr));
    assert_eq!(code.len(), 64);
    code.to_owned()
}

async fn exchange(running: &TestApi, code: &str) -> TestResponse {
    let request = TestRequest::post("/v1/web/sessions", &json!({"code": code}));
    request.header("origin", origin(running.addr)).header("sec-fetch-site", "same-origin").send(&bare(running)).await
}

#[tokio::test]
async fn link_opens_one_session_and_a_guessed_one_opens_none() {
    let running = TestApi::start().await;
    let code = code(&running).await;
    for guess in ["x", "0", &code[1..], &code.to_uppercase(), TOKEN, &"0".repeat(64)] {
        assert_eq!(exchange(&running, guess).await.problem().code, ErrorCode::Unauthorized, "{guess}");
    }
    let opened = exchange(&running, &code).await;
    assert_eq!(opened.status, 201);
    let again = exchange(&running, &code).await;
    assert_eq!(again.problem().code, ErrorCode::Unauthorized);
    assert_eq!(again.header("set-cookie"), "");
    let link = TestRequest::new("POST", "/v1/web/links").send(&bare(&running)).await;
    assert_eq!(link.problem().code, ErrorCode::Unauthorized, "a link is made for the user only");
}

#[tokio::test]
async fn cookie_is_hidden_from_scripts_and_other_sites_and_no_answer_repeats_it() {
    let running = TestApi::start().await;
    let answer = exchange(&running, &code(&running).await).await;
    let cookie = answer.header("set-cookie").to_owned();
    let mut parts = cookie.split("; ");
    let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a cookie");
    assert_eq!(name, format!("chatd-{}", running.addr.port()));
    assert_eq!(value.len(), 64);
    assert_eq!(parts.collect::<Vec<_>>(), ["Path=/v1", "Max-Age=1209600", "HttpOnly", "SameSite=Strict"]);
    let session: WebSession = answer.json();
    assert!(!answer.text().contains(value) && session.key != value);
}

#[tokio::test]
async fn page_reads_writes_and_answers_knocks_and_does_nothing_else() {
    let (running, _stage) = TestApi::with_room().await;
    let browser = OpenPage::open(&running).await;
    for path in ["/v1/status", "/v1/peers", "/v1/rendezvous", "/v1/messages", "/v1/knocks"] {
        assert_eq!(browser.send(TestRequest::get(path)).await.status, 200, "{path}");
    }
    assert_eq!(browser.send(TestRequest::post("/v1/messages", &json!({"text": "hello"}))).await.status, 201);
    let knock = browser.send(TestRequest::post("/v1/knocks/7", &json!({"admit": true}))).await;
    assert_eq!(knock.problem().code, ErrorCode::NotFound, "no peer knocks");
    for refused in [
        TestRequest::get("/v1/tokens"),
        TestRequest::new("POST", "/v1/web/links"),
        TestRequest::new("POST", "/v1/invites"),
        TestRequest::new("POST", "/v1/members/bob/remove"),
        TestRequest::new("POST", "/v1/leave"),
        TestRequest::new("POST", "/v1/shutdown"),
    ] {
        assert_eq!(browser.send(refused.clone()).await.problem().code, ErrorCode::Forbidden, "{refused:?}");
    }
}

#[tokio::test]
async fn neither_half_of_a_session_permits_anything_alone() {
    let running = TestApi::start().await;
    let browser = OpenPage::open(&running).await;
    let rooms = || TestRequest::get("/v1/rooms");
    assert_eq!(browser.send(rooms()).await.status, 200);
    let cookie_alone = browser.with_cookie(rooms());
    let key_alone = rooms().header("chat-page-key", browser.session.key.as_str());
    let other_key = browser.with_cookie(rooms()).header("chat-page-key", "0".repeat(64));
    let other_name = rooms()
        .header("cookie", browser.cookie.replacen("chatd-", "chatd-1", 1))
        .header("chat-page-key", browser.session.key.as_str());
    let twice = browser.request(rooms()).header("cookie", browser.cookie.as_str());
    for half in [cookie_alone, key_alone, other_key, other_name, twice] {
        assert_eq!(half.clone().send(&browser.at).await.problem().code, ErrorCode::Unauthorized, "{half:?}");
    }
}

#[tokio::test]
async fn requests_of_other_pages_and_rebound_names_are_rejected_despite_the_session() {
    let (running, _stage) = TestApi::with_room().await;
    let browser = OpenPage::open(&running).await;
    let (port, own) = (running.addr.port(), origin(running.addr));
    let asks = [TestRequest::get("/v1/messages"), TestRequest::post("/v1/messages", &json!({"text": "planted"}))];
    let session = |ask: &TestRequest| {
        let key = browser.session.key.as_str();
        ask.clone().header("cookie", browser.cookie.as_str()).header("chat-page-key", key)
    };
    for ask in &asks {
        for (site, from) in [
            ("cross-site", "http://evil.example".to_owned()),
            ("same-site", format!("http://127.0.0.1:{}", port.wrapping_add(1))),
            ("same-site", own.clone()),
            ("none", own.clone()),
            ("cross-site", "null".into()),
        ] {
            let answer = session(ask).header("sec-fetch-site", site).header("origin", from.as_str());
            assert_eq!(answer.send(&browser.at).await.problem().code, ErrorCode::Forbidden, "{site} {from}");
        }
        for host in [format!("evil.example:{port}"), format!("evil.localhost:{port}"), "127.0.0.1".into()] {
            let rebound = session(ask).header("sec-fetch-site", "same-origin").header("host", host.as_str());
            let answer = rebound.header("origin", format!("http://{host}")).send(&browser.at).await;
            assert_eq!(answer.problem().code, ErrorCode::Forbidden, "{host}");
        }
    }
    let [_, write] = asks;
    let without_origin = session(&write).header("sec-fetch-site", "same-origin").send(&browser.at).await;
    assert_eq!(without_origin.problem().code, ErrorCode::Forbidden, "browsers send the origin of every write");
    let form = browser.request(TestRequest::new("POST", "/v1/messages"));
    let form = form.header("content-type", "application/x-www-form-urlencoded").body("text=planted");
    assert_eq!(form.send(&browser.at).await.problem().code, ErrorCode::UnsupportedMediaType);
}

#[tokio::test]
async fn other_pages_cannot_exchange_a_code() {
    let running = TestApi::start().await;
    let code = code(&running).await;
    let request = || TestRequest::post("/v1/web/sessions", &json!({"code": code}));
    let port = running.addr.port();
    for foreign in [
        request(),
        request().header("origin", "http://evil.example").header("sec-fetch-site", "cross-site"),
        request().header("origin", format!("http://127.0.0.1:{}", port.wrapping_add(1))),
        request().header("origin", origin(running.addr)).header("sec-fetch-site", "same-site"),
        request()
            .header("origin", format!("http://evil.example:{port}"))
            .header("host", format!("evil.example:{port}")),
    ] {
        assert_eq!(foreign.clone().send(&bare(&running)).await.problem().code, ErrorCode::Forbidden, "{foreign:?}");
    }
    assert_eq!(exchange(&running, &code).await.status, 201, "the code was not used up");
}

#[tokio::test]
async fn page_cannot_be_framed_and_runs_only_its_own_scripts() {
    let running = TestApi::start().await;
    for path in ["/web/", "/web/app.js", "/web/style.css", "/web/icon.svg"] {
        let file = TestRequest::get(path).send(&bare(&running)).await;
        assert_eq!(file.status, 200, "{path}");
        let policy = file.header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"] {
            assert!(policy.split("; ").any(|directive| directive == part), "{part}: {policy}");
        }
        assert!(!policy.contains("unsafe"));
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("access-control-allow-origin", ""),
        ] {
            assert_eq!(file.header(name), value, "{path} {name}");
        }
        let rebound = TestRequest::get(path).header("host", "evil.example").send(&bare(&running)).await;
        assert_eq!(rebound.problem().code, ErrorCode::Forbidden);
    }
    let html = TestRequest::get("/web/").send(&bare(&running)).await;
    assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
    for inline in ["<style", "style=", "onclick=", "javascript:", "https://", "<script>"] {
        assert!(!html.text().contains(inline), "{inline}");
    }
    for missing in ["/web/none.js", "/web/..%2Fauth.rs", "/web/"] {
        let wrong = TestRequest::new(if missing == "/web/" { "POST" } else { "GET" }, missing);
        assert!(wrong.send(&bare(&running)).await.status >= 400, "{missing}");
    }
    let api = TestRequest::get("/v1/rooms").send(&running.tcp).await;
    assert_eq!(api.header("cross-origin-resource-policy"), "same-origin");
}

#[tokio::test]
async fn session_is_listed_and_ends_when_it_is_revoked_or_ended_by_the_page() {
    let (running, _stage) = TestApi::with_room().await;
    let (one, two) = (OpenPage::open(&running).await, OpenPage::open(&running).await);
    let listed = async || {
        let tokens: TokenList = TestRequest::get("/v1/tokens").send(&running.unix).await.json();
        let sessions = tokens.tokens.into_iter().filter(|token| token.expires.is_some());
        sessions.map(|token| token.name).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [one.session.name.as_str(), two.session.name.as_str()]);
    let mut stream = TestStream::open(&one.at, one.request(TestRequest::get("/v1/events"))).await;
    stream.block().await;
    let revoked = format!("/v1/tokens/{}", one.session.name);
    assert_eq!(TestRequest::new("DELETE", revoked).send(&running.unix).await.status, 204);
    assert_eq!(stream.piece().await, None, "its stream ends");
    assert_eq!(one.send(TestRequest::get("/v1/rooms")).await.problem().code, ErrorCode::Unauthorized);
    let ended = two.send(TestRequest::new("DELETE", "/v1/web/sessions")).await;
    assert_eq!(ended.status, 204);
    assert!(ended.header("set-cookie").contains("=; Path=/v1; Max-Age=0;"));
    assert_eq!(two.send(TestRequest::get("/v1/rooms")).await.problem().code, ErrorCode::Unauthorized);
    assert!(listed().await.is_empty());
    let none = TestRequest::new("DELETE", "/v1/web/sessions").send(&running.tcp).await;
    assert_eq!(none.problem().code, ErrorCode::NotFound, "a token is not a session");
}
