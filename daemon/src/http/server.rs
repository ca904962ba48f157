//! Accepts connections and serves the API on them until shutdown.
//!
//! Each connection has a task of its own and a permit: the number of connections is bounded per socket, so that a caller
//! without a token on TCP cannot keep the user's own commands out of the Unix socket. Heads, idle time and buffers are
//! bounded as well. On shutdown, accepting stops, event streams end at once, calls in progress have [`GRACE`] to finish,
//! and so have keyed sends whose callers have hung up. A message that was stored by then is not lost: only its answer is.
//! Started by the process (`app::api`), which waits for [`serve`] to return.

pub mod listen;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::api_state::{Api, READERS_MAX};
use crate::http::auth::{AllowedHosts, Caller, CallerConnection};
use crate::http::routes::router;
use crate::http::server::listen::Listeners;

/// Maximum number of connections on each of the two sockets: all event streams, and 256 calls. More wait in the
/// kernel's queue. Counted per socket, so that callers without a token cannot block the user's own commands.
pub const CONNECTIONS_MAX: usize = READERS_MAX + 256;

/// Number of open files that the daemon wants to be allowed: connections on both sockets, and those that remain.
const FILES_WANTED: u64 = 2 * CONNECTIONS_MAX as u64 + FILES_BESIDE;

/// Number of files besides the connections of the API: the database, links to peers, newcomers, a relay.
const FILES_BESIDE: u64 = 512;

/// Timeout for the head of a request, and for an idle connection.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// Maximum size of a request's head, and of buffered output for a slow reader, per connection (64 KiB).
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Time that calls in progress have to finish on shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// Pause after a failed accept, which happens when no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API until `shutdown`. Then stops accepting, ends event streams at once, gives other calls a short time to
/// finish, and removes the socket's file.
pub async fn serve(listeners: Listeners, api: Arc<Api>, shutdown: CancellationToken) {
    let Listeners { unix, tcp } = listeners;
    let connections_max = allow_files();
    let server =
        Server { router: router(Arc::clone(&api)), tasks: TaskTracker::new(), ending: shutdown, connections_max };
    let on_unix = async {
        if let Some((listener, _file)) = &unix {
            server.accept_unix(listener).await;
        }
    };
    let on_tcp = async {
        if let Some(listener) = &tcp {
            server.accept_tcp(listener).await;
        }
    };
    tokio::join!(on_unix, on_tcp);
    drop((unix, tcp));
    server.tasks.close();
    server.tasks.wait().await;
    api.tasks.close();
    if timeout(GRACE, api.tasks.wait()).await.is_err() {
        tracing::debug!("sends still wait for other peers; their messages are stored");
    }
}

struct Server {
    router: Router,
    tasks: TaskTracker,
    ending: CancellationToken,
    /// Maximum number of connections on each socket.
    connections_max: usize,
}

impl Server {
    async fn accept_unix(&self, listener: &UnixListener) {
        let places = Arc::new(Semaphore::new(self.connections_max));
        while let Some(place) = self.place(&places).await {
            match self.ending.run_until_cancelled(listener.accept()).await {
                Some(Ok((stream, _))) => {
                    let via = caller(&stream);
                    self.spawn(stream, via, place);
                }
                Some(Err(error)) => rest(&error).await,
                None => return,
            }
        }
    }

    async fn accept_tcp(&self, listener: &TcpListener) {
        let places = Arc::new(Semaphore::new(self.connections_max));
        while let Some(place) = self.place(&places).await {
            match self.ending.run_until_cancelled(listener.accept()).await {
                Some(Ok((stream, _))) => match prepare(&stream) {
                    Ok(via) => self.spawn(stream, via, place),
                    Err(error) => tracing::debug!(%error, "a connection to the local API closed at once"),
                },
                Some(Err(error)) => rest(&error).await,
                None => return,
            }
        }
    }

    /// A permit for one more connection; none on shutdown.
    async fn place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        self.ending.run_until_cancelled(Arc::clone(places).acquire_owned()).await?.ok()
    }

    fn spawn<S>(&self, stream: S, via: Caller, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = CallerConnection::new(via, self.ending.child_token());
        let router = self.router.clone();
        self.tasks.spawn(async move {
            serve_connection(stream, router, connection).await;
            drop(place);
        });
    }
}

/// Raises the number of files that this process may have open to what it wants, or as far as it may; returns the number of
/// connections on each socket for which that is enough.
fn allow_files() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.map_or(FILES_WANTED, |maximum| maximum.min(FILES_WANTED));
    if limit.current.is_some_and(|current| current < allowed) {
        limit.current = Some(allowed);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files cannot be raised");
        }
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(FILES_WANTED);
    // Where few files are allowed, half of them are left for the rest.
    let for_connections = allowed.saturating_sub(FILES_BESIDE.min(allowed / 2));
    usize::try_from(for_connections / 2).unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX)
}

async fn serve_connection<S>(stream: S, router: Router, connection: CallerConnection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ending = connection.ending.clone();
    let calls = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        calls.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = ending.cancelled() => {
            serving.as_mut().graceful_shutdown();
            timeout(GRACE, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to the local API failed");
    }
}

/// Waits for a file descriptor to become free. Nothing can notify this, so it is a fixed pause.
async fn rest(error: &io::Error) {
    tracing::warn!(%error, "the local API cannot accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn caller(stream: &UnixStream) -> Caller {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own => Caller::SameUser,
        Ok(_) | Err(_) => Caller::OtherUser,
    }
}

/// Answers are small and callers wait for them: they are sent at once.
fn prepare(stream: &TcpStream) -> io::Result<Caller> {
    stream.set_nodelay(true)?;
    Ok(Caller::Tcp(Arc::new(AllowedHosts::of(stream.local_addr()?))))
}
