//! The peers and rooms that were seen on the local network.
//!
//! [`mdns`](crate::net::discovery::mdns) fills the table; the API lists the rooms in it, a newcomer finds a room by its name
//! in it, and a dial adds its addresses to those that it knows.
//!
//! Invariants: an announcement is not authenticated. It only adds addresses to try, and the peer at such an address still
//! has to prove its key. The table is bounded, since any machine on the network can announce any number of peers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_proto::api::members::NearbyRoom;
use chat_proto::api::status::RoomRef;
use chat_proto::id::PeerId;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::net::settings::Mdns;

/// Maximum number of remembered peers; any machine on the network can announce any number.
const NEARBY_MAX: usize = 256;

/// Timeout for finding a room by its name. Queries are sent at once and again after a second, in case the first is lost.
const FIND_MAX: Duration = Duration::from_millis(2_500);

/// How long further rooms of the same name are waited for.
const FIND_OTHERS: Duration = Duration::from_millis(300);

/// The peers seen on the local network.
#[derive(Debug)]
pub(crate) struct Nearby {
    mdns: Mdns,
    peers: Mutex<HashMap<PeerId, NearbyPeer>>,
    /// Marks that the table changed.
    changed: watch::Sender<()>,
}

/// A peer on the local network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NearbyPeer {
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) room: Option<RoomRef>,
}

impl Nearby {
    /// An empty table; with [`Mdns::Off`] it stays empty.
    pub(crate) fn new(mdns: Mdns) -> Self {
        Self { mdns, peers: Mutex::default(), changed: watch::Sender::default() }
    }

    /// Whether peers are looked for.
    pub(crate) fn mdns(&self) -> Mdns {
        self.mdns
    }

    /// The rooms, by name, each with one of its members.
    pub(crate) fn rooms(&self) -> Vec<NearbyRoom> {
        let mut rooms: Vec<NearbyRoom> = self
            .lock()
            .iter()
            .filter_map(|(peer, seen)| {
                let room = seen.room.clone().filter(|_| !seen.addrs.is_empty())?;
                Some(NearbyRoom { room, peer: *peer, addrs: seen.addrs.clone() })
            })
            .collect();
        let order = |room: &NearbyRoom| (room.room.name.clone(), room.room.id, room.peer);
        rooms.sort_by_key(order);
        rooms.dedup_by_key(|room| room.room.id);
        rooms
    }

    /// The rooms of that name. Waits a moment for the first one, since a daemon that has just started has seen none yet.
    pub(crate) async fn find(&self, name: &str) -> Vec<NearbyRoom> {
        let named = || self.rooms().into_iter().filter(|room| room.room.name == name).collect::<Vec<_>>();
        if self.mdns == Mdns::Off {
            return Vec::new();
        }
        let mut changes = self.changed.subscribe();
        let found = async {
            while named().is_empty() && changes.changed().await.is_ok() {}
            sleep(FIND_OTHERS).await;
        };
        // What was found is in the table, in time or not.
        let _ = timeout(FIND_MAX, found).await;
        named()
    }

    /// Addresses at which a peer was seen.
    pub(crate) fn addrs(&self, peer: &PeerId) -> Vec<SocketAddr> {
        self.lock().get(peer).map(|seen| seen.addrs.clone()).unwrap_or_default()
    }

    pub(crate) fn add(&self, peer: PeerId, seen: NearbyPeer) {
        let mut table = self.lock();
        if table.len() < NEARBY_MAX || table.contains_key(&peer) {
            table.insert(peer, seen);
        }
        self.changed.send_replace(());
    }

    pub(crate) fn remove(&self, peer: &PeerId) {
        self.lock().remove(peer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, NearbyPeer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_proto::id::RoomId;

    fn peer(n: usize) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        PeerId::from_bytes(bytes)
    }

    fn in_room(id: u8, name: &str) -> NearbyPeer {
        let room = RoomRef { id: RoomId::from_bytes([id; 32]), name: name.into(), open: false };
        NearbyPeer { addrs: vec![SocketAddr::from(([192, 0, 2, 1], 7))], room: Some(room) }
    }

    #[test]
    fn rooms_are_listed_once_and_by_name() {
        let nearby = Nearby::new(Mdns::On);
        nearby.add(peer(1), in_room(1, "zoo"));
        nearby.add(peer(3), in_room(2, "lab"));
        nearby.add(peer(2), in_room(2, "lab"));
        nearby.add(peer(4), NearbyPeer { room: None, ..in_room(3, "none") });
        let listed: Vec<_> = nearby.rooms().into_iter().map(|room| (room.room.name, room.peer)).collect();
        assert_eq!(listed, [("lab".to_owned(), peer(2)), ("zoo".to_owned(), peer(1))]);
        assert_eq!(nearby.addrs(&peer(4)).len(), 1, "its address helps to dial it");
        nearby.remove(&peer(2));
        nearby.remove(&peer(1));
        assert_eq!(nearby.rooms().first().map(|room| room.peer), Some(peer(3)));
    }

    #[test]
    fn table_of_nearby_peers_is_bounded() {
        let nearby = Nearby::new(Mdns::On);
        (0..NEARBY_MAX + 9).for_each(|n| nearby.add(peer(n), in_room(1, "lab")));
        assert_eq!(nearby.lock().len(), NEARBY_MAX);
        nearby.add(peer(0), in_room(2, "new"));
        assert_eq!(nearby.rooms().len(), 2, "known ones are brought up to date");
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_is_announced_later_is_found_by_its_name() {
        let nearby = Nearby::new(Mdns::On);
        let announce = async {
            sleep(Duration::from_millis(900)).await;
            nearby.add(peer(1), in_room(1, "lab"));
            nearby.add(peer(2), in_room(2, "zoo"));
            nearby.add(peer(3), in_room(3, "lab"));
        };
        let (found, ()) = tokio::join!(nearby.find("lab"), announce);
        assert_eq!(
            found.iter().map(|room| room.peer).collect::<Vec<_>>(),
            [peer(1), peer(3)],
            "both rooms of that name"
        );
        assert!(nearby.find("bar").await.is_empty(), "the wait is bounded");
        assert!(Nearby::new(Mdns::Off).find("lab").await.is_empty());
    }
}
