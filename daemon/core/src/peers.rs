//! Other peers: connections, addresses, liveness.

pub mod addrs;
pub(crate) mod connections;
pub(crate) mod liveness;
