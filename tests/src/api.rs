//! Calls the API of a daemon, on its Unix socket or over TCP, and reads the answers.

use std::future::Future;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use chat_proto::api::messages::{Message, MessagePage, SendRequest, SentMessage};
use chat_proto::api::peers::{PeerList, PeerView};
use chat_proto::api::status::Status;
use chat_proto::error::Problem;
use reqwest::{Client, Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::events::Events;

/// How long an answer may take: longer than any wait that a test asks for.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Messages a page, the most that the API gives.
const PAGE: usize = 1000;

/// The API of one daemon.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    base: String,
    token: Option<String>,
}

/// The connection failed, so that there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{call} was not answered")]
pub struct CallError {
    call: String,
    source: reqwest::Error,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Method and path of the call.
    pub call: String,
    /// Its status.
    pub status: u16,
    /// Its media type.
    pub media_type: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Api {
    /// On a Unix socket.
    pub fn unix(socket: &Path) -> Self {
        Self::new(Client::builder().unix_socket(socket), "http://localhost", None)
    }

    /// On TCP, with a token or without.
    pub fn tcp(url: &str, token: Option<&str>) -> Self {
        Self::new(Client::builder(), url, token)
    }

    fn new(builder: reqwest::ClientBuilder, base: &str, token: Option<&str>) -> Self {
        // A proxy of the environment has no business between a test and its daemon.
        let client = builder.no_proxy().build().expect("a client without TLS");
        Self { client, base: base.trim_end_matches('/').to_owned(), token: token.map(str::to_owned) }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Makes a call that is built by hand.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn call(
        &self,
        method: Method,
        path: &str,
        build: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Reply, CallError> {
        let call = format!("{method} {path}");
        let request = build(self.request(method, path)).timeout(ANSWER_MAX);
        let exchange = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let media_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
            let media_type = media_type.unwrap_or_default().to_owned();
            let body = response.bytes().await?.to_vec();
            Ok((status, media_type, body))
        };
        match block_on(exchange) {
            Ok((status, media_type, body)) => Ok(Reply { call, status, media_type, body }),
            Err(source) => Err(CallError { call, source }),
        }
    }

    /// `GET`.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, |request| request).unwrap_or_else(|error| panic!("{}", told(&error)))
    }

    /// `POST` of JSON.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn post(&self, path: &str, body: &impl Serialize) -> Reply {
        self.call(Method::POST, path, |request| request.json(body)).unwrap_or_else(|error| panic!("{}", told(&error)))
    }

    /// Posts a message under a key.
    ///
    /// # Errors
    /// When there is no answer: the daemon may have it or not.
    pub fn post_message(&self, message: &SendRequest, key: &str) -> Result<Reply, CallError> {
        self.call(Method::POST, "/v1/messages", |request| request.header("Idempotency-Key", key).json(message))
    }

    /// Says something to the room.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn send(&self, text: &str) -> SentMessage {
        self.post("/v1/messages", &SendRequest { text: text.into(), ..SendRequest::default() }).json(201)
    }

    /// Says something to some.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn send_to(&self, to: &[&str], text: &str) -> SentMessage {
        let to = to.iter().map(|name| (*name).to_owned()).collect();
        self.post("/v1/messages", &SendRequest { text: text.into(), to, ..SendRequest::default() }).json(201)
    }

    /// How the daemon stands.
    ///
    /// # Panics
    /// When it does not say.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.get("/v1/status").json(200)
    }

    /// The members.
    ///
    /// # Panics
    /// When it does not say.
    #[track_caller]
    pub fn peers(&self) -> Vec<PeerView> {
        self.get("/v1/peers").json::<PeerList>(200).peers
    }

    /// The whole history, in the shared order.
    ///
    /// # Panics
    /// When it does not say.
    #[track_caller]
    pub fn history(&self) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        loop {
            let path = match messages.first() {
                None => format!("/v1/messages?limit={PAGE}"),
                Some(first) => format!("/v1/messages?limit={PAGE}&before={}", first.id),
            };
            let mut page: MessagePage = self.get(&path).json(200);
            let done = !page.more;
            page.messages.append(&mut messages);
            messages = page.messages;
            if done {
                return messages;
            }
        }
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
    pub fn events(&self, last: Option<&str>) -> Events {
        self.events_at("/v1/events", last)
    }

    /// The same with a path of one's own.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[track_caller]
    pub fn events_at(&self, path: &str, last: Option<&str>) -> Events {
        let mut request = self.request(Method::GET, path).header("Accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = block_on(request.send()).unwrap_or_else(|error| panic!("no event stream: {error:?}"));
        assert_eq!(response.status().as_u16(), 200, "{path} is refused");
        Events::read(response)
    }
}

impl Reply {
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

fn told(error: &CallError) -> String {
    format!("{error}: {:?}", error.source)
}

/// Runs something asynchronous on the harness's own runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be had")
    })
}
