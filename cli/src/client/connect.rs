//! Opens a connection to the daemon: its Unix socket, or TCP with a token.

use std::io;
use std::path::Path;

use chat_proto::api::status::ApiFile;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::CallError;
use crate::home::{self, Target};

/// An open connection and the headers that go with it.
pub(super) struct Wire {
    /// Takes one request at a time.
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// The `Host` header.
    pub(super) authority: HeaderValue,
    /// The `Authorization` header; a Unix socket needs none.
    pub(super) bearer: Option<HeaderValue>,
}

/// Connects to the daemon.
///
/// # Errors
/// [`CallError::NoDaemon`] or [`CallError::NotYours`]; nothing was asked of anybody.
pub(super) async fn connect(target: &Target) -> Result<Wire, CallError> {
    match target {
        Target::Url { authority, bearer } => {
            let stream = tcp(authority).await.map_err(|source| no_daemon(target, source))?;
            wire(stream, authority, bearer.clone()).await
        }
        Target::Home { run, .. } => match UnixStream::connect(run.join("chatd.sock")).await {
            Ok(stream) => wire(stream, "localhost", None).await,
            // A path too long for a socket is an invalid input: the daemon then announces where else it listens.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                announced(target, run, error).await
            }
            Err(error) => Err(no_daemon(target, error)),
        },
    }
}

/// Connects as `api.json` says.
async fn announced(target: &Target, run: &Path, error: io::Error) -> Result<Wire, CallError> {
    let file = std::fs::read(run.join("api.json")).ok();
    let Some(api) = file.and_then(|bytes| serde_json::from_slice::<ApiFile>(&bytes).ok()) else {
        return Err(no_daemon(target, error));
    };
    if let Ok(stream) = UnixStream::connect(&api.socket).await {
        return wire(stream, "localhost", None).await;
    }
    let token = std::fs::read_to_string(run.join("token")).ok();
    let bearer = token.and_then(|token| home::bearer(&token).ok());
    let (Some(authority), Some(bearer)) = (api.url.as_deref().and_then(|url| url.strip_prefix("http://")), bearer)
    else {
        return Err(no_daemon(target, error));
    };
    let stream = tcp(authority).await.map_err(|source| no_daemon(target, source))?;
    wire(stream, authority, Some(bearer)).await
}

async fn tcp(authority: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn no_daemon(target: &Target, source: io::Error) -> CallError {
    let place = target.to_string();
    let start = match target {
        Target::Home { start, .. } => Some(start.clone()),
        Target::Url { .. } => None,
    };
    if source.kind() == io::ErrorKind::PermissionDenied {
        CallError::NotYours { place, source }
    } else {
        CallError::NoDaemon { place, start, source }
    }
}

async fn wire<S>(stream: S, authority: &str, bearer: Option<HeaderValue>) -> Result<Wire, CallError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let authority = HeaderValue::from_str(authority).map_err(hyper::http::Error::from)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(CallError::broken)?;
    // Ends with the sender, or with the daemon; how it ended is told to the call that waits on it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(Wire { sender, authority, bearer })
}
