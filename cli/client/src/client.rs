//! Connects to one daemon and makes calls, repeated only where that is safe.
//!
//! A client remembers the route that worked last: the socket of the home, the one that `api.json` names, or TCP. When that
//! one no longer answers, the next attempt starts from the beginning. Nothing is connected before the first call, and
//! connections are kept between calls. Clones share route and connections.
//!
//! Invariants: a call that would act twice is never sent a second time once it may have arrived ([`Repeat`]); no answer is longer
//! than [`ANSWER_BYTES_MAX`]; no wait is without a limit unless the caller asks for one. The typed calls are in `calls`.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chat_proto::api::status::ApiFile;
use chat_proto::error::{ErrorCode, Problem};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::call::{AnswerWait, Call, CallBody, Repeat};
use crate::error::ClientError;
use crate::home::{self, DaemonAddr, Home, LocateError};

/// Maximum length of an answer in bytes: a full page of the longest messages, escaped in JSON, fits.
pub const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Default timeout for an answer: a daemon on this machine answers in milliseconds, unless its disk is very slow.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long a call is repeated by default while the daemon restarts or is busy.
const REPEAT_FOR: Duration = Duration::from_secs(5);

/// First and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A caller of one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    addr: DaemonAddr,
    answer_max: Duration,
    repeat_for: Duration,
    route: Arc<Mutex<Option<Route>>>,
}

/// One way to the API, and its connections.
#[derive(Debug, Clone)]
struct Route {
    http: reqwest::Client,
    base: Url,
    bearer: Option<HeaderValue>,
}

/// An answer that is a success.
#[derive(Debug)]
pub struct Answer {
    call: String,
    status: StatusCode,
    body: Vec<u8>,
}

impl Answer {
    /// Its HTTP status.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The body, as the contract has it.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] when it is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ClientError::Unexpected { call: self.call.clone(), source: error.into() })
    }
}

impl Client {
    /// A caller of the daemon at this place; nothing is connected before the first call.
    pub fn new(addr: DaemonAddr) -> Self {
        Self { addr, answer_max: ANSWER_MAX, repeat_for: REPEAT_FOR, route: Arc::default() }
    }

    /// A caller of the daemon that the environment selects: `CHATD_URL` and `CHATD_TOKEN`, else `CHATD_HOME`, else the default
    /// home.
    ///
    /// # Errors
    /// When the environment names no place, or one that cannot be.
    pub fn from_env() -> Result<Self, LocateError> {
        DaemonAddr::locate(None, home::environment).map(Self::new)
    }

    /// The same, waiting at most this long for an answer; 30 s by default.
    #[must_use]
    pub fn answer_within(self, answer_max: Duration) -> Self {
        Self { answer_max, ..self }
    }

    /// The same, repeating calls at most this long while the daemon restarts or is busy; 5 s by default.
    #[must_use]
    pub fn repeat_for(self, repeat_for: Duration) -> Self {
        Self { repeat_for, ..self }
    }

    /// Where the daemon is looked for.
    pub fn addr(&self) -> &DaemonAddr {
        &self.addr
    }

    /// Makes a call, and repeats it while it may pass later and its [`Repeat`] allows that.
    ///
    /// # Errors
    /// Says how the last attempt failed.
    pub async fn call(&self, call: &Call) -> Result<Answer, ClientError> {
        let started = Instant::now();
        let (mut pause, longest) = PAUSES;
        let mut met = false;
        let mut unsure = None;
        loop {
            let error = match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // A daemon that was never there is not waited for; one that answered or hung up may be restarting.
            met |= !matches!(error, ClientError::NoDaemon { .. });
            let allowed = match call.repeat {
                Repeat::Never => error.is_starting(),
                Repeat::Safe => met,
                Repeat::Patient => true,
            };
            let timed_out = matches!(error, ClientError::TimedOut { .. });
            if !allowed || timed_out || !error.passes_later() || started.elapsed() + pause > self.repeat_for {
                // That no daemon is there now does not show what the broken attempt did.
                return Err(unsure.filter(|_| matches!(error, ClientError::NoDaemon { .. })).unwrap_or(error));
            }
            if matches!(error, ClientError::Broken { .. }) {
                unsure = Some(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, ClientError> {
        let after = match call.wait {
            AnswerWait::Default => self.answer_max,
            AnswerWait::AtMost(after) => after,
            AnswerWait::Unlimited => return self.exchange(call).await,
        };
        tokio::time::timeout(after, self.exchange(call)).await.unwrap_or_else(|_| Err(self.timed_out(after)))
    }

    pub(crate) fn timed_out(&self, after: Duration) -> ClientError {
        let logs = self.addr.command("chatd logs").unwrap_or_else(|| "chatd logs".into());
        ClientError::TimedOut { after, logs }
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, ClientError> {
        read_answer(call, self.send_once(call, "application/json").await?).await
    }

    /// How long calls are repeated.
    pub(crate) fn repeats_for(&self) -> Duration {
        self.repeat_for
    }

    /// Begins a call whose body is written while its answer is read.
    ///
    /// # Errors
    /// Says how the call failed; it is not repeated here.
    pub(crate) async fn begin_lines(&self, call: &Call) -> Result<Response, ClientError> {
        let began = tokio::time::timeout(self.answer_max, self.begin(call, "application/x-ndjson"));
        began.await.unwrap_or_else(|_| Err(self.timed_out(self.answer_max)))
    }

    /// Opens an event stream.
    ///
    /// # Errors
    /// Says how the call failed; it is not repeated here.
    pub(crate) async fn stream(&self, call: &Call) -> Result<Response, ClientError> {
        self.begin(call, "text/event-stream").await
    }

    /// Sends a request and returns as soon as its answer begins.
    async fn begin(&self, call: &Call, accept: &'static str) -> Result<Response, ClientError> {
        let response = self.send_once(call, accept).await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let answer = read_answer(call, response).await?;
        Err(ClientError::Refused(Box::new(strange_problem(answer.status, call))))
    }

    /// Sends a request over the route that worked last, else over the first one that connects.
    async fn send_once(&self, call: &Call, accept: &'static str) -> Result<Response, ClientError> {
        if let Some(route) = self.known_route() {
            match send_over(&route, call, accept).await? {
                Ok(response) => return Ok(response),
                Err(_) => self.remember(None),
            }
        }
        let error = match &self.addr {
            DaemonAddr::Tcp { url, bearer } => {
                match self.try_route(Route::tcp(url.clone(), bearer.clone())?, call, accept).await? {
                    Ok(response) => return Ok(response),
                    Err(error) => error,
                }
            }
            DaemonAddr::Home(home) => {
                // Each time: the next daemon may have been started in another environment.
                let home = &home.clone().follow();
                match self.try_route(Route::unix(&home.socket())?, call, accept).await? {
                    Ok(response) => return Ok(response),
                    // A path too long for a socket is an invalid input: the daemon then announces where else it listens.
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                        match self.send_announced(home, call, accept).await? {
                            Some(response) => return Ok(response),
                            None => error,
                        }
                    }
                    Err(error) => error,
                }
            }
        };
        Err(no_daemon(&self.addr, error))
    }

    /// Sends a request where `api.json` says the API is: another socket, else TCP with the token of the home.
    async fn send_announced(
        &self,
        home: &Home,
        call: &Call,
        accept: &'static str,
    ) -> Result<Option<Response>, ClientError> {
        let Ok(api) = announced(home) else { return Ok(None) };
        if Path::new(&api.socket) != home.socket()
            && let Ok(response) = self.try_route(Route::unix(Path::new(&api.socket))?, call, accept).await?
        {
            return Ok(Some(response));
        }
        let token = std::fs::read_to_string(home.token()).ok();
        let bearer = token.and_then(|token| home::bearer(&token).ok());
        let (Some(url), Some(bearer)) = (api.url.and_then(|url| Url::parse(&url).ok()), bearer) else {
            return Ok(None);
        };
        match self.try_route(Route::tcp(url, Some(bearer))?, call, accept).await? {
            Ok(response) => Ok(Some(response)),
            Err(error) => Err(no_daemon(&self.addr, error)),
        }
    }

    async fn try_route(
        &self,
        route: Route,
        call: &Call,
        accept: &'static str,
    ) -> Result<Result<Response, io::Error>, ClientError> {
        let sent = send_over(&route, call, accept).await;
        if let Ok(Ok(_)) = &sent {
            self.remember(Some(route));
        }
        sent
    }

    fn known_route(&self) -> Option<Route> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, route: Option<Route>) {
        *self.route.lock().unwrap_or_else(PoisonError::into_inner) = route;
    }
}

impl Route {
    fn unix(socket: &Path) -> Result<Self, ClientError> {
        let base = Url::parse("http://localhost").expect("a constant URL");
        Self::new(reqwest::Client::builder().unix_socket(socket.to_owned()), base, None)
    }

    fn tcp(base: Url, bearer: Option<HeaderValue>) -> Result<Self, ClientError> {
        Self::new(reqwest::Client::builder().tcp_nodelay(true), base, bearer)
    }

    fn new(builder: reqwest::ClientBuilder, base: Url, bearer: Option<HeaderValue>) -> Result<Self, ClientError> {
        let http = builder
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tls_backend_preconfigured(no_tls())
            .build()
            .map_err(|source| ClientError::Request { source })?;
        Ok(Self { http, base, bearer })
    }
}

/// A TLS configuration that trusts nothing; the API is plain HTTP on this machine.
///
/// As soon as any crate of a program switches reqwest's TLS on, as iroh does, reqwest builds a configuration of its own for
/// every client: that reads the system's certificates and panics where no provider of cryptography is installed.
fn no_tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

/// Sends one request. The inner result is whether the route connects; nothing was asked when it does not.
async fn send_over(
    route: &Route,
    call: &Call,
    accept: &'static str,
) -> Result<Result<Response, io::Error>, ClientError> {
    let mut request = route.http.request(call.method.clone(), call.url(&route.base)).header(ACCEPT, accept);
    if let Some(bearer) = &route.bearer {
        request = request.header(AUTHORIZATION, bearer.clone());
    }
    for (name, value) in &call.headers {
        request = request.header(*name, value);
    }
    request = match &call.body {
        Some(CallBody::Json(json)) => request.header(CONTENT_TYPE, "application/json").body(json.clone()),
        Some(CallBody::Lines(lines)) => {
            request.header(CONTENT_TYPE, "application/x-ndjson").body(reqwest::Body::wrap(lines.clone()))
        }
        None => request,
    };
    match request.send().await {
        Ok(response) => Ok(Ok(response)),
        Err(error) if error.is_connect() => Ok(Err(connect_error(error))),
        Err(source) if source.is_builder() => Err(ClientError::Request { source }),
        Err(error) => Err(ClientError::broken(&error)),
    }
}

/// Why a route does not connect, as the system has it.
fn connect_error(error: reqwest::Error) -> io::Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            return found
                .raw_os_error()
                .map_or_else(|| io::Error::new(found.kind(), found.to_string()), io::Error::from_raw_os_error);
        }
        cause = inner.source();
    }
    io::Error::other(error)
}

fn no_daemon(addr: &DaemonAddr, source: io::Error) -> ClientError {
    let place = addr.to_string();
    if source.kind() == io::ErrorKind::PermissionDenied {
        ClientError::NotYours { place, source }
    } else {
        ClientError::NoDaemon { place, start: addr.command("chatd start"), source }
    }
}

/// What `api.json` of a home says: how to reach its daemon, which may have been killed since.
///
/// # Errors
/// [`ClientError::NoDaemon`] where there is no such file.
pub fn announced(home: &Home) -> Result<ApiFile, ClientError> {
    let path = home.api_file();
    match std::fs::read(&path).and_then(|content| Ok(serde_json::from_slice(&content)?)) {
        Ok(api) => Ok(api),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(no_daemon(&DaemonAddr::Home(home.clone()), error)),
        Err(source) => Err(ClientError::File { path, source }),
    }
}

async fn read_answer(call: &Call, mut response: Response) -> Result<Answer, ClientError> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| ClientError::broken(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ClientError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(Answer { call: call.name(), status, body });
    }
    let problem = serde_json::from_slice(&body).unwrap_or_else(|_| strange_problem(status, call));
    Err(ClientError::Refused(Box::new(problem)))
}

/// The problem for an answer that is no problem document: something else listens there, or a much older daemon.
fn strange_problem(status: StatusCode, call: &Call) -> Problem {
    let code = match status.as_u16() {
        401 => ErrorCode::Unauthorized,
        403 => ErrorCode::Forbidden,
        404 => ErrorCode::NotFound,
        503 => ErrorCode::ShuttingDown,
        _ => ErrorCode::Unknown,
    };
    let detail = format!("{} was answered with {status} and no reason", call.name());
    let hint = "is it chatd that listens there? 'chatd status' shows where the daemon is";
    Problem { status: status.as_u16(), ..Problem::new(code, detail).with_hint(hint) }
}

#[cfg(test)]
mod tests;
