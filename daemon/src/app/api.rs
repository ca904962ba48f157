//! Opens the local API of a home: its sockets, its token, and `api.json`, which says how to reach it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chat_client::{Client, DaemonAddr};
use chat_proto::API_PORT;
use chat_proto::api::status::ApiFile;
use chat_proto::id::PeerId;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::home::{self, Home, HomeError, token_files};
use crate::clock::Clock;
use crate::http::access_tokens::AccessTokens;
use crate::http::api_state::{Api, ApiOptions, RoomSlot};
use crate::http::daemon_control::DaemonControl;
use crate::http::server::listen::{ListenError, Listeners, TcpListen};
use crate::http::server::serve;
use crate::net::settings::Listen;
use crate::private_file;

/// How long a daemon may take to answer a command or another daemon of its home. One that answers later hangs.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A caller of the daemon of a home, which asks once and does not wait for a restart.
pub(crate) fn client(home: &Home) -> Client {
    Client::new(DaemonAddr::Home(home.clone())).answer_within(ANSWER_MAX).repeat_for(Duration::ZERO)
}

/// Why the API cannot be offered. No socket is open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// No directory for the socket.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The sockets cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A file in the run directory cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The open sockets of the API, before it answers.
#[derive(Debug)]
pub(crate) struct OpenApi {
    listeners: Listeners,
    tokens: AccessTokens,
    file: ApiFile,
}

impl OpenApi {
    /// Opens the sockets. The caller holds the home's lock.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn open(home: &Home, tcp: Option<Listen>) -> Result<Self, ApiError> {
        let socket = home::prepare_socket(home)?;
        let tokens = token_files::open(home).map_err(|(path, source)| ApiError::Write { path, source })?;
        let listeners = Listeners::bind(Some(&socket), tcp.map_or(TcpListen::Off, tcp_listen)).await?;
        let file = ApiFile {
            pid: std::process::id(),
            socket: socket.to_string_lossy().into_owned(),
            url: listeners.url(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        Ok(Self { listeners, tokens, file })
    }

    /// Starts to answer, and writes `api.json`.
    ///
    /// # Errors
    /// [`ApiError::Write`].
    pub(crate) fn serve(
        self,
        home: &Home,
        me: PeerId,
        room: Arc<RoomSlot>,
        process: Arc<dyn DaemonControl>,
    ) -> Result<RunningApi, ApiError> {
        let Self { listeners, tokens, file } = self;
        let started_at = Clock::start().now().wall;
        let (tcp_addr, home_dir) = (listeners.tcp_addr(), home.root().to_owned());
        let api = Api::new(ApiOptions { me, tokens, tcp_addr, home: home_dir, started_at, room, process });
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listeners, api, shutdown.clone()));
        let path = home.api_file();
        let socket = PathBuf::from(&file.socket);
        let short = socket.parent().filter(|directory| *directory != home.run()).map(Path::to_owned);
        serde_json::to_vec(&file)
            .map_err(io::Error::from)
            .and_then(|text| private_file::write_over(&path, &text))
            .map_err(|source| ApiError::Write { path: path.clone(), source })?;
        Ok(RunningApi { path, short, shutdown, task })
    }
}

/// The API while it answers.
#[derive(Debug)]
pub(crate) struct RunningApi {
    path: PathBuf,
    /// The directory that was created because the home's path is too long for a socket.
    short: Option<PathBuf>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningApi {
    /// Accepts no more calls; streams end, and calls in progress have a short time to.
    pub(crate) fn begin_to_close(&self) {
        if let Err(error) = private_file::ignore_missing(fs::remove_file(&self.path)) {
            tracing::warn!(%error, "api.json is left behind");
        }
        self.shutdown.cancel();
    }

    /// Waits until the last call has been answered and the socket is gone.
    pub(crate) async fn closed(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task of the local API failed");
        }
        if let Some(Err(error)) = self.short.map(fs::remove_dir) {
            tracing::warn!(%error, "the directory of the socket is left behind");
        }
    }
}

/// A port that was asked for must be free; otherwise the usual one is used, or the next free one.
fn tcp_listen(listen: Listen) -> TcpListen {
    let ip = listen.ip.unwrap_or(Ipv4Addr::LOCALHOST.into());
    match listen.port {
        None => TcpListen::FreeFrom(SocketAddr::new(ip, API_PORT)),
        Some(port) => TcpListen::Exactly(SocketAddr::new(ip, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_requested_port_is_required() {
        let listen = |ip: Option<&str>, port| tcp_listen(Listen { ip: ip.map(|ip| ip.parse().expect("an ip")), port });
        let addr = |addr: &str| addr.parse().expect("an address");
        assert_eq!(listen(None, None), TcpListen::default());
        assert_eq!(listen(Some("127.0.0.2"), None), TcpListen::FreeFrom(addr("127.0.0.2:24284")));
        assert_eq!(listen(None, Some(7)), TcpListen::Exactly(addr("127.0.0.1:7")));
        assert_eq!(listen(None, Some(0)), TcpListen::Exactly(addr("127.0.0.1:0")));
        assert_eq!(listen(Some("::1"), Some(7)), TcpListen::Exactly(addr("[::1]:7")));
    }
}
