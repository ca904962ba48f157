//! One call of the local API: method, path, query, headers, body, and how it may be repeated.

use std::time::Duration;

use reqwest::{Method, Url};
use serde::Serialize;
use serde_json::Value;

use crate::message_stream::LineBody;

/// Whether a call may be made again when its outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It would act twice.
    Never,
    /// It acts once however often it is made; a daemon that is not there at all is not waited for.
    Safe,
    /// As safe, and a daemon that is not there is waited for: it was there a moment ago.
    Patient,
}

/// How long to wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerWait {
    /// As long as the client waits by default.
    Default,
    /// As long as this.
    AtMost(Duration),
    /// As long as it takes.
    Unlimited,
}

/// The body of a call.
#[derive(Debug, Clone)]
pub(crate) enum CallBody {
    /// JSON.
    Json(Vec<u8>),
    /// Lines of JSON that are written while it is sent.
    Lines(LineBody),
}

/// A call and how to make it.
#[derive(Debug, Clone)]
pub struct Call {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<CallBody>,
    pub(crate) repeat: Repeat,
    pub(crate) wait: AnswerWait,
}

impl Call {
    /// A `GET` of these path segments.
    pub fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path, None, Repeat::Safe)
    }

    /// A `POST` of a JSON body, made once.
    pub fn post(path: &[&str], body: &impl Serialize) -> Self {
        Self::new(Method::POST, path, Some(json(body)), Repeat::Never)
    }

    /// A `PUT` of a JSON body.
    pub fn put(path: &[&str], body: &impl Serialize) -> Self {
        Self::new(Method::PUT, path, Some(json(body)), Repeat::Safe)
    }

    /// A `DELETE`, made once: the second would find nothing.
    pub fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path, None, Repeat::Never)
    }

    /// A `POST` of a body of lines, made once.
    pub(crate) fn lines(path: &[&str], body: LineBody) -> Self {
        Self::new(Method::POST, path, Some(CallBody::Lines(body)), Repeat::Never)
    }

    fn new(method: Method, path: &[&str], body: Option<CallBody>, repeat: Repeat) -> Self {
        let path = path.iter().map(|segment| (*segment).to_owned()).collect();
        Self { method, path, query: Vec::new(), headers: Vec::new(), body, repeat, wait: AnswerWait::Default }
    }

    /// The same with the set fields of `parameters` as its query.
    #[must_use]
    pub fn query(mut self, parameters: &impl Serialize) -> Self {
        let Ok(Value::Object(fields)) = serde_json::to_value(parameters) else { return self };
        for (name, value) in fields {
            match value {
                Value::Null => {}
                Value::String(text) => self.query.push((name, text)),
                other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    self.query.push((name, other.to_string()));
                }
            }
        }
        self
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same, repeated like this.
    #[must_use]
    pub fn repeat(self, repeat: Repeat) -> Self {
        Self { repeat, ..self }
    }

    /// The same, waiting at most this long for the answer; nothing: as long as it takes.
    #[must_use]
    pub fn timeout(self, timeout: Option<Duration>) -> Self {
        Self { wait: timeout.map_or(AnswerWait::Unlimited, AnswerWait::AtMost), ..self }
    }

    /// Method and path, for errors. The query is left out: it may hold what people search for.
    pub fn name(&self) -> String {
        format!("{} /v1/{}", self.method, self.path.join("/"))
    }

    /// Where the call goes, below the base URL of the API.
    pub(crate) fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().push("v1").extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

/// Bodies are plain structs of the contract, which always serialise.
fn json(body: &impl Serialize) -> CallBody {
    CallBody::Json(serde_json::to_vec(body).expect("request types have string keys and finite numbers"))
}

#[cfg(test)]
mod tests {
    use chat_proto::api::messages::HistoryQuery;

    use super::*;

    fn url(call: &Call) -> String {
        call.url(&Url::parse("http://localhost").expect("a URL")).to_string()
    }

    #[test]
    fn query_holds_what_is_set_and_nothing_unsafe() {
        let call = Call::get(&["messages"]);
        assert_eq!(url(&call.clone().query(&HistoryQuery::default())), "http://localhost/v1/messages");
        let set = HistoryQuery { limit: Some(7), q: Some("a&b=\"ü\" +/?#".into()), ..Default::default() };
        let expected = "http://localhost/v1/messages?limit=7&q=a%26b%3D%22%C3%BC%22+%2B%2F%3F%23";
        assert_eq!(url(&call.query(&set)), expected);
    }

    #[test]
    fn segment_stays_one_segment() {
        assert_eq!(url(&Call::get(&["members", "bob~k2j4w6aa"])), "http://localhost/v1/members/bob~k2j4w6aa");
        assert_eq!(url(&Call::get(&["members", "../x y?"])), "http://localhost/v1/members/..%2Fx%20y%3F");
    }

    #[test]
    fn name_leaves_the_query_out() {
        let set = HistoryQuery { q: Some("secret".into()), ..Default::default() };
        assert_eq!(Call::get(&["messages"]).query(&set).name(), "GET /v1/messages");
    }
}
