//! Asks the daemon of a home over its Unix socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use chat_proto::api::status::{ApiFile, Status};
use chat_proto::error::{ErrorCode, Exit, Problem};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::app::home::Home;
use crate::app::report::exit_error::{ExitError, ExitKind};

/// Longest answer that is read (1 MiB): a status has a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How long an answer may take. A daemon that answers later hangs.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How a call to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens. Nothing was done.
    #[error("no daemon runs in {}: start it with '{}'", home.root().display(), home.command("chatd start"))]
    NoDaemon {
        /// The home that was asked.
        home: Home,
    },
    /// The connection broke, or the answer is not one of chatd's. Whether the daemon acted is not known.
    #[error("the daemon in {home} did not answer as chatd does")]
    Broken {
        /// The home that was asked.
        home: PathBuf,
        /// What broke.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer came in time. Whether the daemon acted is not known.
    #[error("the daemon in {} does not answer: see '{}'", home.root().display(), home.command("chatd logs"))]
    TimedOut {
        /// The home that was asked.
        home: Home,
    },
    /// The daemon refused.
    #[error("{}{}", .0.detail, .0.hint.as_ref().map_or_else(String::new, |hint| format!(": {hint}")))]
    Refused(Box<Problem>),
}

impl From<ClientError> for ExitError {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::NoDaemon { .. } => ExitKind::NoDaemon,
            ClientError::Refused(problem) if problem.code.exit() == Exit::NotAllowed => ExitKind::NotAllowed,
            ClientError::Refused(_) | ClientError::Broken { .. } | ClientError::TimedOut { .. } => ExitKind::Refused,
        };
        Self::new(kind, &error)
    }
}

/// A daemon that said how to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    home: Home,
    answer_max: Duration,
    /// What it said.
    pub(crate) api: ApiFile,
}

impl Client {
    /// The daemon that wrote `api.json`; whether it still runs shows when it is asked.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] where there is no such file.
    pub(crate) fn of(home: &Home) -> Result<Self, ClientError> {
        let content = match std::fs::read(home.api_file()) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ClientError::NoDaemon { home: home.clone() });
            }
            Err(error) => return Err(broken(home, error)),
        };
        let api = serde_json::from_slice(&content).map_err(|error| broken(home, error))?;
        Ok(Self { home: home.clone(), answer_max: ANSWER_MAX, api })
    }

    /// The same with more patience.
    pub(crate) fn patient(self, answer_max: Duration) -> Self {
        Self { answer_max, ..self }
    }

    /// How the daemon and its room stand.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn status(&self) -> Result<Status, ClientError> {
        let body = self.call(Method::GET, "/v1/status").await?;
        serde_json::from_slice(&body).map_err(|error| broken(&self.home, error))
    }

    /// Asks the daemon to stop; it answers before it does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn shutdown(&self) -> Result<(), ClientError> {
        match self.call(Method::POST, "/v1/shutdown").await {
            Ok(_) => Ok(()),
            // Somebody else was faster.
            Err(ClientError::Refused(problem)) if problem.code == ErrorCode::ShuttingDown => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn call(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        match tokio::time::timeout(self.answer_max, self.exchange(method, path)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { home: self.home.clone() }),
        }
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        let stream = match UnixStream::connect(&self.api.socket).await {
            Ok(stream) => stream,
            // Left behind by a daemon that was killed.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Err(ClientError::NoDaemon { home: self.home.clone() });
            }
            Err(error) => return Err(broken(&self.home, error)),
        };
        let fail = |error: hyper::Error| broken(&self.home, error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(fail)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::new()))
            .map_err(|error| broken(&self.home, error))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(fail)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| self.unreadable(error))?.to_bytes()))
        };
        tokio::pin!(exchange);
        let (status, body) = tokio::select! {
            answer = &mut exchange => answer?,
            // What was read before the connection ended is handed out by the exchange.
            _ = connection => exchange.await?,
        };
        self.success(status, body)
    }

    fn success(&self, status: StatusCode, body: Bytes) -> Result<Bytes, ClientError> {
        if status.is_success() {
            return Ok(body);
        }
        let problem: Problem = serde_json::from_slice(&body).map_err(|error| broken(&self.home, error))?;
        Err(ClientError::Refused(Box::new(problem)))
    }

    fn unreadable(&self, error: Box<dyn std::error::Error + Send + Sync>) -> ClientError {
        match error.downcast::<LengthLimitError>() {
            Ok(error) => broken(&self.home, *error),
            Err(source) => ClientError::Broken { home: self.home.root().to_owned(), source },
        }
    }
}

fn broken(home: &Home, error: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::Broken { home: home.root().to_owned(), source: Box::new(error) }
}

#[cfg(test)]
mod tests;
