//! Peers and rooms on the local network, by multicast DNS.
//!
//! One task announces this peer and its room and collects what other peers announce. [`Nearby`] keeps the result: the API
//! lists the rooms in it, and a dial adds its addresses to those it knows.
//!
//! Invariants: an announcement is not authenticated. It only adds addresses to try, and the peer at such an address still
//! has to prove its key. Announcements never reach iroh directly, so that an announced relay is not used. Rooms and names are
//! validated, and the table is bounded, since any machine on the network can announce any number of peers. A peer that is
//! not in a room announces nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_core::config::ADDRS_MAX;
use chat_core::membership::roster::Roster;
use chat_proto::api::members::NearbyRoom;
use chat_proto::api::status::RoomRef;
use chat_proto::id::PeerId;
use chat_proto::text::check_name;
use iroh::address_lookup::{AddressLookup, EndpointData, EndpointInfo, UserData};
use iroh::{Endpoint, TransportAddr};
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use n0_future::StreamExt;
use tracing::{debug, warn};

use crate::net::context::{NetContext, endpoint_id, peer_id};
use crate::net::discovery::own_addrs::useful;

/// Name of the service: `_chatd._udp.local`.
const SERVICE: &str = "chatd";

/// Version of the announced text.
const VERSION: &str = "1";

/// Base interval between two queries to the whole network, not to each peer.
const CADENCE: Duration = Duration::from_secs(2);

/// Maximum number of remembered peers; any machine on the network can announce any number.
const NEARBY_MAX: usize = 256;

/// The peers seen on the local network.
#[derive(Debug, Default)]
pub(crate) struct Nearby(Mutex<HashMap<PeerId, NearbyPeer>>);

/// A peer on the local network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NearbyPeer {
    addrs: Vec<SocketAddr>,
    room: Option<RoomRef>,
}

impl Nearby {
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

    /// Addresses at which a peer was seen.
    pub(crate) fn addrs(&self, peer: &PeerId) -> Vec<SocketAddr> {
        self.lock().get(peer).map(|seen| seen.addrs.clone()).unwrap_or_default()
    }

    fn add(&self, peer: PeerId, seen: NearbyPeer) {
        let mut table = self.lock();
        if table.len() < NEARBY_MAX || table.contains_key(&peer) {
            table.insert(peer, seen);
        }
    }

    fn remove(&self, peer: &PeerId) {
        self.lock().remove(peer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, NearbyPeer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Announces this peer and its room, and collects other peers, until the daemon stops. Without multicast it logs a warning
/// and ends: the room works without.
pub(crate) async fn run(ctx: NetContext, endpoint: Endpoint, nearby: Arc<Nearby>) {
    let Some(id) = endpoint_id(&ctx.me) else { return };
    let built = MdnsAddressLookup::builder().service_name(SERVICE).discovery_cadence(CADENCE).build(id);
    let mdns = match built {
        Ok(mdns) => mdns,
        Err(error) => return warn!(%error, "multicast does not work: rooms on the local network are not found"),
    };
    let mut seen_peers = mdns.subscribe().await;
    if let Ok(services) = endpoint.address_lookup() {
        services.add(Announcer(mdns));
    }
    let mut changes = ctx.gate.changes();
    loop {
        endpoint.set_user_data_for_address_lookup(announcement(&ctx.gate.roster()));
        loop {
            let event = tokio::select! {
                event = seen_peers.next() => event,
                changed = changes.changed() => if changed.is_ok() { break } else { return },
                () = ctx.token.cancelled() => return,
            };
            match event {
                Some(DiscoveryEvent::Discovered { endpoint_info, .. }) => {
                    let peer = peer_id(endpoint_info.endpoint_id);
                    debug!(remote = %peer.short(), "seen on the local network");
                    nearby.add(peer, seen(&endpoint_info));
                }
                Some(DiscoveryEvent::Expired { endpoint_id }) => nearby.remove(&peer_id(endpoint_id)),
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// Announces and does not look up.
#[derive(Debug)]
struct Announcer(MdnsAddressLookup);

impl AddressLookup for Announcer {
    fn publish(&self, data: &EndpointData) {
        // A peer that is not in a room announces nothing.
        let Some(room) = data.user_data() else { return };
        let addrs = useful(data.ip_addrs().copied(), &[]);
        self.0.publish(
            &EndpointData::new(addrs.into_iter().map(TransportAddr::Ip).collect()).with_user_data(room.clone()),
        );
    }
}

/// The announced text of a room: version, whether it is open, its id and its name.
fn announcement(roster: &Roster) -> Option<UserData> {
    let room = roster.room?;
    let door = if roster.open { "open" } else { "closed" };
    UserData::try_from(format!("{VERSION} {door} {room} {}", roster.room_name)).ok()
}

fn seen(info: &EndpointInfo) -> NearbyPeer {
    let mut addrs = useful(info.ip_addrs().copied(), &[]);
    addrs.truncate(ADDRS_MAX);
    NearbyPeer { addrs, room: info.user_data().and_then(|data| room(data.as_ref())) }
}

fn room(text: &str) -> Option<RoomRef> {
    let mut words = text.splitn(4, ' ');
    let (version, door, id, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let open = match door {
        "open" => true,
        "closed" => false,
        _ => return None,
    };
    let valid = version == VERSION && check_name("room's name", name).is_ok();
    valid.then(|| Some(RoomRef { id: id.parse().ok()?, name: name.to_owned(), open }))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_proto::id::RoomId;
    use proptest::prelude::*;

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
    fn announced_room_round_trips() {
        for (open, name) in [(true, "lab"), (false, "李".repeat(32).as_str())] {
            let id = Some(RoomId::from_bytes([3; 32]));
            let roster = Roster { room: id, room_name: name.into(), open, ..Roster::default() };
            let heard = announcement(&roster).and_then(|data| room(data.as_ref())).expect("a room");
            assert_eq!((Some(heard.id), heard.name.as_str(), heard.open), (id, name, open));
        }
        assert_eq!(announcement(&Roster::default()), None);
    }

    #[test]
    fn invalid_announcement_is_ignored() {
        let id = RoomId::from_bytes([3; 32]);
        assert!(room(&format!("1 open {id} lab")).is_some());
        for bad in [
            format!("2 open {id} lab"),
            format!("1 ajar {id} lab"),
            format!("1 open {id} a\u{1b}[2Jb"),
            format!("1 open {id} two words"),
            format!("1 open {id} "),
            "1 open abc lab".to_owned(),
            String::new(),
        ] {
            assert_eq!(room(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text: String) {
            let _ = room(&text);
        }
    }

    #[test]
    fn rooms_are_listed_once_and_by_name() {
        let nearby = Nearby::default();
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
        let nearby = Nearby::default();
        (0..NEARBY_MAX + 9).for_each(|n| nearby.add(peer(n), in_room(1, "lab")));
        assert_eq!(nearby.lock().len(), NEARBY_MAX);
        nearby.add(peer(0), in_room(2, "new"));
        assert_eq!(nearby.rooms().len(), 2, "known ones are brought up to date");
    }
}
