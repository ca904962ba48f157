//! Addresses at which peers were seen, besides those they give themselves.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chat_proto::id::PeerId;

/// Most addresses that are remembered, of all peers together; the oldest make room. They only help the first dials: what
/// a peer says of itself comes with the room.
const ADDRS_MAX: usize = 64;

/// Remembers where peers were seen, while the process runs.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<VecDeque<(PeerId, SocketAddr)>>);

impl Book {
    /// Remembers an address.
    pub(crate) fn note(&self, peer: PeerId, addr: SocketAddr) {
        let mut entries = self.lock();
        entries.retain(|entry| *entry != (peer, addr));
        if entries.len() >= ADDRS_MAX {
            entries.pop_front();
        }
        entries.push_back((peer, addr));
    }

    /// What is remembered of a peer, the newest first.
    pub(crate) fn addrs(&self, peer: &PeerId) -> Vec<SocketAddr> {
        self.lock().iter().rev().filter(|entry| entry.0 == *peer).map(|entry| entry.1).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(PeerId, SocketAddr)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_and_the_oldest_make_room() {
        let (book, peer) = (Book::default(), PeerId::from_bytes([1; 32]));
        let addr = |port: usize| SocketAddr::from(([192, 0, 2, 1], u16::try_from(port).expect("a port")));
        for port in 0..ADDRS_MAX {
            book.note(peer, addr(port));
        }
        book.note(peer, addr(0));
        book.note(PeerId::from_bytes([2; 32]), addr(0));
        let known = book.addrs(&peer);
        assert_eq!(known.len(), ADDRS_MAX - 1);
        assert_eq!(known[0], addr(0));
        assert!(!known.contains(&addr(1)));
    }
}
