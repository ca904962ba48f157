//! Peers and rooms on the local network, by multicast DNS (RFC 6762, RFC 6763).
//!
//! One task announces this peer and its room and collects what other peers announce into [`Nearby`]. The responder
//! (`mdns-sd`, a thread of its own) queries and answers on every interface, also without a default route, and follows
//! interfaces as they appear and disappear. On each it announces the addresses of that interface alone.
//!
//! A peer may be seen without an address that serves: its answer over IPv6 names its IPv6 addresses, and its answer over
//! IPv4 may be kept back, since a record is multicast once a second at most (RFC 6762, section 6). Later queries list the
//! peer as known and get no answer (section 7.1), so its addresses are asked for by name.
//!
//! Invariants: rooms and names are validated. A peer that is not in a room announces nothing. Nothing but addresses,
//! the room and whether it is open is announced: no relay.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chat_core::config::ADDRS_MAX;
use chat_core::membership::roster::Roster;
use chat_proto::api::members::NearbyRoom;
use chat_proto::api::status::RoomRef;
use chat_proto::id::PeerId;
use chat_proto::text::check_recorded_name;
use data_encoding::BASE32_NOPAD;
use mdns_sd::{HostnameResolutionEvent, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::net::context::NetContext;
use crate::net::discovery::nearby::{Nearby, NearbyPeer};
use crate::net::discovery::own_addrs::useful;
use crate::net::settings::Mdns;

/// The service.
const SERVICE: &str = "_chatd._udp.local.";

/// Name of the announced text.
const TEXT: &str = "user-data";

/// Version of the announced text.
const VERSION: &str = "1";

/// How often the interfaces are looked at, in seconds: a cable that is plugged in is noticed that soon.
const INTERFACES_EVERY_S: u32 = 2;

/// Timeout for saying goodbye at the end.
const GOODBYE_MAX: Duration = Duration::from_millis(300);

/// How long a search without a daemon collects answers: one query at once, and one a second later.
const SEARCH_TIME: Duration = Duration::from_millis(1_500);

/// How long the addresses of a peer are asked for, in milliseconds: at once, a second later, and two seconds after that.
const ADDRS_TIMEOUT_MS: u64 = 4_000;

/// Number of peers whose addresses are asked for at a time; the oldest question yields.
const ASKED_MAX: usize = 32;

/// Multicast does not work here.
#[derive(Debug, thiserror::Error)]
#[error(
    "multicast does not work on this machine, so rooms on the local network are not found: give an address or a ticket"
)]
pub struct MulticastError(#[from] mdns_sd::Error);

/// Where this peer listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenAddr {
    /// One address; `None` for those of all interfaces.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: u16,
}

/// Announces this peer and its room, and collects other peers, until the daemon stops. Without multicast it logs a warning
/// and ends: the room works without.
pub(crate) async fn run(ctx: NetContext, listen: ListenAddr, nearby: Arc<Nearby>) {
    let mut search = match MdnsSearch::new() {
        Ok(search) => search,
        Err(error) => return warn!(%error, cause = %error.0, "multicast"),
    };
    let mdns = search.mdns.clone();
    let mut changes = ctx.gate.changes();
    let mut announced: Option<(String, String)> = None;
    loop {
        let text = announcement(&ctx.gate.roster());
        if announced.as_ref().map(|(_, text)| text) != text.as_ref() {
            if let Some((service, _)) = announced.take().filter(|_| text.is_none()) {
                let _ = mdns.unregister(&service);
            }
            announced = text.and_then(|text| Some((announce(&mdns, &ctx.me, listen, &text)?, text)));
        }
        tokio::select! {
            event = search.found.recv_async() => match event {
                Ok(event) => search.apply(event, &ctx.me, &nearby),
                Err(_) => return warn!("multicast ended: rooms on the local network are not found any more"),
            },
            changed = changes.changed() => if changed.is_err() { break },
            () = ctx.token.cancelled() => break,
        }
    }
    // It withdraws what it announced; a lost goodbye only leaves an entry that runs out after two minutes.
    if let Ok(done) = mdns.shutdown() {
        let _ = timeout(GOODBYE_MAX, done.recv_async()).await;
    }
}

/// Finds rooms without a daemon: asks, and collects the answers for a moment.
///
/// # Errors
/// [`MulticastError`], when nothing can be asked.
pub async fn search() -> Result<Vec<NearbyRoom>, MulticastError> {
    let mut search = MdnsSearch::new()?;
    let nearby = Nearby::new(Mdns::On);
    let collect = async {
        while let Ok(event) = search.found.recv_async().await {
            // No peer has this key.
            search.apply(event, &PeerId::from_bytes([0; 32]), &nearby);
        }
    };
    tokio::select! { () = collect => {}, () = sleep(SEARCH_TIME) => {} }
    // The process ends; nothing was announced.
    let _ = search.mdns.shutdown();
    Ok(nearby.rooms())
}

/// A search for peers on the local network.
struct MdnsSearch {
    mdns: ServiceDaemon,
    found: Receiver<ServiceEvent>,
    /// Questions for addresses; each is asked for as long as its receiver lives.
    asked: VecDeque<Receiver<HostnameResolutionEvent>>,
}

impl MdnsSearch {
    fn new() -> Result<Self, MulticastError> {
        let mdns = ServiceDaemon::new()?;
        mdns.set_ip_check_interval(INTERFACES_EVERY_S)?;
        let found = mdns.browse(SERVICE)?;
        Ok(Self { mdns, found, asked: VecDeque::new() })
    }

    fn apply(&mut self, event: ServiceEvent, me: &PeerId, nearby: &Nearby) {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                if let Some(peer) = instance(service.get_fullname()).filter(|peer| peer != me) {
                    let seen = seen(&service);
                    debug!(remote = %peer.short(), addrs = ?seen.addrs, "seen on the local network");
                    if seen.addrs.is_empty() {
                        self.ask_addrs(service.get_hostname());
                    }
                    nearby.add(peer, seen);
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                if let Some(peer) = instance(&name) {
                    nearby.remove(&peer);
                }
            }
            // The library may report more one day.
            ServiceEvent::SearchStarted(_) | ServiceEvent::SearchStopped(_) | ServiceEvent::ServiceFound(..) | _ => {}
        }
    }

    /// Asks for the addresses of a host; the service is reported again with those that arrive.
    fn ask_addrs(&mut self, host: &str) {
        if let Ok(answers) = self.mdns.resolve_hostname(host, Some(ADDRS_TIMEOUT_MS)) {
            self.asked.truncate(ASKED_MAX - 1);
            self.asked.push_front(answers);
        }
    }
}

/// Announces a text; returns the full name of the service.
fn announce(mdns: &ServiceDaemon, me: &PeerId, listen: ListenAddr, text: &str) -> Option<String> {
    let instance = label(me);
    let host = format!("{instance}.local.");
    let properties = [(TEXT, text)];
    let service = match listen.ip {
        Some(ip) => ServiceInfo::new(SERVICE, &instance, &host, ip, listen.port, &properties[..]),
        None => ServiceInfo::new(SERVICE, &instance, &host, "", listen.port, &properties[..])
            .map(ServiceInfo::enable_addr_auto),
    };
    let registered = service.and_then(|mut service| {
        // The name is a key: no other peer has it.
        service.set_requires_probe(false);
        let name = service.get_fullname().to_owned();
        mdns.register(service).map(|()| name)
    });
    registered.inspect_err(|error| warn!(%error, "the room is not announced on the local network")).ok()
}

/// A peer's key as a DNS label, which has 63 characters at most.
fn label(peer: &PeerId) -> String {
    BASE32_NOPAD.encode(peer.as_bytes()).to_ascii_lowercase()
}

/// The peer of a service's full name.
fn instance(name: &str) -> Option<PeerId> {
    let label = name.split('.').next()?.to_ascii_uppercase();
    let key = BASE32_NOPAD.decode(label.as_bytes()).ok()?;
    Some(PeerId::from_bytes(key.try_into().ok()?))
}

fn seen(service: &ResolvedService) -> NearbyPeer {
    let port = service.get_port();
    let all: Vec<_> = service.get_addresses().iter().map(|ip| SocketAddr::from((ip.to_ip_addr(), port))).collect();
    // Two machines on one cable may have no others. Those of IPv6 are left out: iroh forgets the interface that they need.
    let local = all.iter().filter(|addr| matches!(addr.ip(), IpAddr::V4(ip) if ip.is_link_local()));
    let mut addrs: Vec<SocketAddr> = useful(all.iter().copied(), &[]).into_iter().chain(local.copied()).collect();
    addrs.truncate(ADDRS_MAX);
    NearbyPeer { addrs, room: service.get_property_val_str(TEXT).and_then(room) }
}

/// The announced text of a room: version, whether it is open, its id and its name.
fn announcement(roster: &Roster) -> Option<String> {
    let room = roster.room?;
    let door = if roster.open { "open" } else { "closed" };
    Some(format!("{VERSION} {door} {room} {}", roster.room_name))
}

fn room(text: &str) -> Option<RoomRef> {
    let mut words = text.splitn(4, ' ');
    let (version, door, id, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let open = match door {
        "open" => true,
        "closed" => false,
        _ => return None,
    };
    let valid = version == VERSION && check_recorded_name("room's name", name).is_ok();
    valid.then(|| Some(RoomRef { id: id.parse().ok()?, name: name.to_owned(), open }))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_proto::id::RoomId;
    use proptest::prelude::*;

    #[test]
    fn announced_room_round_trips() {
        for (open, name) in [(true, "lab"), (false, "李".repeat(32).as_str())] {
            let id = Some(RoomId::from_bytes([3; 32]));
            let roster = Roster { room: id, room_name: name.into(), open, ..Roster::default() };
            let heard = announcement(&roster).and_then(|data| room(&data)).expect("a room");
            assert_eq!((Some(heard.id), heard.name.as_str(), heard.open), (id, name, open));
        }
        assert_eq!(announcement(&Roster::default()), None);
    }

    #[test]
    fn key_fits_into_a_dns_label_and_back() {
        let peer = PeerId::from_bytes([0xa5; 32]);
        assert!(label(&peer).len() <= 63);
        assert_eq!(instance(&format!("{}.{SERVICE}", label(&peer))), Some(peer));
        assert_eq!(instance("x._chatd._udp.local."), None);
        assert_eq!(instance(""), None);
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
}
