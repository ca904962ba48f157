//! Where members can be reached: signed records, and when to dial again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::config::ADDRS_MAX;
use crate::log::signature::{self, SignatureBytes};

/// Maximum number of address records: further members are found through others.
const RECORDS_MAX: usize = 10_000;

/// Above this many records, records of non-members are rejected: a newcomer's may arrive before its admission, but
/// made-up records must not use up the room that members need.
const STRANGERS_MAX: usize = 5_000;

/// Failure count given to a peer that broke the protocol; backs off about 30 s.
const DISTRUST: u32 = 6;

/// Context of an address record's signature.
const ADDRS_CONTEXT: &[u8] = b"chatd addresses v1\0";

/// Where a peer can be reached, signed by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddrRecord {
    /// The peer.
    pub peer: PeerId,
    /// When it was written; the newest record of a peer is valid.
    pub time: Timestamp,
    /// Its addresses; at most [`ADDRS_MAX`].
    pub addrs: Vec<SocketAddr>,
    /// Its signature.
    pub signature: SignatureBytes,
}

impl AddrRecord {
    /// Writes and signs a record; addresses beyond [`ADDRS_MAX`] are left out.
    pub fn sign(mut addrs: Vec<SocketAddr>, time: Timestamp, key: &SigningKey) -> Self {
        addrs.truncate(ADDRS_MAX);
        let peer = PeerId::from_bytes(key.verifying_key().to_bytes());
        let signature = signature::sign(key, ADDRS_CONTEXT, &addr_statement(&peer, time, &addrs));
        Self { peer, time, addrs, signature }
    }

    /// Whether the peer itself wrote it, within bounds.
    pub fn verify(&self) -> bool {
        self.addrs.len() <= ADDRS_MAX
            && signature::holds(
                self.peer.as_bytes(),
                ADDRS_CONTEXT,
                &addr_statement(&self.peer, self.time, &self.addrs),
                self.signature,
            )
    }
}

fn addr_statement(peer: &PeerId, time: Timestamp, addrs: &[SocketAddr]) -> Vec<u8> {
    let mut statement = peer.as_bytes().to_vec();
    statement.extend_from_slice(&time.as_ms().to_be_bytes());
    for addr in addrs {
        statement.extend_from_slice(addr.to_string().as_bytes());
        statement.push(0);
    }
    statement
}

/// Whether the owner of a record is a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordOwner {
    /// The owner is a member.
    Member,
    /// The owner is not known to be a member.
    Stranger,
}

/// Addresses of members.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddrBook {
    peers: BTreeMap<PeerId, AddrEntry>,
    /// Number of peers whose record is held.
    records: usize,
}

/// What is known of one peer's addresses.
#[derive(Clone, Debug, Default)]
struct AddrEntry {
    record: Option<AddrRecord>,
    /// Number of dials in a row that failed.
    failures: u32,
    /// Whether it said goodbye and has not been back.
    has_left: bool,
}

impl AddrBook {
    /// Takes over a record if it is newer than the one held and its peer wrote it.
    pub(crate) fn add(&mut self, record: AddrRecord, owner: RecordOwner) -> bool {
        let max = match owner {
            RecordOwner::Member => RECORDS_MAX,
            RecordOwner::Stranger => STRANGERS_MAX,
        };
        let held = self.get(&record.peer);
        let newer = held.is_none_or(|held| held.time < record.time);
        let room = self.records < max || held.is_some();
        if !newer || !room || !record.verify() {
            return false;
        }
        let entry = self.peers.entry(record.peer).or_default();
        self.records += usize::from(entry.record.is_none());
        entry.failures = 0;
        entry.record = Some(record);
        true
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&AddrRecord> {
        self.peers.get(peer)?.record.as_ref()
    }

    pub(crate) fn addrs(&self, peer: &PeerId) -> Vec<SocketAddr> {
        self.get(peer).map(|record| record.addrs.clone()).unwrap_or_default()
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &AddrRecord> {
        self.peers.values().filter_map(|entry| entry.record.as_ref())
    }

    /// A dial failed or a connection ended; returns how long to wait before the next try: doubled with each failure, up
    /// to `longest`; `jitter` in 0..1 spreads peers that lost the same neighbour.
    pub(crate) fn backoff(&mut self, peer: PeerId, shortest: Duration, longest: Duration, jitter: f64) -> Duration {
        let failures = &mut self.peers.entry(peer).or_default().failures;
        let wait = shortest.saturating_mul(1 << (*failures).min(10)).min(longest);
        *failures = failures.saturating_add(1);
        wait.mul_f64(0.75 + jitter / 2.0)
    }

    /// The peer broke the protocol: it is dialled again as if it had not been reached many times.
    pub(crate) fn distrust(&mut self, peer: PeerId) {
        self.peers.entry(peer).or_default().failures = DISTRUST;
    }

    /// The peer went away in an orderly way: it will call when it is back.
    pub(crate) fn left(&mut self, peer: &PeerId) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.has_left = entry.record.is_some();
        }
    }

    pub(crate) fn has_left(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|entry| entry.has_left)
    }

    pub(crate) fn is_back(&mut self, peer: &PeerId) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.has_left = false;
        }
    }

    /// The peer was reached or has a reason to be reachable again.
    pub(crate) fn reset(&mut self, peer: &PeerId) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    #[test]
    fn an_address_record_is_its_peers_own() {
        let record = AddrRecord::sign(vec![SocketAddr::from(([192, 0, 2, 1], 24283))], Timestamp::from_ms(5), &key(1));
        assert!(record.verify());
        let moved = AddrRecord { time: Timestamp::from_ms(6), ..record.clone() };
        assert!(!moved.verify());
        let stolen = AddrRecord { addrs: vec![SocketAddr::from(([192, 0, 2, 2], 24283))], ..record };
        assert!(!stolen.verify());
    }
}
