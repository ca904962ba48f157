//! Dials members: at most one dial for each peer, few at a time, each with a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_core::config::ADDRS_MAX;
use chat_core::wire::ROOM_ALPN;
use chat_proto::id::PeerId;
use iroh::Endpoint;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, info_span};

use crate::net::context::NetContext;
use crate::net::discovery::address_book::AddressBook;
use crate::net::event_queue::NetEvent;
use crate::net::tcp::forwarder::Forwarder;
use crate::net::transport::close::CloseCode;
use crate::net::transport::connection::MemberConnection;
use crate::net::transport::connections::{ConnectionTable, Dialled, Dialling};
use crate::net::transport::tie_break::Welcome;

/// Maximum number of dials at a time: others wait, so that a large room does not flood the network at start.
const DIALS_MAX: usize = 32;

/// Timeout for one dial, handshake and welcome included.
const DIAL_MAX: Duration = Duration::from_secs(5);

/// Why a dial ended without a connection.
#[derive(Debug, thiserror::Error)]
enum DialError {
    /// The peer's bytes are not a key.
    #[error("the peer's id is not a key")]
    NotAKey,
    /// No address answered, or the handshake failed.
    #[error("no connection")]
    Connect(#[source] Box<iroh::endpoint::ConnectError>),
    /// Connected, and closed before the welcome.
    #[error("not welcomed")]
    NotWelcomed,
    /// Too slow.
    #[error("took too long")]
    TimedOut,
    /// The dial is no longer wanted.
    #[error("given up")]
    Cancelled,
}

type Welcomed = (Connection, SendStream, RecvStream, Welcome);

/// Connects to members.
#[derive(Debug)]
pub(crate) struct MemberDialer {
    ctx: NetContext,
    endpoint: Endpoint,
    pub(crate) book: Arc<AddressBook>,
    connections: Arc<ConnectionTable>,
    forwarder: Arc<Forwarder>,
    /// Dials in progress.
    permits: Semaphore,
}

impl MemberDialer {
    pub(crate) fn new(
        ctx: NetContext,
        endpoint: Endpoint,
        book: Arc<AddressBook>,
        connections: Arc<ConnectionTable>,
        forwarder: Arc<Forwarder>,
    ) -> Self {
        Self { ctx, endpoint, book, connections, forwarder, permits: Semaphore::new(DIALS_MAX) }
    }

    /// Starts to dial, unless a connection is open or a dial is in progress. Ends in `Up` or `DialFailed`.
    ///
    /// The caller dials members only, and one peer once at a time, so that there are never more tasks than members.
    pub(crate) fn dial(self: &Arc<Self>, peer: PeerId, mut addrs: Vec<SocketAddr>) {
        addrs.truncate(ADDRS_MAX);
        let dialling = match self.ctx.gate.admits(&peer) {
            true => match self.connections.begin_dial(peer) {
                Some(dialling) => Some(dialling),
                None => return,
            },
            // A member a moment ago: report the failure.
            false => None,
        };
        let span = info_span!("dial", me = %self.ctx.me.short(), remote = %peer.short());
        let dialer = self.clone();
        self.ctx.spawn(span, async move {
            match dialling {
                Some(dialling) => dialer.run(peer, &addrs, dialling).await,
                None => dialer.report_failure(peer).await,
            }
        });
    }

    async fn run(&self, peer: PeerId, addrs: &[SocketAddr], dialling: Dialling) {
        let result = tokio::select! {
            result = self.in_turn(peer, addrs, &dialling) => result,
            () = dialling.cancel.cancelled() => Err(DialError::Cancelled),
            () = self.ctx.token.cancelled() => Err(DialError::Cancelled),
        };
        match result {
            Ok((connection, send, recv, welcome)) => {
                match self.connections.dialled(&self.ctx.gate, peer, dialling.seq, welcome) {
                    Dialled::Keep(permit) => {
                        let endpoint = self.endpoint.clone();
                        MemberConnection { peer, connection, endpoint, send, recv, permit, welcome: None }
                            .spawn(&self.ctx, &self.connections);
                    }
                    Dialled::Duplicate => connection.close(CloseCode::Duplicate.var_int(), b""),
                    Dialled::Failed => {
                        connection.close(CloseCode::NotMember.var_int(), b"");
                        self.report_failure(peer).await;
                    }
                }
            }
            Err(error) => {
                debug!(%error, ?addrs, "dial failed");
                if self.connections.open_count() == 0 {
                    self.forwarder.no_peer_reached();
                }
                if self.connections.dial_failed(&peer) {
                    self.report_failure(peer).await;
                }
            }
        }
    }

    async fn report_failure(&self, peer: PeerId) {
        self.ctx.events.send(NetEvent::DialFailed(peer)).await;
    }

    async fn in_turn(&self, peer: PeerId, addrs: &[SocketAddr], dialling: &Dialling) -> Result<Welcomed, DialError> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.map_err(|_| DialError::Cancelled)?;
        timeout(DIAL_MAX, self.connect(peer, addrs, dialling)).await.map_err(|_| DialError::TimedOut)?
    }

    async fn connect(&self, peer: PeerId, addrs: &[SocketAddr], dialling: &Dialling) -> Result<Welcomed, DialError> {
        let addr = self.book.endpoint_addr(&peer, addrs).ok_or(DialError::NotAKey)?;
        let connecting = self.endpoint.connect(addr, ROOM_ALPN).await;
        let connection = connecting.map_err(|error| DialError::Connect(Box::new(error)))?;
        let (mut send, mut recv) = connection.open_bi().await.map_err(|_| DialError::NotWelcomed)?;
        send.write_all(&dialling.greeting.encode()).await.map_err(|_| DialError::NotWelcomed)?;
        let mut raw = [0; Welcome::BYTES];
        recv.read_exact(&mut raw).await.map_err(|_| DialError::NotWelcomed)?;
        Ok((connection, send, recv, Welcome::decode(raw)))
    }
}
