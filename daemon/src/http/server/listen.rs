//! Sockets of the API: a Unix socket that is created with its final permissions, and a TCP port on loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chat_proto::API_PORT;
use tokio::net::{TcpListener, UnixListener};

/// Number of ports to try if the default one is taken: as many daemons as one machine is likely to run.
const PORTS_TRIED: u16 = 16;

/// Permissions of the socket: only its owner.
const SOCKET_MODE: u32 = 0o600;

/// TCP address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpListen {
    /// None.
    Off,
    /// The first free port of this address, from its port on; port 0 takes any.
    FreeFrom(SocketAddr),
    /// Only this address. It may be other than loopback: callers need the token, which is sent in the clear.
    Exactly(SocketAddr),
}

impl Default for TcpListen {
    fn default() -> Self {
        Self::FreeFrom(SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT)))
    }
}

/// Why the API cannot listen. No socket is open.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket cannot be created.
    #[error("cannot listen on the socket {}", path.display())]
    Socket {
        /// Path of the socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The path exists and is not a socket.
    #[error("{} is not a socket: move it away, the socket of the API goes there", .0.display())]
    NotASocket(PathBuf),
    /// The given address is not available.
    #[error("cannot listen on {addr}, choose another address with --api or none with --no-tcp")]
    Tcp {
        /// The address.
        addr: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// All tried ports are taken.
    #[error("no free port from {first} on, choose an address with --api or none with --no-tcp")]
    NoPort {
        /// The first address that was tried.
        first: SocketAddr,
        /// The error of the last one.
        source: io::Error,
    },
}

/// The open sockets of the API.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) unix: Option<(UnixListener, SocketFile)>,
    pub(crate) tcp: Option<TcpListener>,
}

impl Listeners {
    /// Opens the sockets. Replaces a socket that a dead daemon left behind: the caller holds the home's lock.
    ///
    /// # Errors
    /// The socket that could not be opened.
    pub async fn bind(socket: Option<&Path>, tcp: TcpListen) -> Result<Self, ListenError> {
        let unix = socket.map(bind_unix).transpose()?;
        let tcp = match tcp {
            TcpListen::Off => None,
            TcpListen::FreeFrom(first) => Some(bind_free(first).await?),
            TcpListen::Exactly(addr) => {
                Some(TcpListener::bind(addr).await.map_err(|source| ListenError::Tcp { addr, source })?)
            }
        };
        let beyond = tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()).filter(|addr| !addr.ip().is_loopback());
        if let Some(addr) = beyond {
            tracing::warn!(%addr, "the local API listens beyond loopback, its token is sent in the clear");
        }
        Ok(Self { unix, tcp })
    }

    /// Path of the Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(_, file)| file.0.as_path())
    }

    /// The TCP address.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Base of the URLs over TCP.
    pub fn url(&self) -> Option<String> {
        self.tcp_addr().map(|addr| format!("http://{addr}"))
    }
}

/// The socket's file, removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, "the socket of the local API was removed already");
        }
    }
}

/// Binds next to the final path, sets the permissions, then renames: another user can never connect, whatever the umask,
/// and there is always a socket.
fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), ListenError> {
    let fail = |source| ListenError::Socket { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) | Err(_) => {}
    }
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail(error)),
    }
    let listener = UnixListener::bind(&beside).map_err(fail)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(SOCKET_MODE))
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(fail)?;
    Ok((listener, SocketFile(path.to_owned())))
}

async fn bind_free(first: SocketAddr) -> Result<TcpListener, ListenError> {
    let mut addr = first;
    loop {
        let source = match TcpListener::bind(addr).await {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        match addr.port().checked_add(1) {
            Some(next) if source.kind() == io::ErrorKind::AddrInUse && next - first.port() < PORTS_TRIED => {
                addr.set_port(next);
            }
            Some(_) | None => return Err(ListenError::NoPort { first, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn socket_is_private_and_removed_with_its_listener() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("chatd.sock");
        let listeners = Listeners::bind(Some(&path), TcpListen::Off).await.expect("binds");
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert_eq!(listeners.socket(), Some(path.as_path()));
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1, "nothing else is left there");
        drop(listeners);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn stale_socket_is_replaced_but_a_file_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("chatd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "a plain listener leaves its file behind");
        drop(Listeners::bind(Some(&path), TcpListen::Off).await.expect("replaces it"));
        std::fs::write(&path, "mine").expect("writable");
        let refused = Listeners::bind(Some(&path), TcpListen::Off).await;
        assert!(matches!(refused, Err(ListenError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "mine");
    }

    #[tokio::test]
    async fn taken_port_is_skipped_unless_it_is_given() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let taken = Listeners::bind(None, TcpListen::FreeFrom(any)).await.expect("any port");
        let addr = taken.tcp_addr().expect("listens");
        assert!(addr.ip().is_loopback());
        let next = Listeners::bind(None, TcpListen::FreeFrom(addr)).await.expect("the next free port");
        assert_ne!(next.tcp_addr(), taken.tcp_addr());
        let refused = Listeners::bind(None, TcpListen::Exactly(addr)).await;
        assert!(matches!(refused, Err(ListenError::Tcp { .. })));
    }
}
