//! The forwarder between this peer's endpoint and the relay of whoever holds the rendezvous role.
//!
//! The endpoint is given one relay URL for ever, that of the forwarder on loopback. The forwarder connects it to the
//! holder, cuts the stream when the role moves, and holds new connections while nobody is known: so the relay client
//! never waits out a back-off, and relayed pairs go on as soon as the successor is known.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use iroh::RelayUrl;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::net::ports::RELAY_LINE;

/// Most connections of the endpoint to its relay: it uses one, and while one is being replaced two.
const CONNECTIONS_MAX: usize = 8;

/// How long one address of the holder may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// How long after a failed connection the next is tried, unless the role moves before.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Where the relay is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nobody is known: connections are held.
    #[default]
    Unknown,
    /// In this process, at this loopback address.
    Own(SocketAddr),
    /// At another member, at one of these addresses of its TCP port.
    Member(Vec<SocketAddr>),
}

/// The forwarder; its tasks end with the token they were started with.
#[derive(Debug)]
pub(crate) struct Forwarder {
    url: RelayUrl,
    target: watch::Sender<Target>,
}

impl Forwarder {
    /// Listens on loopback and begins to hold connections.
    ///
    /// # Errors
    /// When no loopback port can be had.
    pub(crate) async fn start(tracker: &TaskTracker, token: CancellationToken) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url: RelayUrl =
            format!("http://{}", listener.local_addr()?).parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let (target, targets) = watch::channel(Target::default());
        tracker.spawn(accept(listener, targets, tracker.clone(), token));
        Ok(Self { url, target })
    }

    /// The relay URL of every peer, as this endpoint sees it.
    pub(crate) fn url(&self) -> &RelayUrl {
        &self.url
    }

    /// Turns to another relay; streams to the one before are cut.
    pub(crate) fn turn_to(&self, target: Target) {
        self.target.send_if_modified(|current| {
            let changed = *current != target;
            *current = target;
            changed
        });
    }
}

async fn accept(
    listener: TcpListener,
    targets: watch::Receiver<Target>,
    tracker: TaskTracker,
    token: CancellationToken,
) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = token.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file handles, most likely: without a pause this would spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (targets, token) = (targets.clone(), token.clone());
        tracker.spawn(async move {
            tokio::select! {
                () = carry(stream, targets) => {}
                () = token.cancelled() => {}
            }
            drop(place);
        });
    }
}

/// Carries one connection of the endpoint until either side ends it or the role moves.
async fn carry(mut client: TcpStream, mut targets: watch::Receiver<Target>) {
    // Relayed packets must not wait for others to fill a segment.
    let _ = client.set_nodelay(true);
    loop {
        let target = targets.borrow_and_update().clone();
        let connected = tokio::select! {
            connected = connect(&target) => connected,
            changed = targets.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = gone(&client) => return,
        };
        let Some(mut relay) = connected else { continue };
        tokio::select! {
            ended = copy_bidirectional(&mut client, &mut relay) => {
                if let Err(error) = ended {
                    debug!(%error, "connection to the relay ended");
                }
            }
            changed = targets.changed() => debug!(moved = changed.is_ok(), "the relay moves"),
        }
        return;
    }
}

/// Connects to the relay; waits before it says that this failed, and for ever while nobody is known.
async fn connect(target: &Target) -> Option<TcpStream> {
    match target {
        Target::Unknown => std::future::pending().await,
        Target::Own(addr) => {
            if let Ok(Ok(stream)) = timeout(CONNECT_MAX, TcpStream::connect(addr)).await {
                let _ = stream.set_nodelay(true);
                return Some(stream);
            }
        }
        Target::Member(addrs) => {
            for addr in addrs {
                if let Ok(Ok(mut stream)) = timeout(CONNECT_MAX, TcpStream::connect(addr)).await {
                    let _ = stream.set_nodelay(true);
                    if stream.write_all(RELAY_LINE).await.is_ok() {
                        return Some(stream);
                    }
                }
            }
        }
    }
    tokio::time::sleep(RETRY_AFTER).await;
    None
}

/// Ends when the client has closed a connection that is still held.
async fn gone(client: &TcpStream) {
    let mut byte = [0; 1];
    while let Ok(read) = client.peek(&mut byte).await {
        if read == 0 {
            return;
        }
        // It has said something and waits for the relay; its end cannot be seen behind that.
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
        let addr = listener.local_addr().expect("bound");
        (listener, addr)
    }

    async fn client(forwarder: &Forwarder) -> TcpStream {
        let port = forwarder.url().port().expect("a port");
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the forwarder listens");
        stream.write_all(b"hello").await.expect("sends");
        stream
    }

    async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
        let mut raw = vec![0; bytes];
        timeout(Duration::from_secs(10), stream.read_exact(&mut raw)).await.expect("in time").expect("bytes");
        raw
    }

    #[tokio::test]
    async fn a_connection_is_held_until_somebody_is_known_and_cut_when_the_role_moves() {
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        let forwarder = Forwarder::start(&tracker, token.clone()).await.expect("starts");
        let (first, first_addr) = listener().await;
        let (second, second_addr) = listener().await;

        let mut held = client(&forwarder).await;
        forwarder.turn_to(Target::Member(vec![first_addr]));
        let (mut relay, _) = first.accept().await.expect("the held connection comes");
        assert_eq!(read(&mut relay, RELAY_LINE.len() + 5).await, [RELAY_LINE, b"hello"].concat());
        relay.write_all(b"hi").await.expect("answers");
        assert_eq!(read(&mut held, 2).await, b"hi");

        forwarder.turn_to(Target::Own(second_addr));
        let mut rest = Vec::new();
        timeout(Duration::from_secs(10), held.read_to_end(&mut rest)).await.expect("cut at once").ok();
        let _next = client(&forwarder).await;
        let (mut relay, _) = second.accept().await.expect("the next goes to the second");
        assert_eq!(read(&mut relay, 5).await, b"hello", "no first line on the way to the own relay");
        token.cancel();
    }
}
