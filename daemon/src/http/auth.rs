//! Identifies callers: the same user over the Unix socket, the owner of the token over TCP.
//!
//! A web page in the user's browser can also open TCP connections to the daemon. Three checks keep it out: the `Host` must
//! be one of the daemon's own (a name that was rebound to 127.0.0.1 is not), an `Origin` other than the daemon's own is
//! rejected, and every call except `GET /healthz` needs the token, which is in a file that only the user can read.
//!
//! Over the Unix socket the kernel reports the caller's user id, so neither the token nor the `Host` is checked there. The
//! server notes with each request how it arrived ([`CallerConnection`]); a request without that note is rejected.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chat_proto::error::ErrorCode;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use crate::http::problem::Refusal;

/// Random bytes in a generated token.
const TOKEN_BYTES: usize = 32;

/// The secret that a caller over TCP sends. Its `Debug` hides it.
#[derive(Clone)]
pub struct Token {
    text: String,
    hash: blake3::Hash,
}

impl Token {
    /// A token with this text; surrounding white space is ignored.
    pub fn new(text: &str) -> Self {
        let text = text.trim().to_owned();
        let hash = blake3::hash(text.as_bytes());
        Self { text, hash }
    }

    /// A new random token of 256 bits.
    pub fn generate() -> Self {
        Self::new(&data_encoding::HEXLOWER.encode(&rand::random::<[u8; TOKEN_BYTES]>()))
    }

    /// The text, for the file and for `chatd env`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Compares in constant time. An empty token never matches.
    fn matches(&self, shown: &[u8]) -> bool {
        let equal = self.hash.as_bytes().ct_eq(blake3::hash(shown).as_bytes());
        !self.text.is_empty() && bool::from(equal)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The connection of a request; added to each request by the server.
#[derive(Clone, Debug)]
pub(crate) struct CallerConnection {
    /// The caller.
    pub(crate) via: Caller,
    /// Cancelled when the server ends: streams end at once.
    pub(crate) ending: CancellationToken,
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
pub(crate) struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// Names of the address that a connection was accepted at.
    pub(crate) fn of(local: SocketAddr) -> Self {
        let port = local.port();
        let mut hosts = vec![format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")];
        let own = local.to_string();
        if !hosts.contains(&own) {
            hosts.push(own);
        }
        Self(hosts)
    }

    fn hold(&self, host: &str) -> bool {
        self.0.iter().any(|own| own.eq_ignore_ascii_case(host))
    }
}

/// Rejects callers that are not identified.
pub(crate) async fn guard(State(token): State<Token>, request: Request, next: Next) -> Response {
    match check(&token, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(token: &Token, request: &Request) -> Result<(), Refusal> {
    let via = request.extensions().get::<CallerConnection>().map(|connection| &connection.via);
    match via {
        Some(Caller::SameUser) => Ok(()),
        Some(Caller::Tcp(hosts)) => {
            check_host(hosts, request)?;
            check_origin(hosts, request.headers())?;
            let open = request.uri().path() == "/healthz" && matches!(*request.method(), Method::GET | Method::HEAD);
            if open { Ok(()) } else { check_token(token, request.headers()) }
        }
        Some(Caller::OtherUser) | None => {
            Err(Refusal::new(ErrorCode::Forbidden, "this daemon belongs to another user")
                .hint("run 'chatd start' as your own user"))
        }
    }
}

fn check_host(hosts: &AllowedHosts, request: &Request) -> Result<(), Refusal> {
    let foreign = |detail: String| {
        Refusal::new(ErrorCode::Forbidden, detail)
            .hint(format!("use the address http://{}", hosts.0.first().map_or("127.0.0.1", String::as_str)))
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

fn check_token(token: &Token, headers: &HeaderMap) -> Result<(), Refusal> {
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
    if token.matches(rest.trim().as_bytes()) { Ok(()) } else { Err(refused("the token is wrong")) }
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

    #[test]
    fn token_matches_only_itself() {
        let token = Token::new(" secret\n");
        assert!(token.matches(b"secret"));
        for wrong in ["", "Secret", "secret ", "secre", "secrets"] {
            assert!(!token.matches(wrong.as_bytes()), "{wrong:?}");
        }
        assert!(!Token::new("").matches(b""), "an empty token matches nothing");
        assert!(!format!("{token:?}").contains("secret"));
        assert_ne!(Token::generate().as_str(), Token::generate().as_str());
        assert_eq!(Token::generate().as_str().len(), 2 * TOKEN_BYTES);
    }

    #[test]
    fn other_user_with_a_valid_token_is_rejected() {
        let mut request = Request::new(axum::body::Body::empty());
        let code = |request: &Request| check(&Token::new("t"), request).map_err(|refusal| refusal.problem().code);
        request.headers_mut().insert(header::AUTHORIZATION, header::HeaderValue::from_static("Bearer t"));
        assert_eq!(code(&request), Err(ErrorCode::Forbidden), "a request without a connection");
        for (via, answer) in [(Caller::OtherUser, Err(ErrorCode::Forbidden)), (Caller::SameUser, Ok(()))] {
            request.extensions_mut().insert(CallerConnection { via, ending: CancellationToken::new() });
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
