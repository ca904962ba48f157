//! Addresses: those at which this peer can be reached, and those of other peers.

pub(crate) mod address_book;
pub(crate) mod mdns;
pub(crate) mod nearby;
pub(crate) mod own_addrs;
