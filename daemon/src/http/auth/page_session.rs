//! Requests of the page in the browser, which is known by a cookie and a key.
//!
//! A browser adds the cookie to requests that other pages cause as well. So a request with it must come from a page of this
//! very address, as far as the browser says where it comes from (`Sec-Fetch-Site`; `Origin`, which all browsers send with
//! everything but `GET` and `HEAD`), and it must carry the key, which other pages do not know and cannot send without the
//! daemon's permission.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use chat_proto::api::web::PAGE_KEY_HEADER;
use chat_proto::error::ErrorCode;

use crate::http::access_tokens::{PageSecret, Token};
use crate::http::extract::header_text;
use crate::http::problem::Refusal;

/// Name of the cookie of a daemon at this port: cookies are shared by all ports of a machine.
pub(crate) fn cookie_name(port: u16) -> String {
    format!("chatd-{port}")
}

/// The secret of the session that a request shows; nothing if it has no cookie.
pub(super) fn secret(headers: &HeaderMap, port: u16) -> Result<Option<PageSecret>, Refusal> {
    let Some(cookie) = cookie(headers, port)? else { return Ok(None) };
    let key = header_text(headers, PAGE_KEY_HEADER)?.ok_or_else(|| {
        Refusal::new(ErrorCode::Unauthorized, "the request has the cookie of a session and not its key")
            .hint("'chat web' opens the page in a browser; programs send a token")
    })?;
    Ok(Some(PageSecret { cookie: Token::new(cookie), key: Token::new(key) }))
}

fn cookie(headers: &HeaderMap, port: u16) -> Result<Option<&str>, Refusal> {
    let name = cookie_name(port);
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(given, _)| *given == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (found, None) => Ok(found),
        (_, Some(_)) => Err(Refusal::new(ErrorCode::Unauthorized, "the cookie of the session was given twice")
            .hint("delete the cookies of this address and run 'chat web' again")),
    }
}

/// Rejects a request that does not come from a page of this daemon. A foreign `Origin` is rejected before.
pub(super) fn check_same_origin(request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    let foreign = match header_text(headers, "sec-fetch-site")? {
        Some(site) => site != "same-origin",
        None => false,
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if foreign || (!reads && !headers.contains_key(header::ORIGIN)) {
        return Err(Refusal::new(ErrorCode::Forbidden, "the request does not come from the daemon's own page")
            .hint("'chat web' opens the page in a browser; programs send a token"));
    }
    Ok(())
}
