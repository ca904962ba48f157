//! Lets connections in: refuses early, then hands members to their links and strangers to admission.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_core::admission::codec::ADMISSION_ALPN;
use chat_core::wire::ROOM_ALPN;
use iroh::endpoint::{Connection, Incoming, IncomingAddr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{Instrument, debug, info_span};

use crate::net::admission::limits::Rates;
use crate::net::admission::server;
use crate::net::context::{Shared, peer_id};
use crate::net::transport::close::CloseCode;
use crate::net::transport::connection::Link;
use crate::net::transport::connections::{Accepted, Patience};
use crate::net::transport::path::canonical;
use crate::net::transport::tie_break::Greeting;

/// Most handshakes at a time: they cost signatures and memory before it is known who asks.
const HANDSHAKES_MAX: usize = 128;

/// From how many handshakes on a sender must prove first that it receives at its address (QUIC retry), so that forged
/// addresses cannot use up the rest.
const HANDSHAKES_RETRY: usize = 32;

/// How long a handshake and the greeting may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// How long a connection of the peer waits for a dial of ours that goes first when both dial at once.
const CROSSED_MAX: Duration = Duration::from_secs(1);

/// Accepts until the endpoint closes.
pub(crate) async fn run(shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let rates = Arc::new(Rates::default());
    loop {
        let incoming = tokio::select! {
            incoming = shared.endpoint.accept() => incoming,
            () = shared.token.cancelled() => None,
        };
        let Some(incoming) = incoming else { return };
        let source = source(&incoming);
        if source.is_some_and(|ip| !rates.take(ip, Instant::now())) {
            incoming.refuse();
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let pressed = handshakes.available_permits() < HANDSHAKES_MAX - HANDSHAKES_RETRY;
        if pressed && source.is_some() && !incoming.remote_addr_validated() {
            // Fails only for validated addresses; the sender comes back with a token.
            let _ = incoming.retry();
            continue;
        }
        let span = info_span!("accept", me = %shared.me.short());
        let (task_shared, rates) = (shared.clone(), rates.clone());
        let task = async move { handshake(&task_shared, incoming, permit, source, &rates).await };
        shared.tracker.spawn(task.instrument(span));
    }
}

/// The network a connection comes from, as far as it counts against the rates: none over a relay, which carries members
/// only, and none from this machine.
fn source(incoming: &Incoming) -> Option<IpAddr> {
    let IncomingAddr::Ip(addr) = incoming.remote_addr() else { return None };
    match canonical(addr).ip() {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(ip.into()),
        // Whoever has one address of a /64 has them all.
        IpAddr::V6(ip) => Some(Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into()),
    }
}

async fn handshake(
    shared: &Arc<Shared>,
    incoming: Incoming,
    permit: OwnedSemaphorePermit,
    source: Option<IpAddr>,
    rates: &Rates,
) {
    let connection = match timeout(HANDSHAKE_MAX, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return debug!(%error, "handshake failed"),
        Err(_) => return debug!("handshake took too long"),
    };
    if connection.alpn() == ROOM_ALPN {
        // The gate has let it pass: a member, whose connections are free.
        if let Some(ip) = source {
            rates.give_back(ip);
        }
        if timeout(HANDSHAKE_MAX, welcome(shared, &connection)).await.is_err() {
            debug!("the greeting took too long");
            connection.close(CloseCode::Protocol.var_int(), b"");
        }
    } else if connection.alpn() == ADMISSION_ALPN {
        drop(permit);
        server::serve(shared, connection).await;
    }
}

/// Reads the greeting and carries the connection, unless another one to that peer goes first.
async fn welcome(shared: &Arc<Shared>, connection: &Connection) {
    let peer = peer_id(connection.remote_id());
    let Ok((send, mut recv)) = connection.accept_bi().await else { return };
    let mut raw = [0; Greeting::BYTES];
    if recv.read_exact(&mut raw).await.is_err() {
        return connection.close(CloseCode::Protocol.var_int(), b"");
    }
    let greeting = Greeting::decode(raw);
    let mut decision = shared.links.accept(&shared.gate, peer, &greeting, Patience::Wait);
    if let Accepted::AfterDial(done) = &decision {
        // Whether the dial ended in time or not, the decision is made now.
        let _ = timeout(CROSSED_MAX, done.cancelled()).await;
        decision = shared.links.accept(&shared.gate, peer, &greeting, Patience::Over);
    }
    let refused = match decision {
        Accepted::Keep(turn) => {
            let welcome = Some(shared.links.welcome());
            return Link { peer, connection: connection.clone(), send, recv, turn, welcome }.spawn(shared);
        }
        Accepted::Duplicate | Accepted::AfterDial(_) => CloseCode::Duplicate,
        Accepted::NotMember => CloseCode::NotMember,
        Accepted::Busy => CloseCode::Busy,
    };
    debug!(remote = %peer.short(), ?refused, "connection refused");
    connection.close(refused.var_int(), b"");
}
