//! Calls the API of a daemon, on its Unix socket or over TCP, and reads the answers.
//!
//! Typed calls go through `chat-client`, as those of any Rust program. What it cannot do or would repair goes through
//! [`DaemonApi::call`], the one raw client: bad requests, single attempts, statuses of successes.

pub mod events;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use chat_client::{Client, ClientError, DaemonAddr, OutgoingMessage, Repeat};
use chat_proto::api::messages::{HistoryQuery, Message, SendRequest, SentMessage};
use chat_proto::api::peers::PeerView;
use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::api::status::Status;
use chat_proto::error::Problem;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

use crate::api::events::EventReader;

/// How long an answer may take: longer than any wait that a test asks for.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The API of one daemon. Every raw call has a connection of its own.
#[derive(Clone, Debug)]
pub struct DaemonApi {
    client: Client,
    place: ApiSocket,
    token: Option<String>,
}

/// Where the API is.
#[derive(Clone, Debug)]
enum ApiSocket {
    /// On a Unix socket.
    Unix(PathBuf),
    /// At `HOST:PORT`.
    Tcp(String),
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{call} was not answered: {why}")]
pub struct CallError {
    call: String,
    why: Unanswered,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("nobody listens: {0}")]
    Connect(#[from] io::Error),
    #[error("the connection broke: {0:?}")]
    Broken(#[from] hyper::Error),
    #[error("it took longer than {ANSWER_MAX:?}")]
    TooSlow,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct RawCall<'a> {
    /// `GET`, `POST` and so on.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Headers beside those that every call has.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, which is JSON.
    pub body: Option<&'a [u8]>,
}

/// An answer.
#[derive(Debug)]
pub struct RawReply {
    /// Method and path of the call.
    pub call: String,
    /// Its status.
    pub status: u16,
    /// Its media type.
    pub media_type: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl DaemonApi {
    /// On a Unix socket, called `chatd.sock` as that of every daemon.
    ///
    /// # Panics
    /// When the socket is in no directory.
    pub fn unix(socket: &Path) -> Self {
        let run = socket.parent().expect("a socket is in a directory");
        let home = chat_client::Home::locate(Some(run), |_| None).expect("an absolute path");
        let client = client(DaemonAddr::Home(home.with_run(run.to_owned())));
        Self { client, place: ApiSocket::Unix(socket.to_owned()), token: None }
    }

    /// On TCP, with a token or without.
    ///
    /// # Panics
    /// When that is not the URL of an API.
    #[track_caller]
    pub fn tcp(url: &str, token: Option<&str>) -> Self {
        let authority = url.strip_prefix("http://").expect("the API speaks plain HTTP on loopback");
        let variable = |name: &str| match name {
            "CHATD_URL" => Some(url.into()),
            "CHATD_TOKEN" => token.map(Into::into),
            _ => None,
        };
        let client = client(DaemonAddr::locate(None, variable).expect("the URL of an API"));
        let place = ApiSocket::Tcp(authority.trim_end_matches('/').to_owned());
        Self { client, place, token: token.map(str::to_owned) }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Makes a call.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn call(&self, call: RawCall<'_>) -> Result<RawReply, CallError> {
        let exchange = async {
            let response = self.open(call).await?;
            let status = response.status().as_u16();
            let media_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
            let media_type = media_type.unwrap_or_default().to_owned();
            let body = response.into_body().collect().await?.to_bytes().to_vec();
            Ok(RawReply { call: call.to_string(), status, media_type, body })
        };
        let bounded = async { tokio::time::timeout(ANSWER_MAX, exchange).await.unwrap_or(Err(Unanswered::TooSlow)) };
        block_on(bounded).map_err(|why| CallError { call: call.to_string(), why })
    }

    /// Makes a call and gives the answer with its body still to be read.
    async fn open(&self, call: RawCall<'_>) -> Result<Response<Incoming>, Unanswered> {
        match &self.place {
            ApiSocket::Unix(socket) => {
                exchange(UnixStream::connect(socket).await?, self.request("localhost", call)).await
            }
            ApiSocket::Tcp(authority) => {
                exchange(TcpStream::connect(authority).await?, self.request(authority, call)).await
            }
        }
    }

    fn request(&self, host: &str, call: RawCall<'_>) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(call.method).uri(call.path).header("Host", host);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if call.body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let body = call.body.unwrap_or_default().to_vec();
        request.body(Full::new(body.into())).expect("a test writes proper headers")
    }

    /// `GET`.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> RawReply {
        answered(self.call(RawCall::get(path)))
    }

    /// `POST` of JSON.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn post(&self, path: &str, body: &impl Serialize) -> RawReply {
        answered(self.call(RawCall { method: "POST", path, headers: &[], body: Some(&json(body)) }))
    }

    /// Posts a message under a key.
    ///
    /// # Errors
    /// When there is no answer: the daemon may have it or not.
    pub fn post_message(&self, message: &SendRequest, key: &str) -> Result<RawReply, CallError> {
        let headers = [("Idempotency-Key", key)];
        self.call(RawCall { method: "POST", path: "/v1/messages", headers: &headers, body: Some(&json(message)) })
    }

    /// Sends a message to the room.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn send(&self, text: &str) -> SentMessage {
        self.send_to(&[], text)
    }

    /// Sends a message to these members.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn send_to(&self, to: &[&str], text: &str) -> SentMessage {
        let to = to.iter().map(|name| (*name).to_owned()).collect();
        typed("a message", self.client.send(&OutgoingMessage::new(to, text), Repeat::Never))
    }

    /// The state of the daemon.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn status(&self) -> Status {
        typed("the status", self.client.status())
    }

    /// The members.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn peers(&self) -> Vec<PeerView> {
        typed("the members", self.client.peers())
    }

    /// The rendezvous role, as the daemon knows it.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn rendezvous(&self) -> RendezvousView {
        typed("the role", self.client.rendezvous())
    }

    /// The whole history, in the shared order.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn history(&self) -> Vec<Message> {
        typed("the history", self.client.last_messages(&HistoryQuery::default(), u64::MAX))
    }

    /// The same where it may fail.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn try_history(&self) -> Result<Vec<Message>, String> {
        let query = HistoryQuery::default();
        block_on(self.client.last_messages(&query, u64::MAX)).map_err(|error| error.to_string())
    }

    /// The texts of the whole history, in the shared order.
    ///
    /// # Panics
    /// When it does not say.
    #[track_caller]
    pub fn texts(&self) -> Vec<String> {
        self.history().into_iter().map(|message| message.text).collect()
    }

    /// Opens the event stream: behind an event (`Last-Event-ID`), or from now on.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[track_caller]
    pub fn events(&self, last: Option<&str>) -> EventReader {
        self.events_at("/v1/events", last)
    }

    /// The same with a path of one's own.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[track_caller]
    pub fn events_at(&self, path: &str, last: Option<&str>) -> EventReader {
        self.try_events_at(path, last).unwrap_or_else(|why| panic!("no event stream: {why}"))
    }

    /// The same where it may fail.
    ///
    /// # Errors
    /// Why there is no stream.
    pub fn try_events_at(&self, path: &str, last: Option<&str>) -> Result<EventReader, String> {
        let resume = last.map(|last| ("Last-Event-ID", last));
        let headers: Vec<(&str, &str)> = std::iter::once(("Accept", "text/event-stream")).chain(resume).collect();
        let opened = async {
            let open = self.open(RawCall { headers: &headers, ..RawCall::get(path) });
            tokio::time::timeout(ANSWER_MAX, open).await.unwrap_or(Err(Unanswered::TooSlow))
        };
        let response = block_on(opened).map_err(|why| why.to_string())?;
        match response.status().as_u16() {
            200 => Ok(EventReader::read(response.into_body())),
            status => Err(format!("{path} is refused with {status}")),
        }
    }
}

impl RawReply {
    /// The body of an answer with this status.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self, status: u16) -> T {
        assert_eq!(self.status, status, "{} was answered with {}", self.call, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}: {}", self.call, self.text()))
    }

    /// The problem document of a refusal with this status.
    ///
    /// # Panics
    /// When the answer is another one.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Problem {
        let problem: Problem = self.json(status);
        assert_eq!(self.media_type, "application/problem+json", "{}", self.call);
        assert_eq!(problem.status, status, "{}", self.call);
        problem
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl<'a> RawCall<'a> {
    /// A plain `GET`.
    pub const fn get(path: &'a str) -> Self {
        Self { method: "GET", path, headers: &[], body: None }
    }
}

impl fmt::Display for RawCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// A typed client that makes every call once.
fn client(addr: DaemonAddr) -> Client {
    Client::new(addr).answer_within(ANSWER_MAX).repeat_for(Duration::ZERO)
}

/// The answer of a typed call.
#[track_caller]
fn typed<T>(what: &str, call: impl Future<Output = Result<T, ClientError>>) -> T {
    match block_on(call) {
        Ok(answer) => answer,
        Err(error) => panic!("no answer to {what}: {error:?}"),
    }
}

#[track_caller]
fn answered(reply: Result<RawReply, CallError>) -> RawReply {
    match reply {
        Ok(reply) => reply,
        Err(error) => panic!("{error}"),
    }
}

fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("request types have string keys and finite numbers")
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Unanswered>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response that is read, or is dropped, or with the daemon.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Runs something asynchronous on the harness's own runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

/// Waits for something, unless Ctrl-C or the deadline comes first.
pub fn unless_interrupted<T>(deadline: Duration, future: impl Future<Output = T>) -> Option<T> {
    block_on(async {
        tokio::select! {
            done = future => Some(done),
            _ = tokio::signal::ctrl_c() => None,
            () = tokio::time::sleep(deadline) => None,
        }
    })
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be had")
    })
}
