//! The services on the TCP port of a peer, each named by its first line, and how to ask for them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::id::PeerId;
use n0_future::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Asks for the peer and its room; see [`crate::net::tcp::hello`].
pub(crate) const HELLO_LINE: &[u8] = b"CHATD HELLO 1\n";

/// Leads to the embedded relay, where one runs; see [`crate::net::tcp::relay`].
pub(crate) const RELAY_LINE: &[u8] = b"CHATD RELAY 1\n";

/// Stays open and silent until this process ends; see [`crate::net::tcp::watch`].
pub(crate) const WATCH_LINE: &[u8] = b"CHATD WATCH 1\n";

/// First byte of the answer of relay and watch, before the id of the peer that serves: a member's private address may lead
/// to another peer in this network, or back to the caller.
const SERVED: u8 = b'+';

/// First byte of the answer of a relay whose own peer uses another relay: a caller reaches the peers that use this one, but
/// not its owner.
const SERVED_FROM_AWAY: u8 = b'-';

/// Whether the peer that runs a relay uses it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whereabouts {
    /// It uses its own relay, or none.
    Home,
    /// It uses the relay of another peer.
    Away,
}

/// A service on the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The hello.
    Hello,
    /// The relay.
    Relay,
    /// A watch.
    Watch,
}

impl Service {
    /// The service that a first line, without its line feed, names.
    pub(crate) fn named(line: &[u8]) -> Option<Self> {
        let services = [(HELLO_LINE, Self::Hello), (RELAY_LINE, Self::Relay), (WATCH_LINE, Self::Watch)];
        services.iter().find(|(known, _)| known.strip_suffix(b"\n") == Some(line)).map(|(_, service)| *service)
    }
}

/// Asks a peer at one of its addresses for the relay or a watch.
///
/// # Errors
/// When no peer answers there, the service is not available, or another peer answers.
pub(crate) async fn ask_for(line: &[u8], peer: &PeerId, addr: SocketAddr) -> io::Result<(TcpStream, Whereabouts)> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    stream.write_all(line).await?;
    let mut answer = [0; 33];
    stream.read_exact(&mut answer).await?;
    match answer[0] {
        SERVED | SERVED_FROM_AWAY if answer[1..] != peer.as_bytes()[..] => Err(io::ErrorKind::InvalidData.into()),
        SERVED => Ok((stream, Whereabouts::Home)),
        SERVED_FROM_AWAY => Ok((stream, Whereabouts::Away)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Answers that the service is given, and by which peer.
///
/// # Errors
/// When the caller has gone.
pub(crate) async fn serve(stream: &mut TcpStream, me: &PeerId, whereabouts: Whereabouts) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answer = [0; 33];
    answer[0] = match whereabouts {
        Whereabouts::Home => SERVED,
        Whereabouts::Away => SERVED_FROM_AWAY,
    };
    answer[1..].copy_from_slice(me.as_bytes());
    stream.write_all(&answer).await
}

/// Runs all tries at once and returns the first success within `timeout_after`; the other tries are dropped. An address
/// that swallows packets must not delay the one that answers.
pub(crate) async fn first_ok<T>(
    tries: impl IntoIterator<Item: Future<Output = Option<T>>>,
    timeout_after: Duration,
) -> Option<T> {
    let mut tries: FuturesUnordered<_> = tries.into_iter().collect();
    let winner = async {
        while let Some(ended) = tries.next().await {
            if ended.is_some() {
                return ended;
            }
        }
        None
    };
    timeout(timeout_after, winner).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use n0_future::boxed::BoxFuture;
    use std::future::{Ready, pending, ready};

    #[test]
    fn first_line_names_its_service() {
        assert_eq!(Service::named(b"CHATD HELLO 1"), Some(Service::Hello));
        assert_eq!(Service::named(b"CHATD RELAY 1"), Some(Service::Relay));
        assert_eq!(Service::named(b"CHATD WATCH 1"), Some(Service::Watch));
        for other in [&b""[..], b"CHATD HELLO 2", b"CHATD HELLO 1\r", b"GET / HTTP/1.1\r"] {
            assert_eq!(Service::named(other), None);
        }
    }

    /// Longer than any of these tests takes.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn first_success_does_not_wait_for_other_tries() {
        let tries: [BoxFuture<Option<u8>>; 4] =
            [Box::pin(ready(None)), Box::pin(pending()), Box::pin(ready(Some(7))), Box::pin(pending())];
        assert_eq!(first_ok(tries, LONG).await, Some(7));
    }

    #[tokio::test]
    async fn tries_without_success_end_in_none() {
        assert_eq!(first_ok([ready(None::<u8>), ready(None)], LONG).await, None);
        assert_eq!(first_ok(Vec::<Ready<Option<u8>>>::new(), LONG).await, None);
        assert_eq!(first_ok([pending::<Option<u8>>()], Duration::from_millis(5)).await, None);
    }
}
