//! Where to dial a peer, besides the addresses that it announces itself.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat_proto::id::PeerId;
use iroh::{EndpointAddr, RelayUrl, TransportAddr};

use crate::net::context::endpoint_id;
use crate::net::discovery::nearby::Nearby;

/// Maximum number of seen addresses, of all peers together; the oldest are dropped. They only help the first dials: the
/// room's log carries what each peer announces.
const SEEN_ADDRS_MAX: usize = 64;

/// Addresses of other peers, kept while the process runs.
#[derive(Debug)]
pub(crate) struct AddressBook {
    /// The URL of the local forwarder stands for the relay of every peer and never changes.
    relay: RelayUrl,
    nearby: Arc<Nearby>,
    /// Where a connection was made before, oldest first.
    seen: Mutex<VecDeque<(PeerId, SocketAddr)>>,
}

impl AddressBook {
    pub(crate) fn new(relay: RelayUrl, nearby: Arc<Nearby>) -> Self {
        Self { relay, nearby, seen: Mutex::default() }
    }

    /// The peers seen on the local network.
    pub(crate) fn nearby(&self) -> &Nearby {
        &self.nearby
    }

    /// Where to dial a peer: at the announced addresses, where it was seen, and through the relay. `None` when the peer's
    /// bytes are not a key.
    pub(crate) fn endpoint_addr(&self, peer: &PeerId, announced: &[SocketAddr]) -> Option<EndpointAddr> {
        let seen = self.seen(peer).into_iter().chain(self.nearby.addrs(peer));
        let addrs = announced.iter().copied().chain(seen).map(TransportAddr::Ip);
        let relay = TransportAddr::Relay(self.relay.clone());
        Some(EndpointAddr::from_parts(endpoint_id(peer)?, addrs.chain([relay])))
    }

    /// Remembers an address at which a peer was reached.
    pub(crate) fn note_seen(&self, peer: PeerId, addr: SocketAddr) {
        let mut entries = self.lock();
        entries.retain(|entry| *entry != (peer, addr));
        if entries.len() >= SEEN_ADDRS_MAX {
            entries.pop_front();
        }
        entries.push_back((peer, addr));
    }

    /// Seen addresses of a peer, the newest first.
    fn seen(&self, peer: &PeerId) -> Vec<SocketAddr> {
        self.lock().iter().rev().filter(|entry| entry.0 == *peer).map(|entry| entry.1).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(PeerId, SocketAddr)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::settings::Mdns;

    #[test]
    fn seen_addrs_beyond_the_bound_drop_the_oldest() {
        let relay = "http://127.0.0.1:1".parse().expect("a URL");
        let (book, peer) = (AddressBook::new(relay, Arc::new(Nearby::new(Mdns::Off))), PeerId::from_bytes([1; 32]));
        let addr = |port: usize| SocketAddr::from(([192, 0, 2, 1], u16::try_from(port).expect("a port")));
        for port in 0..SEEN_ADDRS_MAX {
            book.note_seen(peer, addr(port));
        }
        book.note_seen(peer, addr(0));
        book.note_seen(PeerId::from_bytes([2; 32]), addr(0));
        let known = book.seen(&peer);
        assert_eq!(known.len(), SEEN_ADDRS_MAX - 1);
        assert_eq!(known[0], addr(0));
        assert!(!known.contains(&addr(1)));
    }
}
