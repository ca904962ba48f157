//! A plain HTTP client for tests: one connection for each call, every wait with a deadline.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use chat_proto::error::Problem;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Longest wait for anything in a test; far more than it takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The result of `future`, which has to come in time.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it comes in time")
}

/// Where to call.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    /// With these headers for `Host` and the token.
    Tcp(SocketAddr, Option<String>),
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct TestRequest {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl TestRequest {
    pub(crate) fn new(method: &str, path: impl Into<String>) -> Self {
        Self { method: method.into(), path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn post(path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self::new("POST", path).json(body)
    }

    pub(crate) fn json(self, body: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(self, at: &Endpoint) -> TestResponse {
        let response = self.open(at).await;
        let (parts, body) = response.into_parts();
        let body = soon(body.collect()).await.expect("the body is whole").to_bytes();
        TestResponse { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Sends it and reads the head of the answer.
    pub(crate) async fn open(self, at: &Endpoint) -> axum::http::Response<Incoming> {
        let (stream, host, token) = connect(at).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.path);
        let own_host = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !own_host {
            request = request.header(header::HOST, host);
        }
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(self.body)).expect("a request");
        soon(sender.send_request(request)).await.expect("an answer")
    }
}

async fn connect(at: &Endpoint) -> (Box<dyn Socket>, String, Option<String>) {
    match at {
        Endpoint::Unix(path) => {
            let stream = soon(UnixStream::connect(path)).await.expect("the socket takes connections");
            (Box::new(stream), "localhost".into(), None)
        }
        Endpoint::Tcp(addr, token) => {
            let stream = soon(TcpStream::connect(addr)).await.expect("the port takes connections");
            (Box::new(stream), addr.to_string(), token.clone())
        }
    }
}

/// Sends bytes as they are, closes that half, and reads until the other side closes.
pub(crate) async fn raw(at: &Endpoint, bytes: &[u8]) -> Vec<u8> {
    let (mut stream, _, _) = connect(at).await;
    let mut answer = Vec::new();
    soon(async {
        // The other side may hang up before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut answer).await;
    })
    .await;
    answer
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl TestResponse {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers are text"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("bodies are text")
    }

    /// The body of a success.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).expect("the body is what the contract says")
    }

    /// The problem document of a refusal.
    pub(crate) fn problem(&self) -> Problem {
        assert!(self.status >= 400, "{}: {}", self.status, self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: Problem = serde_json::from_slice(&self.body).expect("a problem document");
        assert_eq!(problem.status, self.status);
        assert_eq!(problem.kind, "about:blank");
        assert!(!problem.detail.is_empty() && !problem.detail.contains('\n'));
        problem
    }
}

/// A block of server-sent events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawSseBlock {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) comment: bool,
}

impl RawSseBlock {
    fn parse(text: &str) -> Self {
        let mut block = Self::default();
        for line in text.lines() {
            match line.split_once(": ").expect("a field") {
                ("id", value) => block.id = Some(value.into()),
                ("event", value) => block.event = Some(value.into()),
                ("data", value) => block.data = Some(value.into()),
                ("", _) => block.comment = true,
                (other, _) => panic!("the field {other} is not of this API"),
            }
        }
        block
    }

    /// The event it carries.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.data.as_deref().expect("an event has data")).expect("data is JSON")
    }
}

/// An open event stream.
pub(crate) struct TestStream {
    body: Incoming,
    text: String,
    separator: &'static str,
}

impl TestStream {
    /// Opens it; the answer must be a success.
    pub(crate) async fn open(at: &Endpoint, ask: TestRequest) -> Self {
        let response = ask.open(at).await;
        assert_eq!(response.status(), 200);
        let lines = response.headers()["content-type"] == "application/x-ndjson";
        Self { body: response.into_body(), text: String::new(), separator: if lines { "\n" } else { "\n\n" } }
    }

    /// The next piece of text up to its separator; nothing when the stream has ended.
    pub(crate) async fn piece(&mut self) -> Option<String> {
        loop {
            if let Some((piece, rest)) = self.text.split_once(self.separator) {
                let piece = piece.to_owned();
                self.text = rest.to_owned();
                return Some(piece);
            }
            let frame = soon(self.body.frame()).await?.ok()?;
            let data = frame.into_data().expect("streams have no trailers");
            self.text.push_str(std::str::from_utf8(&data).expect("pieces are cut between characters"));
        }
    }

    /// The next block.
    pub(crate) async fn block(&mut self) -> RawSseBlock {
        RawSseBlock::parse(&self.piece().await.expect("the stream goes on"))
    }

    /// The next block that is an event.
    pub(crate) async fn event(&mut self) -> RawSseBlock {
        // Signs of life do not prolong the wait.
        let next = async {
            loop {
                let block = self.block().await;
                if block.data.is_some() {
                    return block;
                }
            }
        };
        soon(next).await
    }

    /// Texts of the next messages.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let json = self.event().await.json();
            if json["type"] == "message" {
                texts.push(json["message"]["text"].as_str().expect("a text").to_owned());
            }
        }
        texts
    }
}
