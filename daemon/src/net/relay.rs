//! The embedded relay: carries packets between members that cannot reach each other directly.
//!
//! It listens on loopback only; members reach it through the TCP port of this peer, whose first line names it. What it
//! carries is end-to-end encrypted, and it serves members alone: its own handshake proves the key of each client.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use iroh::EndpointId;
use iroh_relay::server::{Access, AccessControl, ClientRequest, RelayConfig, Server, ServerConfig, SpawnError};

use crate::net::gate::Gate;
use crate::net::shared::peer_id;

/// A running relay; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Relay {
    server: Server,
    addr: SocketAddr,
}

/// Why no relay runs. It may be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// The server did not start.
    #[error("the relay did not start")]
    Spawn(#[source] Box<SpawnError>),
    /// It started without a listener.
    #[error("the relay has no listener")]
    NoListener,
}

impl Relay {
    /// Starts a relay for those whom the gate admits.
    pub(crate) async fn start(gate: Arc<Gate>) -> Result<Self, RelayError> {
        let mut relay = RelayConfig::new((Ipv4Addr::LOCALHOST, 0));
        relay.access = Arc::new(MembersOnly { gate });
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        let server = Server::spawn(config).await.map_err(|error| RelayError::Spawn(Box::new(error)))?;
        let addr = server.http_addr().ok_or(RelayError::NoListener)?;
        Ok(Self { server, addr })
    }

    /// Where it listens on this machine.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it; its clients' connections close.
    pub(crate) async fn stop(self) {
        if let Err(error) = self.server.shutdown().await {
            tracing::debug!(%error, "the relay did not end cleanly");
        }
    }
}

/// Admits those whom the gate admits.
#[derive(Debug)]
struct MembersOnly {
    gate: Arc<Gate>,
}

impl AccessControl for MembersOnly {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let id: EndpointId = request.endpoint_id();
        let peer = peer_id(id);
        if self.gate.admits(&peer) {
            return Access::Allow;
        }
        tracing::debug!(remote = %peer.short(), "stranger at the relay");
        Access::Deny { reason: Some("not a member of this room".into()) }
    }
}
