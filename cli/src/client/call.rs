//! One call of the local API: method, path, body, and how it may be repeated.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;

/// How long an answer is waited for where nothing else is said: a daemon on this machine answers in milliseconds, unless
/// its disk is very slow.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What RFC 3986 leaves as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Whether a call may be made again when its outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It would act twice.
    Never,
    /// It acts once however often it is made; a daemon that is not there at all is not waited for.
    Safe,
    /// As safe, and a daemon that is not there is waited for: it was there a moment ago.
    Patient,
}

/// A call and how to make it.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// The JSON body.
    pub(crate) body: Option<Bytes>,
    /// Further headers.
    pub(crate) headers: Vec<(&'static str, &'a str)>,
    /// Whether it may be repeated.
    pub(crate) repeat: Repeat,
    /// How long to wait for the answer; nothing: as long as it takes.
    pub(crate) timeout: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A `GET`.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, None, Repeat::Safe)
    }

    /// A `POST` of a JSON body, made once.
    pub(crate) fn post(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self::new(Method::POST, path, Some(json(body)), Repeat::Never)
    }

    /// A `PUT` of a JSON body.
    pub(crate) fn put(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self::new(Method::PUT, path, Some(json(body)), Repeat::Safe)
    }

    /// A `DELETE`, made once: the second would find nothing.
    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, None, Repeat::Never)
    }

    fn new(method: Method, path: impl Into<String>, body: Option<Bytes>, repeat: Repeat) -> Self {
        Self { method, path: path.into(), body, headers: Vec::new(), repeat, timeout: Some(TIMEOUT) }
    }

    /// The same with a header.
    pub(crate) fn header(mut self, name: &'static str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same, repeated as said.
    pub(crate) fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// The same, waiting so long for the answer.
    pub(crate) fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Method and path, for errors.
    pub(crate) fn name(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

/// Bodies are plain structs of the contract, which always serialise.
fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("request types have string keys and finite numbers").into()
}

/// `text` as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// `path` with the set fields of `parameters` as its query.
pub(crate) fn query(path: &str, parameters: &impl Serialize) -> String {
    let mut text = path.to_owned();
    let mut joint = '?';
    if let Ok(Value::Object(fields)) = serde_json::to_value(parameters) {
        for (name, value) in fields {
            let value = match value {
                Value::Null => continue,
                Value::String(value) => value,
                other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
            };
            text.push(joint);
            text += &segment(&name);
            text.push('=');
            text += &segment(&value);
            joint = '&';
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use chat_proto::api::messages::HistoryQuery;

    use super::*;

    #[test]
    fn queries_hold_what_is_set_and_nothing_unsafe() {
        assert_eq!(query("/v1/messages", &HistoryQuery::default()), "/v1/messages");
        let set = HistoryQuery { limit: Some(7), q: Some("a&b=\"ü\" +/?#".into()), ..Default::default() };
        assert_eq!(query("/v1/messages", &set), "/v1/messages?limit=7&q=a%26b%3D%22%C3%BC%22%20%2B%2F%3F%23");
    }

    #[test]
    fn a_segment_stays_one_segment() {
        assert_eq!(segment("bob~k2j4w6aa"), "bob~k2j4w6aa");
        assert_eq!(segment("../x y"), "..%2Fx%20y");
    }

    #[test]
    fn errors_name_a_call_without_its_query() {
        assert_eq!(Call::get("/v1/messages?q=secret").name(), "GET /v1/messages");
    }
}
