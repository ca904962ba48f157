//! Identifies callers: the same user over the Unix socket, the owner of a token over TCP.
//!
//! A web page in the user's browser can also open TCP connections to the daemon. Three checks keep it out: the `Host` must
//! be one of the daemon's own (a name that was rebound to 127.0.0.1 is not), an `Origin` other than the daemon's own is
//! rejected, and every call except `GET /healthz` needs a token, whose scope must allow the call ([`access_tokens`](crate::http::access_tokens)). The
//! home's own token is in a file that only the user can read. The daemon's own page has a session instead
//! ([`page_session`]); its files need none, nor does the call that opens the session with a one-time code.
//!
//! Over the Unix socket the kernel reports the caller's user id, so neither the token nor the `Host` is checked there. The
//! server notes with each request how it arrived ([`CallerConnection`]); a request without that note is rejected.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chat_proto::error::ErrorCode;
use tokio_util::sync::CancellationToken;

use crate::http::access_tokens::{AccessTokens, PageSecret, TokenGrant};
use crate::http::calls::{ApiCall, CallAccess};
use crate::http::problem::Refusal;

pub(crate) mod page_session;

/// The connection of a request; added to each request by the server.
#[derive(Clone, Debug)]
pub(crate) struct CallerConnection {
    /// The caller.
    pub(crate) via: Caller,
    /// Cancelled when the server ends: streams end at once.
    pub(crate) ending: CancellationToken,
    /// Cancelled when the token of the request becomes void: its streams end at once. Never, without a token.
    pub(crate) revoked: CancellationToken,
}

impl CallerConnection {
    /// A connection whose requests have shown no token yet.
    pub(crate) fn new(via: Caller, ending: CancellationToken) -> Self {
        Self { via, ending, revoked: CancellationToken::new() }
    }
}

/// How a caller is identified.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Over the Unix socket, as the same user.
    SameUser,
    /// Over the Unix socket, as another user.
    OtherUser,
    /// Over TCP; `Host` must be one of these.
    Tcp(Arc<AllowedHosts>),
}

/// Valid values of `Host`, and of `Origin` behind `http://`.
#[derive(Debug)]
pub(crate) struct AllowedHosts {
    names: Vec<String>,
    port: u16,
}

impl AllowedHosts {
    /// Names of the address that a connection was accepted at.
    pub(crate) fn of(local: SocketAddr) -> Self {
        let port = local.port();
        let mut names = vec![format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")];
        let own = local.to_string();
        if !names.contains(&own) {
            names.push(own);
        }
        Self { names, port }
    }

    fn hold(&self, host: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(host))
    }
}

/// Rejects callers that are not identified.
pub(crate) async fn guard(State(tokens): State<Arc<AccessTokens>>, mut request: Request, next: Next) -> Response {
    match check(&tokens, &request) {
        Ok(grant) => {
            if let Some(grant) = grant {
                if let Some(connection) = request.extensions_mut().get_mut::<CallerConnection>() {
                    connection.revoked = grant.revoked.clone();
                }
                request.extensions_mut().insert(grant);
            }
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// What the token of the request permits; nothing where none is needed.
fn check(tokens: &AccessTokens, request: &Request) -> Result<Option<TokenGrant>, Refusal> {
    let via = request.extensions().get::<CallerConnection>().map(|connection| &connection.via);
    match via {
        Some(Caller::SameUser) => Ok(None),
        Some(Caller::Tcp(hosts)) => {
            check_host(hosts, request)?;
            check_origin(hosts, request.headers())?;
            let call = call(request);
            if is_page_file(request) || call.is_some_and(|call| call.access() == CallAccess::Open) {
                return Ok(None);
            }
            if call.is_some_and(|call| call.access() == CallAccess::OwnPage) {
                return page_session::check_same_origin(request).map(|()| None);
            }
            let grant = match session_of(request, hosts)? {
                Some(session) => grant_session(tokens, &session)?,
                None => check_token(tokens, request.headers())?,
            };
            check_scope(&grant, call)?;
            Ok(Some(grant))
        }
        Some(Caller::OtherUser) | None => {
            Err(Refusal::new(ErrorCode::Forbidden, "this daemon belongs to another user")
                .hint("run 'chatd start' as your own user"))
        }
    }
}

/// The call that a request is, if it is one.
fn call(request: &Request) -> Option<&'static ApiCall> {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    ApiCall::find(request.method().as_str(), path)
}

fn is_page_file(request: &Request) -> bool {
    let path = request.uri().path();
    (path == "/web" || path.starts_with("/web/")) && matches!(*request.method(), Method::GET | Method::HEAD)
}

/// The session that a request shows. One with a token needs none.
fn session_of(request: &Request, hosts: &AllowedHosts) -> Result<Option<PageSecret>, Refusal> {
    if request.headers().contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let Some(secret) = page_session::secret(request.headers(), hosts.port)? else { return Ok(None) };
    page_session::check_same_origin(request)?;
    Ok(Some(secret))
}

fn grant_session(tokens: &AccessTokens, session: &PageSecret) -> Result<TokenGrant, Refusal> {
    tokens.grant(session.whole().as_str().as_bytes()).ok_or_else(|| {
        Refusal::new(ErrorCode::Unauthorized, "the session of this page has ended").hint("'chat web' opens another")
    })
}

fn check_host(hosts: &AllowedHosts, request: &Request) -> Result<(), Refusal> {
    let foreign = |detail: String| {
        Refusal::new(ErrorCode::Forbidden, detail)
            .hint(format!("use the address http://{}", hosts.names.first().map_or("127.0.0.1", String::as_str)))
    };
    let host = only(request.headers(), &header::HOST)
        .map_err(|()| foreign("the request needs exactly one Host header".into()))?
        .ok_or_else(|| foreign("the request has no Host header".into()))?;
    if !hosts.hold(host) {
        return Err(foreign(format!("the Host '{}' is not this daemon's", shortened(host))));
    }
    match request.uri().authority() {
        Some(authority) if !hosts.hold(authority.as_str()) => {
            Err(foreign(format!("the address '{}' is not this daemon's", shortened(authority.as_str()))))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_origin(hosts: &AllowedHosts, headers: &HeaderMap) -> Result<(), Refusal> {
    let own = |origin: &str| origin.strip_prefix("http://").is_some_and(|host| hosts.hold(host));
    match only(headers, &header::ORIGIN) {
        Ok(None) => Ok(()),
        Ok(Some(origin)) if own(origin) => Ok(()),
        Ok(Some(_)) | Err(()) => Err(Refusal::new(ErrorCode::Forbidden, "requests from other web pages are rejected")
            .hint("call from a program, or from a page that this daemon serves")),
    }
}

fn check_token(tokens: &AccessTokens, headers: &HeaderMap) -> Result<TokenGrant, Refusal> {
    let refused = |detail: &str| {
        Refusal::new(ErrorCode::Unauthorized, detail)
            .hint("send 'Authorization: Bearer TOKEN'; 'chatd env' prints the token, or use the Unix socket")
    };
    let shown = only(headers, &header::AUTHORIZATION)
        .map_err(|()| refused("the Authorization header cannot be read"))?
        .ok_or_else(|| refused("the request has no token"))?;
    let (scheme, rest) = shown.split_once(' ').unwrap_or((shown, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused("the Authorization header is not 'Bearer TOKEN'"));
    }
    tokens.grant(rest.trim().as_bytes()).ok_or_else(|| refused("the token is wrong"))
}

fn check_scope(grant: &TokenGrant, call: Option<&ApiCall>) -> Result<(), Refusal> {
    match call.map(ApiCall::access) {
        Some(CallAccess::Scope(needed)) if needed > grant.scope => {
            let TokenGrant { name, scope, .. } = grant;
            let detail = format!("the token '{name}' has the scope '{scope}', this call needs '{needed}'");
            Err(Refusal::new(ErrorCode::Forbidden, detail)
                .hint(format!("'chatd token create NAME --scope {needed}' makes a token for it")))
        }
        // What is no call is answered by the fallbacks.
        Some(_) | None => Ok(()),
    }
}

/// The value of a header that may be given once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::access_tokens::Token;
    use crate::http::tests::test_api::NoTokenFiles;

    #[test]
    fn other_user_with_a_valid_token_is_rejected() {
        let mut request = Request::new(axum::body::Body::empty());
        let known = AccessTokens::new(&Token::new("t"), Vec::new(), Box::new(NoTokenFiles));
        let code = |request: &Request| check(&known, request).map(drop).map_err(|refusal| refusal.problem().code);
        request.headers_mut().insert(header::AUTHORIZATION, header::HeaderValue::from_static("Bearer t"));
        assert_eq!(code(&request), Err(ErrorCode::Forbidden), "a request without a connection");
        for (via, answer) in [(Caller::OtherUser, Err(ErrorCode::Forbidden)), (Caller::SameUser, Ok(()))] {
            request.extensions_mut().insert(CallerConnection::new(via, CancellationToken::new()));
            assert_eq!(code(&request), answer);
        }
    }

    #[test]
    fn host_with_another_name_or_port_is_rejected() {
        let hosts = AllowedHosts::of(SocketAddr::from(([127, 0, 0, 1], 24284)));
        for own in ["127.0.0.1:24284", "localhost:24284", "LOCALHOST:24284", "[::1]:24284"] {
            assert!(hosts.hold(own), "{own}");
        }
        for foreign in
            ["", "localhost", "127.0.0.1", "localhost:24285", "evil:24284", "localhost.evil:24284", "127.1:24284"]
        {
            assert!(!hosts.hold(foreign), "{foreign}");
        }
    }
}
