//! `/web/`: the room in the browser. Its files are part of the program, and reveal nothing: what they show comes by the API,
//! with a session that a one-time link opens (`/v1/web/links`, `/v1/web/sessions`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use chat_proto::api::web::{WebLink, WebSession, WebSessionRequest};
use chat_proto::error::ErrorCode;
use chat_proto::time::Timestamp;

use crate::clock::wall_clock;
use crate::http::access_tokens::web_links::LINK_LIFETIME;
use crate::http::access_tokens::{SESSION_LIFETIME, TokenGrant};
use crate::http::api_state::Api;
use crate::http::auth::page_session::cookie_name;
use crate::http::extract::{JsonBody, PathSegment};
use crate::http::handlers::tokens::change;
use crate::http::problem::Refusal;

/// A file of the page.
struct PageFile {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! page_files {
    ($($name:literal: $media_type:expr),* $(,)?) => {
        &[$(PageFile { name: $name, media_type: $media_type, text: include_str!(concat!("../web/", $name)) }),*]
    };
}

/// The page, then what it loads.
const FILES: &[PageFile] = page_files![
    "index.html": HTML,
    "style.css": STYLE,
    "icon.svg": PICTURE,
    "app.js": SCRIPT,
    "composer.js": SCRIPT,
    "conversation.js": SCRIPT,
    "dom.js": SCRIPT,
    "holders.js": SCRIPT,
    "mesh.js": SCRIPT,
    "message.js": SCRIPT,
    "panels.js": SCRIPT,
    "session.js": SCRIPT,
    "stream.js": SCRIPT,
    "views.js": SCRIPT,
];

/// What the browser permits the page: its own files and the API. No script or style within the document, no form target, no
/// frame around it, and no text that becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every file of the page.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The files of the page, which every user of the machine can load.
pub(crate) fn pages() -> Router<Arc<Api>> {
    Router::new()
        .route("/web", get(async || Redirect::permanent("/web/")))
        .route("/web/", get(async || respond("index.html")))
        .route("/web/{file}", get(async |PathSegment(name): PathSegment| respond(&name)))
}

fn respond(name: &str) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return Refusal::new(ErrorCode::NotFound, "the page has no such file").hint("it is at /web/").into_response();
    };
    let mut response = ([(header::CONTENT_TYPE, file.media_type)], file.text).into_response();
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Makes a one-time link to the page.
pub(crate) async fn create_link(State(api): State<Arc<Api>>) -> Result<(StatusCode, Json<WebLink>), Refusal> {
    let at = local(tcp(&api)?);
    let code = api.web_links.create(Instant::now());
    let url = format!("http://{at}/web/#{}", code.as_str());
    let lifetime_ms = u64::try_from(LINK_LIFETIME.as_millis()).unwrap_or(u64::MAX);
    let expires = Timestamp::from_ms(wall_clock().as_ms().saturating_add(lifetime_ms));
    Ok((StatusCode::CREATED, Json(WebLink { url, expires })))
}

/// Exchanges a one-time code for a session.
pub(crate) async fn open_session(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<WebSessionRequest>,
) -> Result<Response, Refusal> {
    let port = tcp(&api)?.port();
    if !api.web_links.redeem(&request.code, Instant::now()) {
        return Err(Refusal::new(ErrorCode::Unauthorized, "the link is wrong, was used already or is too old")
            .hint("'chat web' prints a new one"));
    }
    let (info, secret) = change(&api, |tokens| tokens.open_session()).await?;
    tracing::info!(session = info.name, "a browser opened the page");
    let cookie = set_cookie(port, secret.cookie.as_str(), SESSION_LIFETIME.as_secs());
    let expires = info.expires.unwrap_or_else(wall_clock);
    let session = WebSession { name: info.name, key: secret.key.as_str().to_owned(), expires };
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], Json(session)).into_response())
}

/// Ends the session of the page that calls.
pub(crate) async fn end_session(
    State(api): State<Arc<Api>>,
    grant: Option<Extension<TokenGrant>>,
) -> Result<Response, Refusal> {
    let port = tcp(&api)?.port();
    let session = grant.filter(|Extension(grant)| grant.is_session).ok_or_else(|| {
        Refusal::new(ErrorCode::NotFound, "the caller has no session")
            .hint("'chatd token revoke NAME' ends one by name")
    })?;
    change(&api, move |tokens| tokens.revoke(&session.name)).await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, set_cookie(port, "", 0))]).into_response())
}

fn set_cookie(port: u16, value: &str, seconds: u64) -> String {
    format!("{}={value}; Path=/v1; Max-Age={seconds}; HttpOnly; SameSite=Strict", cookie_name(port))
}

fn tcp(api: &Api) -> Result<SocketAddr, Refusal> {
    api.tcp_addr.ok_or_else(|| {
        Refusal::new(ErrorCode::NoTcp, "the daemon does not listen on TCP, which a browser needs")
            .hint("restart it without --no-tcp and 'tcp = false'")
    })
}

/// The address at which this machine reaches a listener.
fn local(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listens.ip(),
    };
    SocketAddr::new(ip, listens.port())
}
