//! Watches: silent TCP connections that end when the process at the other end does.
//!
//! QUIC sends nothing when a process is killed, but the kernel closes its TCP connections at once: a watcher learns of the
//! end within a round trip. A process that hangs, or a machine that loses its power or its cable, closes nothing;
//! heartbeats detect those.
//!
//! The rendezvous role opens and closes watches through [`RoleServices`](crate::net::tcp::role_services::RoleServices);
//! [`watch`] reports the outcome as a role event. The watched side runs [`be_watched`].
//!
//! Invariants: at most one watch per peer; a new one replaces the earlier one without an event. An event is reported
//! exactly once for a failure or an end, unless the watch was closed by this peer. A watch is never evidence that the
//! other process works, only that its end was not seen.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_core::types::RoleEvent;
use chat_proto::id::PeerId;
use iroh::SecretKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::net::event_queue::{EventSender, NetEvent};
use crate::net::tcp::services::{self, CallerProof, MemberService};

/// Timeout for the addresses of a peer to connect.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The watched peer sends this once it has checked the watcher's proof.
const CONFIRMED: &[u8] = b"+";

/// The watches of this peer over others; at most one for each, and the role opens few.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    open: Mutex<HashMap<PeerId, CancellationToken>>,
}

impl Watches {
    /// Starts a watch: an earlier one over the same peer ends without an event.
    pub(crate) fn begin(&self, peer: PeerId) -> CancellationToken {
        let token = CancellationToken::new();
        let earlier = self.lock().insert(peer, token.clone());
        if let Some(earlier) = earlier {
            earlier.cancel();
        }
        token
    }

    /// Ends a watch without an event.
    pub(crate) fn end(&self, peer: &PeerId) {
        if let Some(token) = self.lock().remove(peer) {
            token.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, CancellationToken>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a peer at one of these addresses and reports the outcome. `me` is the key that it proves to the peer.
pub(crate) async fn watch(
    watches: &Watches,
    events: &EventSender,
    me: &SecretKey,
    (peer, addrs): (PeerId, &[SocketAddr]),
) {
    let token = watches.begin(peer);
    let report = async |event| events.send(NetEvent::Role(event)).await;
    let watching = async {
        let Some(mut stream) = open(me, &peer, addrs).await else {
            return report(RoleEvent::WatchFailed(peer)).await;
        };
        report(RoleEvent::WatchOpened(peer)).await;
        let mut byte = [0; 1];
        let ended = stream.read(&mut byte).await;
        debug!(remote = %peer.short(), ?ended, "watch closed");
        report(RoleEvent::WatchClosed(peer)).await
    };
    tokio::select! {
        _ = watching => {}
        () = token.cancelled() => {}
    }
}

/// Connects to all its addresses at once.
async fn open(me: &SecretKey, peer: &PeerId, addrs: &[SocketAddr]) -> Option<TcpStream> {
    let ask = |addr| async move {
        let mut served = services::ask_for(MemberService::Watch, me, peer, addr).await.ok()?;
        if served.proof == CallerProof::Signed {
            // A watch that is refused must not look like one that ended.
            served.stream.read_exact(&mut [0; CONFIRMED.len()]).await.ok()?;
        }
        Some(served.stream)
    };
    services::first_ok(addrs.iter().copied().map(ask), CONNECT_MAX).await
}

/// The watched side: holds the watch until the other end goes or this process ends.
pub(crate) async fn be_watched(mut stream: TcpStream, proof: CallerProof) {
    if proof == CallerProof::Signed && stream.write_all(CONFIRMED).await.is_err() {
        return;
    }
    // Any byte from the watcher ends the watch: it has nothing to send.
    let mut byte = [0; 1];
    let _ = stream.read(&mut byte).await;
}
