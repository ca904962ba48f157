//! Accepts connections: refuses early, then starts connections of members and serves strangers.
//!
//! One task takes what arrives at the endpoint; each handshake runs in a task of its own. Before a handshake costs anything,
//! three bounds apply: under pressure, a proof that the sender receives at its address; attempts per network; and handshakes
//! at a time, of which the network with most gives up its oldest. After it, the protocol decides: the room protocol is for
//! members, whom the gate has admitted in the handshake; the admission protocol is for strangers.
//!
//! Invariants: attempts of members do not count against their network. Which of two connections to a peer is kept is
//! decided in the table, never here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_core::admission::codec::ADMISSION_ALPN;
use chat_core::fair_share::network;
use chat_core::wire::ROOM_ALPN;
use iroh::Endpoint;
use iroh::endpoint::{Connection, Incoming, IncomingAddr};
use tokio::time::timeout;
use tracing::{debug, info_span};

use crate::net::admission::limits::NetworkLimits;
use crate::net::admission::link::AdmissionLink;
use crate::net::admission::server::Admissions;
use crate::net::context::{NetContext, peer_id};
use crate::net::places::Places;
use crate::net::transport::close::CloseCode;
use crate::net::transport::connection::MemberConnection;
use crate::net::transport::connections::{Accepted, ConnectionTable, Patience};
use crate::net::transport::path::canonical;
use crate::net::transport::tie_break::Greeting;

/// Maximum number of handshakes at a time: they cost signatures and memory before the sender is known. A network with more
/// than others gives them up first.
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
        let handshakes = Places::new(HANDSHAKES_MAX);
        let limits = Arc::new(NetworkLimits::default());
        let start = Instant::now();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                () = self.ctx.token.cancelled() => None,
            };
            let Some(incoming) = incoming else { return };
            let source = source(&incoming);
            // Callers on this machine are neither limited nor forged.
            let limited = source.filter(|ip| !ip.is_loopback());
            let pressed = handshakes.taken() >= HANDSHAKES_RETRY;
            if pressed && limited.is_some() && !incoming.remote_addr_validated() {
                // Fails only for validated addresses; the sender comes back with a token.
                let _ = incoming.retry();
                continue;
            }
            if limited.is_some_and(|ip| !limits.take(ip, start.elapsed())) {
                incoming.refuse();
                continue;
            }
            let place = handshakes.enter(source);
            let span = info_span!("accept", me = %self.ctx.me.short());
            let (acceptor, limits) = (self.clone(), limits.clone());
            self.ctx.spawn(span, async move {
                let Some(stranger) = place.hold(acceptor.handshake(incoming, limited, &limits)).await else {
                    return debug!("the handshake gave its place to another network");
                };
                drop(place);
                if let Some(connection) = stranger {
                    acceptor.admissions.serve(AdmissionLink::Quic(connection), source).await;
                }
            });
        }
    }

    /// Completes a handshake and starts the connection of a member; returns that of a stranger.
    async fn handshake(
        &self,
        incoming: Incoming,
        limited: Option<IpAddr>,
        limits: &NetworkLimits,
    ) -> Option<Connection> {
        let connection = match timeout(HANDSHAKE_MAX, incoming).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                debug!(%error, "handshake failed");
                return None;
            }
            Err(_) => {
                debug!("handshake took too long");
                return None;
            }
        };
        if connection.alpn() == ROOM_ALPN {
            // The gate has admitted it: a member, whose connections are not limited.
            if let Some(ip) = limited {
                limits.give_back(ip);
            }
            if timeout(HANDSHAKE_MAX, self.welcome(&connection)).await.is_err() {
                debug!("the greeting took too long");
                connection.close(CloseCode::Protocol.var_int(), b"");
            }
            return None;
        }
        (connection.alpn() == ADMISSION_ALPN).then_some(connection)
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
                let endpoint = self.endpoint.clone();
                return MemberConnection { peer, connection, endpoint, send, recv, permit, welcome }
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

/// The network that a connection comes from; `None` through a relay, which carries members only.
fn source(incoming: &Incoming) -> Option<IpAddr> {
    let IncomingAddr::Ip(addr) = incoming.remote_addr() else { return None };
    Some(network(canonical(addr).ip()))
}
