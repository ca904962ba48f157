//! Watches: plain TCP connections that say nothing, and end when the process at the other end does.
//!
//! QUIC says nothing when a process is killed; the kernel closes its TCP connections at once, so whoever watches knows
//! within a round trip. A process that hangs, or a machine that loses its power or its cable, closes nothing: heartbeats
//! are for those.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_core::types::RoleEvent;
use chat_proto::id::PeerId;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::net::tcp::services::{self, WATCH_LINE, Whereabouts};

/// How long its addresses may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The watches of this peer over others; at most one for each, and the role asks for few.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    open: Mutex<HashMap<PeerId, CancellationToken>>,
}

impl Watches {
    /// Makes room for a watch: an earlier one over the same peer ends without a word.
    pub(crate) fn begin(&self, peer: PeerId) -> CancellationToken {
        let token = CancellationToken::new();
        let earlier = self.lock().insert(peer, token.clone());
        if let Some(earlier) = earlier {
            earlier.cancel();
        }
        token
    }

    /// Ends a watch without a word.
    pub(crate) fn end(&self, peer: &PeerId) {
        if let Some(token) = self.lock().remove(peer) {
            token.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PeerId, CancellationToken>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a peer at one of these addresses and tells what becomes of it.
pub(crate) async fn watch<F>(watches: Arc<Watches>, peer: PeerId, addrs: Vec<SocketAddr>, tell: impl Fn(RoleEvent) -> F)
where
    F: Future<Output = ()>,
{
    let token = watches.begin(peer);
    let watching = async {
        let Some(mut stream) = open(&peer, &addrs).await else { return tell(RoleEvent::WatchFailed(peer)).await };
        tell(RoleEvent::WatchOpened(peer)).await;
        let mut byte = [0; 1];
        let ended = stream.read(&mut byte).await;
        debug!(remote = %peer.short(), ?ended, "watch closed");
        tell(RoleEvent::WatchClosed(peer)).await;
    };
    tokio::select! {
        () = watching => {}
        () = token.cancelled() => {}
    }
}

/// Calls all its addresses at once.
async fn open(peer: &PeerId, addrs: &[SocketAddr]) -> Option<TcpStream> {
    let tries = addrs.iter().copied().map(|addr| async move { services::ask_for(WATCH_LINE, peer, addr).await.ok() });
    services::first_ok(tries, CONNECT_MAX).await.map(|(stream, _)| stream)
}

/// The watched side: says that the watch stands, and holds it until the other end goes or this process ends.
pub(crate) async fn be_watched(mut stream: TcpStream, me: &PeerId) {
    if services::serve(&mut stream, me, Whereabouts::Home).await.is_err() {
        return;
    }
    // Whatever the watcher says ends the watch: it has nothing to say.
    let mut byte = [0; 1];
    let _ = stream.read(&mut byte).await;
}
