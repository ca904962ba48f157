//! The embedded relay: carries packets between members that cannot reach each other directly.
//!
//! It listens on loopback only; members reach it through the TCP port of this peer. What it carries is end-to-end
//! encrypted, and it serves members only: its own handshake proves the key of each client.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use iroh::EndpointId;
use iroh_relay::server::{
    Access, AccessControl, ClientRequest, ConnectionId, RelayConfig, Server, ServerConfig, SpawnError,
};

use crate::net::context::peer_id;
use crate::net::gate::Gate;

/// A running relay; dropped, it ends.
#[derive(Debug)]
pub(crate) struct RelayServer {
    server: Server,
    addr: SocketAddr,
    members: Arc<MembersOnly>,
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

impl RelayServer {
    /// Starts a relay for the peers that the gate admits.
    pub(crate) async fn start(gate: Arc<Gate>) -> Result<Self, RelayError> {
        let mut relay = RelayConfig::new((Ipv4Addr::LOCALHOST, 0));
        let members = Arc::new(MembersOnly { gate, clients: Mutex::default() });
        relay.access = members.clone();
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        let server = Server::spawn(config).await.map_err(|error| RelayError::Spawn(Box::new(error)))?;
        let addr = server.http_addr().ok_or(RelayError::NoListener)?;
        Ok(Self { server, addr, members })
    }

    /// The address on this machine at which it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the connections of peers that the gate no longer admits.
    pub(crate) fn sweep(&self) {
        let Some(service) = self.server.relay_service() else { return };
        for (connection, id) in self.members.strangers() {
            tracing::debug!(remote = %peer_id(id).short(), "no longer served by the relay");
            service.clients().disconnect(id, Some(connection));
        }
    }

    /// Stops the relay; its clients' connections close.
    pub(crate) async fn stop(self) {
        if let Err(error) = self.server.shutdown().await {
            tracing::debug!(%error, "the relay did not end cleanly");
        }
    }
}

/// Admits the peers that the gate admits.
#[derive(Debug)]
struct MembersOnly {
    gate: Arc<Gate>,
    /// Connected clients; as many as the TCP port lets through to the relay.
    clients: Mutex<HashMap<ConnectionId, EndpointId>>,
}

impl MembersOnly {
    /// Clients that are no longer admitted.
    fn strangers(&self) -> Vec<(ConnectionId, EndpointId)> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.iter().filter(|(_, id)| !self.gate.admits(&peer_id(**id))).map(|(at, id)| (*at, *id)).collect()
    }
}

impl AccessControl for MembersOnly {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let id: EndpointId = request.endpoint_id();
        let peer = peer_id(id);
        if self.gate.admits(&peer) {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            clients.insert(request.connection_id(), id);
            return Access::Allow;
        }
        tracing::debug!(remote = %peer.short(), "stranger at the relay");
        Access::Deny { reason: Some("not a member of this room".into()) }
    }
    fn on_disconnect(&self, id: EndpointId, connection: ConnectionId) {
        tracing::trace!(remote = %peer_id(id).short(), "left the relay");
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&connection);
    }
}
