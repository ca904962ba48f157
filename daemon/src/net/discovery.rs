//! Addresses: those this peer announces, and those at which others were seen.

pub(crate) mod addrs;
pub(crate) mod mdns;
pub(crate) mod seen_addrs;
