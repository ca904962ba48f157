//! Connects to members: at most one dial for each peer, few at a time, each with a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_core::config::ADDRS_MAX;
use chat_core::wire::ROOM_ALPN;
use chat_proto::id::PeerId;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::time::timeout;
use tracing::{Instrument, debug, info_span};

use crate::net::context::{Shared, endpoint_id};
use crate::net::event_queue::NetEvent;
use crate::net::transport::close::CloseCode;
use crate::net::transport::connection::Link;
use crate::net::transport::connections::{Dialled, Dialling};
use crate::net::transport::tie_break::Welcome;

/// Most dials at a time: others wait for their turn, so that a large room does not flood the network at start.
pub(crate) const DIALS_MAX: usize = 32;

/// How long one dial may take, handshake and welcome included.
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
    /// Nobody wants it any more.
    #[error("given up")]
    Cancelled,
}

type Welcomed = (Connection, SendStream, RecvStream, Welcome);

/// Begins to dial, unless a connection stands or a dial is under way. Ends in `Up` or `DialFailed`.
///
/// The caller dials members only, and one peer once at a time, so that there are never more tasks than members.
pub(crate) fn dial(shared: &Arc<Shared>, peer: PeerId, mut addrs: Vec<SocketAddr>) {
    addrs.truncate(ADDRS_MAX);
    let dialling = match shared.gate.admits(&peer) {
        true => match shared.links.begin_dial(peer) {
            Some(dialling) => Some(dialling),
            None => return,
        },
        // A member a moment ago: say that nothing came of it.
        false => None,
    };
    let span = info_span!("dial", me = %shared.me.short(), remote = %peer.short());
    let shared = shared.clone();
    shared.clone().tracker.spawn(
        async move {
            match dialling {
                Some(dialling) => run(&shared, peer, &addrs, dialling).await,
                None => {
                    shared.events.send(NetEvent::DialFailed(peer)).await;
                }
            }
        }
        .instrument(span),
    );
}

async fn run(shared: &Arc<Shared>, peer: PeerId, addrs: &[SocketAddr], dialling: Dialling) {
    let result = tokio::select! {
        result = in_turn(shared, peer, addrs, &dialling) => result,
        () = dialling.cancel.cancelled() => Err(DialError::Cancelled),
        () = shared.token.cancelled() => Err(DialError::Cancelled),
    };
    match result {
        Ok((connection, send, recv, welcome)) => {
            match shared.links.dialled(&shared.gate, peer, dialling.seq, welcome) {
                Dialled::Keep(turn) => Link { peer, connection, send, recv, turn, welcome: None }.spawn(shared),
                Dialled::Duplicate => connection.close(CloseCode::Duplicate.var_int(), b""),
                Dialled::Failed => {
                    connection.close(CloseCode::NotMember.var_int(), b"");
                    shared.events.send(NetEvent::DialFailed(peer)).await;
                }
            }
        }
        Err(error) => {
            debug!(%error, ?addrs, "dial failed");
            if shared.links.standing_count() == 0 {
                shared.duties.nobody_there();
            }
            if shared.links.dial_failed(&peer) {
                shared.events.send(NetEvent::DialFailed(peer)).await;
            }
        }
    }
}

async fn in_turn(
    shared: &Shared,
    peer: PeerId,
    addrs: &[SocketAddr],
    dialling: &Dialling,
) -> Result<Welcomed, DialError> {
    // The semaphore is never closed.
    let _turn = shared.dials.acquire().await.map_err(|_| DialError::Cancelled)?;
    timeout(DIAL_MAX, connect(shared, peer, addrs, dialling)).await.map_err(|_| DialError::TimedOut)?
}

async fn connect(
    shared: &Shared,
    peer: PeerId,
    addrs: &[SocketAddr],
    dialling: &Dialling,
) -> Result<Welcomed, DialError> {
    let id = endpoint_id(&peer).ok_or(DialError::NotAKey)?;
    let addr = shared.endpoint_addr(id, addrs);
    let connection =
        shared.endpoint.connect(addr, ROOM_ALPN).await.map_err(|error| DialError::Connect(Box::new(error)))?;
    let (mut send, mut recv) = connection.open_bi().await.map_err(|_| DialError::NotWelcomed)?;
    send.write_all(&dialling.greeting.encode()).await.map_err(|_| DialError::NotWelcomed)?;
    let mut raw = [0; Welcome::BYTES];
    recv.read_exact(&mut raw).await.map_err(|_| DialError::NotWelcomed)?;
    Ok((connection, send, recv, Welcome::decode(raw)))
}
