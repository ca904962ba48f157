//! Other peers: connections, addresses, liveness.

pub mod addrs;
pub(crate) mod connections;
pub(crate) mod liveness;

use std::net::SocketAddr;

use addrs::AddrBook;
use connections::Connections;
use liveness::Liveness;

/// What this peer knows of others, and the addresses it gives them of itself.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) connections: Connections,
    pub(crate) liveness: Liveness,
    pub(crate) addrs: AddrBook,
    pub(crate) own_addrs: Vec<SocketAddr>,
}
