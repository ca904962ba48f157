//! Calls of the local API: one request at a time over one kept connection, repeated only where that is safe.

mod call;
mod connect;

use std::time::{Duration, Instant};

use chat_proto::error::{ErrorCode, Problem};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use call::{Call, Repeat, query, segment};
use connect::Wire;

use crate::home::Target;

/// Longest answer that is read: a full page of the longest messages, escaped in JSON, fits.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How long a call is repeated while the daemon restarts or is busy.
const REPEAT_FOR: Duration = Duration::from_secs(5);

/// First and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens there. Nothing was done; the call passes once a daemon runs.
    #[error("no daemon answers at {place}")]
    NoDaemon {
        /// Where one was looked for.
        place: String,
        /// The command that starts one there; unknown where a URL was given.
        start: Option<String>,
        /// Why the connection failed.
        source: std::io::Error,
    },
    /// The socket belongs to somebody else. Nothing was done.
    #[error("the daemon at {place} belongs to another user")]
    NotYours {
        /// The socket.
        place: String,
        /// Why the connection failed.
        source: std::io::Error,
    },
    /// The connection ended before the answer. Whether the daemon acted is not known.
    #[error("the connection to the daemon ended before it answered")]
    Broken {
        /// What ended it, where that is known.
        source: Option<hyper::Error>,
    },
    /// No answer came in time. Whether the daemon acted is not known.
    #[error("the daemon did not answer within {} s", after.as_secs())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The daemon refused; nothing was done.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The answer is not one of chatd's.
    #[error("the answer to {call} is not one of this version's chatd")]
    Strange {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The answer is longer than [`ANSWER_BYTES_MAX`].
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes, ask for less at once")]
    TooLong,
    /// The request cannot be written as HTTP.
    #[error("the request cannot be written")]
    Request {
        /// Why.
        #[from]
        source: hyper::http::Error,
    },
}

impl CallError {
    fn broken(source: hyper::Error) -> Self {
        Self::Broken { source: Some(source) }
    }

    /// Whether the same call may pass in a moment, when the daemon is back or has less to do.
    pub(crate) fn passes_later(&self) -> bool {
        match self {
            Self::NoDaemon { .. } | Self::Broken { .. } | Self::TimedOut { .. } => true,
            Self::Refused(problem) => matches!(problem.code, ErrorCode::ShuttingDown | ErrorCode::Busy),
            Self::NotYours { .. } | Self::Strange { .. } | Self::TooLong | Self::Request { .. } => false,
        }
    }

    /// Whether a daemon that has just started may answer so, for a while.
    pub(crate) fn is_of_a_restart(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status >= 500 || problem.code == ErrorCode::NotInRoom)
    }
}

/// An answer that is a success.
#[derive(Debug)]
pub(crate) struct Answer {
    call: String,
    /// Its status.
    pub(crate) status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// The body, as the contract has it.
    ///
    /// # Errors
    /// [`CallError::Strange`] when it is something else.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|source| CallError::Strange { call: self.call.clone(), source })
    }
}

/// A caller of one daemon.
pub(crate) struct Client {
    target: Target,
    wire: Option<Wire>,
}

impl Client {
    /// A caller; nothing is connected before the first call.
    pub(crate) fn new(target: Target) -> Self {
        Self { target, wire: None }
    }

    /// Another caller of the same daemon, with its own connection.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.target.clone())
    }

    /// `GET`, read as `T`.
    ///
    /// # Errors
    /// Says how the call failed.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, CallError> {
        self.call(&Call::get(path)).await?.read()
    }

    /// `POST` of a JSON body, once; the answer read as `T`.
    ///
    /// # Errors
    /// Says how the call failed.
    pub(crate) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        self.call(&Call::post(path, body)).await?.read()
    }

    /// Makes a call, and repeats it while it may pass later and its [`Repeat`] allows that.
    ///
    /// # Errors
    /// Says how the last attempt failed.
    pub(crate) async fn call(&mut self, call: &Call<'_>) -> Result<Answer, CallError> {
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
            met |= !matches!(error, CallError::NoDaemon { .. });
            let allowed = match call.repeat {
                Repeat::Never => false,
                Repeat::Safe => met,
                Repeat::Patient => true,
            };
            let timed_out = matches!(error, CallError::TimedOut { .. });
            if !allowed || timed_out || !error.passes_later() || started.elapsed() + pause > REPEAT_FOR {
                // That nobody is there now does not tell what the broken attempt did.
                return Err(unsure.filter(|_| matches!(error, CallError::NoDaemon { .. })).unwrap_or(error));
            }
            if matches!(error, CallError::Broken { .. }) {
                unsure = Some(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn attempt(&mut self, call: &Call<'_>) -> Result<Answer, CallError> {
        let Some(after) = call.timeout else { return self.exchange(call).await };
        match tokio::time::timeout(after, self.exchange(call)).await {
            Ok(result) => result,
            Err(_) => {
                self.wire = None;
                Err(CallError::TimedOut { after })
            }
        }
    }

    async fn exchange(&mut self, call: &Call<'_>) -> Result<Answer, CallError> {
        let mut wire = match self.kept().await {
            Some(wire) => wire,
            None => connect::connect(&self.target).await?,
        };
        let request = request(call, &wire, "application/json")?;
        let response = wire.sender.send_request(request).await.map_err(CallError::broken)?;
        let answer = read_answer(call, response).await;
        self.wire = Some(wire);
        answer
    }

    /// The connection of the call before, if it still stands.
    async fn kept(&mut self) -> Option<Wire> {
        let mut wire = self.wire.take()?;
        wire.sender.ready().await.ok().map(|()| wire)
    }

    /// Opens an event stream on a connection of its own.
    ///
    /// # Errors
    /// Says how the call failed; it is not repeated here.
    pub(crate) async fn stream(&self, call: &Call<'_>) -> Result<Stream, CallError> {
        let mut wire = connect::connect(&self.target).await?;
        let request = request(call, &wire, "text/event-stream")?;
        let response = wire.sender.send_request(request).await.map_err(CallError::broken)?;
        if response.status() == StatusCode::OK {
            return Ok(Stream { body: response.into_body(), _wire: wire });
        }
        let answer = read_answer(call, response).await?;
        Err(CallError::Refused(Box::new(strange_problem(answer.status, call))))
    }
}

/// The body of an open event stream.
pub(crate) struct Stream {
    body: Incoming,
    _wire: Wire,
}

impl Stream {
    /// The next bytes; nothing when the stream has ended, in whatever way.
    pub(crate) async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                return Some(data);
            }
        }
    }
}

fn request(call: &Call<'_>, wire: &Wire, accept: &str) -> Result<Request<Full<Bytes>>, CallError> {
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&call.path)
        .header(HOST, wire.authority.clone())
        .header(ACCEPT, accept);
    if let Some(bearer) = &wire.bearer {
        request = request.header(AUTHORIZATION, bearer.clone());
    }
    for (name, value) in &call.headers {
        request = request.header(*name, *value);
    }
    if call.body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    Ok(request.body(Full::new(call.body.clone().unwrap_or_default()))?)
}

async fn read_answer(call: &Call<'_>, response: Response<Incoming>) -> Result<Answer, CallError> {
    let status = response.status();
    let body = match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return Err(match error.downcast::<hyper::Error>() {
                Ok(source) => CallError::broken(*source),
                Err(other) => {
                    debug_assert!(other.is::<LengthLimitError>(), "a body fails by its length or by its connection");
                    CallError::TooLong
                }
            });
        }
    };
    if status.is_success() {
        return Ok(Answer { call: call.name(), status, body });
    }
    let problem = serde_json::from_slice(&body).unwrap_or_else(|_| strange_problem(status, call));
    Err(CallError::Refused(Box::new(problem)))
}

/// What stands for an answer that is no problem document: something else listens there, or a much older daemon.
fn strange_problem(status: StatusCode, call: &Call<'_>) -> Problem {
    let code = match status.as_u16() {
        401 => ErrorCode::Unauthorized,
        403 => ErrorCode::Forbidden,
        404 => ErrorCode::NotFound,
        503 => ErrorCode::ShuttingDown,
        _ => ErrorCode::Unknown,
    };
    let detail = format!("{} was answered with {status} and no reason", call.name());
    let hint = "is it chatd that listens there? 'chatd status' says where the daemon is";
    Problem { status: status.as_u16(), ..Problem::new(code, detail).with_hint(hint) }
}
