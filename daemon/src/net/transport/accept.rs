//! Accepts connections: refuses early, then starts connections of members and serves strangers.
//!
//! One task takes what arrives at the endpoint; each handshake runs in a task of its own. Before a handshake costs anything,
//! three bounds apply: attempts per network, handshakes at a time, and, under pressure, a proof that the sender receives at
//! its address. After it, the protocol decides: the room protocol is for members, whom the gate has admitted in the
//! handshake; the admission protocol is for strangers.
//!
//! Invariants: attempts of members do not count against their network. Which of two connections to a peer is kept is
//! decided in the table, never here.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_core::admission::codec::ADMISSION_ALPN;
use chat_core::wire::ROOM_ALPN;
use iroh::Endpoint;
use iroh::endpoint::{Connection, Incoming, IncomingAddr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, info_span};

use crate::net::admission::limits::NetworkLimits;
use crate::net::admission::server::Admissions;
use crate::net::context::{NetContext, peer_id};
use crate::net::transport::close::CloseCode;
use crate::net::transport::connection::MemberConnection;
use crate::net::transport::connections::{Accepted, ConnectionTable, Patience};
use crate::net::transport::path::canonical;
use crate::net::transport::tie_break::Greeting;

/// Maximum number of handshakes at a time: they cost signatures and memory before the sender is known.
const HANDSHAKES_MAX: usize = 128;

/// Number of handshakes from which a sender must first prove that it receives at its address (QUIC retry), so that forged
/// addresses cannot use up the rest.
const HANDSHAKES_RETRY: usize = 32;

/// Timeout for a handshake, and for the greeting.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// How long a connection of the peer waits for a dial of ours that has priority when both dial at once.
const CROSSED_MAX: Duration = Duration::from_secs(1);

/// Accepts connections.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) ctx: NetContext,
    pub(crate) endpoint: Endpoint,
    pub(crate) connections: Arc<ConnectionTable>,
    pub(crate) admissions: Arc<Admissions>,
}

impl Acceptor {
    /// Accepts until the endpoint closes.
    pub(crate) async fn run(self: Arc<Self>) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let limits = Arc::new(NetworkLimits::default());
        let start = Instant::now();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                () = self.ctx.token.cancelled() => None,
            };
            let Some(incoming) = incoming else { return };
            let source = source(&incoming);
            if source.is_some_and(|ip| !limits.take(ip, start.elapsed())) {
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
            let span = info_span!("accept", me = %self.ctx.me.short());
            let (acceptor, limits) = (self.clone(), limits.clone());
            self.ctx.spawn(span, async move { acceptor.handshake(incoming, permit, source, &limits).await });
        }
    }

    async fn handshake(
        &self,
        incoming: Incoming,
        permit: OwnedSemaphorePermit,
        source: Option<IpAddr>,
        limits: &NetworkLimits,
    ) {
        let connection = match timeout(HANDSHAKE_MAX, incoming).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return debug!(%error, "handshake failed"),
            Err(_) => return debug!("handshake took too long"),
        };
        if connection.alpn() == ROOM_ALPN {
            // The gate has admitted it: a member, whose connections are not limited.
            if let Some(ip) = source {
                limits.give_back(ip);
            }
            if timeout(HANDSHAKE_MAX, self.welcome(&connection)).await.is_err() {
                debug!("the greeting took too long");
                connection.close(CloseCode::Protocol.var_int(), b"");
            }
        } else if connection.alpn() == ADMISSION_ALPN {
            drop(permit);
            self.admissions.serve(connection).await;
        }
    }

    /// Reads the greeting and carries the connection, unless another one to that peer is preferred.
    async fn welcome(&self, connection: &Connection) {
        let peer = peer_id(connection.remote_id());
        let Ok((send, mut recv)) = connection.accept_bi().await else { return };
        let mut raw = [0; Greeting::BYTES];
        if recv.read_exact(&mut raw).await.is_err() {
            return connection.close(CloseCode::Protocol.var_int(), b"");
        }
        let greeting = Greeting::decode(raw);
        let mut decision = self.connections.accept(&self.ctx.gate, peer, &greeting, Patience::Wait);
        if let Accepted::AfterDial(done) = &decision {
            // Whether the dial ended in time or not, the decision is made now.
            let _ = timeout(CROSSED_MAX, done.cancelled()).await;
            decision = self.connections.accept(&self.ctx.gate, peer, &greeting, Patience::Over);
        }
        let refused = match decision {
            Accepted::Keep(permit) => {
                let (connection, welcome) = (connection.clone(), Some(self.connections.welcome()));
                return MemberConnection { peer, connection, send, recv, permit, welcome }
                    .spawn(&self.ctx, &self.connections);
            }
            Accepted::Duplicate | Accepted::AfterDial(_) => CloseCode::Duplicate,
            Accepted::NotMember => CloseCode::NotMember,
            Accepted::Busy => CloseCode::Busy,
        };
        debug!(remote = %peer.short(), ?refused, "connection refused");
        connection.close(refused.var_int(), b"");
    }
}

/// The network that a connection comes from, for the limit per network: `None` through a relay, which carries members
/// only, and from this machine.
fn source(incoming: &Incoming) -> Option<IpAddr> {
    let IncomingAddr::Ip(addr) = incoming.remote_addr() else { return None };
    match canonical(addr).ip() {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(ip.into()),
        // A sender with one address of a /64 has them all.
        IpAddr::V6(ip) => Some(Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into()),
    }
}
