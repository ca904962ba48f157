//! Peers and rooms on the local network, by multicast DNS.
//!
//! What is heard is nobody's word but the network's: it lists rooms and adds addresses to dial, each of which still has
//! to prove the key it claims. It never reaches iroh directly, so that no relay that somebody announces is used.

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
use iroh::TransportAddr;
use iroh::address_lookup::{AddressLookup, EndpointData, EndpointInfo, UserData};
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use n0_future::StreamExt;
use tracing::{debug, warn};

use crate::net::context::{Shared, endpoint_id, peer_id};
use crate::net::discovery::addrs::useful;

/// Name of the service: `_chatd._udp.local`.
const SERVICE: &str = "chatd";

/// Version of what is announced besides addresses.
const VERSION: &str = "1";

/// Base interval between two queries of the whole network, not of each peer.
const CADENCE: Duration = Duration::from_secs(2);

/// Most peers that are remembered; anybody on the network can announce any number.
const NEARBY_MAX: usize = 256;

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Nearby(Mutex<HashMap<PeerId, Seen>>);

/// A peer on the local network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
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

    /// Where a peer was seen.
    pub(crate) fn addrs(&self, peer: &PeerId) -> Vec<SocketAddr> {
        self.lock().get(peer).map(|seen| seen.addrs.clone()).unwrap_or_default()
    }

    fn heard(&self, peer: PeerId, seen: Seen) {
        let mut table = self.lock();
        if table.len() < NEARBY_MAX || table.contains_key(&peer) {
            table.insert(peer, seen);
        }
    }

    fn gone(&self, peer: &PeerId) {
        self.lock().remove(peer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Announces this peer and its room, and listens to others, until the daemon stops. Without multicast, it says so and
/// ends: the room works without.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(id) = endpoint_id(&shared.me) else { return };
    let built = MdnsAddressLookup::builder().service_name(SERVICE).discovery_cadence(CADENCE).build(id);
    let mdns = match built {
        Ok(mdns) => mdns,
        Err(error) => return warn!(%error, "no multicast here: rooms on the local network are not found"),
    };
    let mut heard = mdns.subscribe().await;
    if let Ok(services) = shared.endpoint.address_lookup() {
        services.add(Announcer(mdns));
    }
    let mut changes = shared.gate.changes();
    loop {
        shared.endpoint.set_user_data_for_address_lookup(announcement(&shared.gate.roster()));
        loop {
            let event = tokio::select! {
                event = heard.next() => event,
                changed = changes.changed() => if changed.is_ok() { break } else { return },
                () = shared.token.cancelled() => return,
            };
            match event {
                Some(DiscoveryEvent::Discovered { endpoint_info, .. }) => {
                    let peer = peer_id(endpoint_info.endpoint_id);
                    debug!(remote = %peer.short(), "seen on the local network");
                    shared.nearby.heard(peer, seen(&endpoint_info));
                }
                Some(DiscoveryEvent::Expired { endpoint_id }) => shared.nearby.gone(&peer_id(endpoint_id)),
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
        // A peer in no room has nothing to offer.
        let Some(room) = data.user_data() else { return };
        let addrs = useful(data.ip_addrs().copied(), &[]);
        self.0.publish(
            &EndpointData::new(addrs.into_iter().map(TransportAddr::Ip).collect()).with_user_data(room.clone()),
        );
    }
}

/// What is announced of the room: version, whether it is open, its id and its name.
fn announcement(roster: &Roster) -> Option<UserData> {
    let room = roster.room?;
    let door = if roster.open { "open" } else { "closed" };
    UserData::try_from(format!("{VERSION} {door} {room} {}", roster.room_name)).ok()
}

fn seen(info: &EndpointInfo) -> Seen {
    let mut addrs = useful(info.ip_addrs().copied(), &[]);
    addrs.truncate(ADDRS_MAX);
    Seen { addrs, room: info.user_data().and_then(|data| room(data.as_ref())) }
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

    fn in_room(id: u8, name: &str) -> Seen {
        let room = RoomRef { id: RoomId::from_bytes([id; 32]), name: name.into(), open: false };
        Seen { addrs: vec![SocketAddr::from(([192, 0, 2, 1], 7))], room: Some(room) }
    }

    #[test]
    fn a_room_is_heard_as_it_was_announced() {
        for (open, name) in [(true, "lab"), (false, "李".repeat(32).as_str())] {
            let id = Some(RoomId::from_bytes([3; 32]));
            let roster = Roster { room: id, room_name: name.into(), open, ..Roster::default() };
            let heard = announcement(&roster).and_then(|data| room(data.as_ref())).expect("a room");
            assert_eq!((Some(heard.id), heard.name.as_str(), heard.open), (id, name, open));
        }
        assert_eq!(announcement(&Roster::default()), None);
    }

    #[test]
    fn what_others_announce_is_checked() {
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
        fn no_text_panics(text: String) {
            let _ = room(&text);
        }
    }

    #[test]
    fn rooms_are_listed_once_by_name_and_forgotten() {
        let nearby = Nearby::default();
        nearby.heard(peer(1), in_room(1, "zoo"));
        nearby.heard(peer(3), in_room(2, "lab"));
        nearby.heard(peer(2), in_room(2, "lab"));
        nearby.heard(peer(4), Seen { room: None, ..in_room(3, "none") });
        let listed: Vec<_> = nearby.rooms().into_iter().map(|room| (room.room.name, room.peer)).collect();
        assert_eq!(listed, [("lab".to_owned(), peer(2)), ("zoo".to_owned(), peer(1))]);
        assert_eq!(nearby.addrs(&peer(4)).len(), 1, "its address helps to dial it");
        nearby.gone(&peer(2));
        nearby.gone(&peer(1));
        assert_eq!(nearby.rooms().first().map(|room| room.peer), Some(peer(3)));
    }

    #[test]
    fn the_table_is_bounded() {
        let nearby = Nearby::default();
        (0..NEARBY_MAX + 9).for_each(|n| nearby.heard(peer(n), in_room(1, "lab")));
        assert_eq!(nearby.lock().len(), NEARBY_MAX);
        nearby.heard(peer(0), in_room(2, "new"));
        assert_eq!(nearby.rooms().len(), 2, "known ones are brought up to date");
    }
}
