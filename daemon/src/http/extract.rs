//! Extracts bodies, query parameters and path segments from requests, with errors that name what is wrong.

use std::error::Error as _;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use bytes::Bytes;
use chat_proto::error::ErrorCode;
use http_body_util::LengthLimitError;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::http::problem::Refusal;

/// Maximum size of a request body (128 KiB): fits the longest message with every character escaped.
pub(crate) const BODY_BYTES_MAX: usize = 128 * 1024;

/// Media type of JSON texts, one a line.
pub(crate) const LINES: &str = "application/x-ndjson";

/// Timeout for a body to arrive; the caller is on the same machine.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// A JSON body.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let bytes = read(request).await?;
        if bytes.is_empty() {
            return Err(Refusal::bad("this call requires a JSON body").hint(SEE_OPENAPI));
        }
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be absent.
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let bytes = read(request).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse(&bytes).map(Self) }
    }
}

/// The media type of a body, without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

const SEE_OPENAPI: &str = "GET /v1/openapi.json describes every call";

async fn read(request: Request) -> Result<Bytes, Refusal> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > BODY_BYTES_MAX as u64) {
        return Err(too_long());
    }
    let reading = tokio::time::timeout(BODY_WAIT, to_bytes(request.into_body(), BODY_BYTES_MAX));
    match reading.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(|source| source.is::<LengthLimitError>()) => Err(too_long()),
        Ok(Err(_)) => Err(Refusal::bad("the body is incomplete")),
        Err(_) => Err(Refusal::bad(format!("the body did not arrive within {} s", BODY_WAIT.as_secs()))),
    }
}

fn too_long() -> Refusal {
    Refusal::new(ErrorCode::TooLong, format!("the body is longer than {BODY_BYTES_MAX} bytes"))
}

/// Parses a body. serde alone would also take an array for an object, and null for a field that is absent.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice::<ObjectWithoutNulls>(bytes).and_then(|_| serde_json::from_slice(bytes)).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Syntax | serde_json::error::Category::Eof => "is not JSON",
            serde_json::error::Category::Data | serde_json::error::Category::Io => "does not fit this call",
        };
        Refusal::bad(format!("the body {what}: {error}")).hint(SEE_OPENAPI)
    })
}

/// A JSON object of which no field is null. Its values are not looked at: fields of requests hold no objects.
struct ObjectWithoutNulls;

impl<'de> Deserialize<'de> for ObjectWithoutNulls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = ObjectWithoutNulls;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<ObjectWithoutNulls, A::Error> {
        while let Some((name, value)) = fields.next_entry::<String, Option<IgnoredAny>>()? {
            if value.is_none() {
                return Err(A::Error::custom(format_args!("'{name}' is null: leave it out")));
            }
        }
        Ok(ObjectWithoutNulls)
    }
}

/// The query parameters of a request, checked before against the entry of the table of calls.
pub(crate) struct QueryParams(Vec<(String, String)>);

impl QueryParams {
    /// Reads the query of `uri`.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Refusal> {
        Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|_| Refusal::bad("the query is not percent-encoded UTF-8"))
    }

    /// Checks that each is one of `known` and is given once.
    pub(crate) fn check(&self, known: &[&str]) -> Result<(), Refusal> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let hint = match known {
                    [] => "this call has no query parameters".to_owned(),
                    known => format!("its query parameters are: {}", known.join(", ")),
                };
                return Err(Refusal::bad(format!("unknown query parameter '{name}'")).hint(hint));
            }
            if self.0[..at].iter().any(|(before, _)| before == name) {
                return Err(Refusal::bad(format!("query parameter '{name}' given more than once")).hint("give it once"));
            }
        }
        Ok(())
    }

    /// The value of a parameter; an empty one is an error.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.0.iter().find(|(given, _)| given == name) {
            None => Ok(None),
            Some((_, value)) if value.trim().is_empty() => Err(Refusal::bad(format!("'{name}' is empty"))),
            Some((_, value)) => Ok(Some(value)),
        }
    }

    /// The value of a parameter as a number in a range.
    pub(crate) fn number<N: FromStr + PartialOrd + Display + Copy>(
        &self,
        name: &str,
        min: N,
        max: N,
    ) -> Result<Option<N>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse::<N>() {
            Ok(number) if number >= min && number <= max => Ok(Some(number)),
            Ok(_) | Err(_) => Err(Refusal::bad(format!("'{name}' is '{text}': expected a number from {min} to {max}"))),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParams {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Self::of(&parts.uri)
    }
}

/// The one variable segment of a path, decoded.
pub(crate) struct PathSegment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathSegment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Path::<String>::from_request_parts(parts, state)
            .await
            .map(|Path(text)| Self(text))
            .map_err(|_| Refusal::bad("the path is not percent-encoded UTF-8"))
    }
}

/// The value of a header that may be given once.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| Refusal::bad(format!("the header {name} is not printable ASCII")))
        }
        (Some(_), Some(_)) => Err(Refusal::bad(format!("header {name} given more than once"))),
    }
}
