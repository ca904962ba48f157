//! Peers for the tests: endpoints on loopback, rosters made by hand, waits with deadlines.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_core::membership::roster::{Person, Roster};
use chat_core::types::PathInfo;
use chat_proto::api::peers::{MemberRole, PeerRef};
use chat_proto::id::{PeerId, RoomId};
use iroh::{EndpointAddr, SecretKey};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::net::gate::Gate;
use crate::net::settings::{Listen, Mdns, NetSettings};
use crate::net::{DownReason, Net, NetEvent, NetEvents, OutboxError};

/// Maximum wait for an event that must happen.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) const ROOM: RoomId = RoomId::from_bytes([9; 32]);

/// A peer with its end of the events.
pub(super) struct NetPeer {
    pub(super) net: Net,
    pub(super) events: NetEvents,
}

pub(super) fn settings() -> NetSettings {
    NetSettings {
        listen: Listen { ip: Some(Ipv4Addr::LOCALHOST.into()), port: Some(0) },
        mdns: Mdns::Off,
        ..NetSettings::default()
    }
}

/// The secret key whose peer id comes `n`th among the test's keys.
pub(super) fn secret(n: u8) -> [u8; 32] {
    let mut secrets: Vec<[u8; 32]> = (1..=8).map(|n| [n; 32]).collect();
    secrets.sort_by_key(id_of);
    secrets[usize::from(n)]
}

pub(super) fn id_of(secret: &[u8; 32]) -> PeerId {
    PeerId::from_bytes(*SecretKey::from_bytes(secret).public().as_bytes())
}

pub(super) fn roster(members: &[PeerId], open: bool) -> Arc<Roster> {
    let person = |id: &PeerId| {
        let peer = PeerRef { id: *id, name: "alice".into(), tag: id.tag() };
        (*id, Arc::new(Person { peer, active: true, role: MemberRole::Member, keys: None }))
    };
    let people = members.iter().map(person).collect();
    Arc::new(Roster { room: Some(ROOM), room_name: "lab".into(), open, people, ..Roster::default() })
}

/// A peer that is not in a room.
pub(super) async fn outsider(n: u8) -> NetPeer {
    start(secret(n), settings(), Arc::default()).await
}

/// Peers 0 to `n - 1`, members of one room.
pub(super) async fn members(n: u8) -> Vec<NetPeer> {
    let ids: Vec<PeerId> = (0..n).map(|n| id_of(&secret(n))).collect();
    let mut peers = Vec::new();
    for n in 0..n {
        peers.push(start(secret(n), settings(), roster(&ids, false)).await);
    }
    peers
}

pub(super) async fn start(secret: [u8; 32], settings: NetSettings, roster: Arc<Roster>) -> NetPeer {
    let gate = Gate::new(id_of(&secret), tokio::sync::watch::Sender::default());
    gate.set_roster(roster);
    let (net, events) = Net::bind(settings, secret, gate).await.expect("loopback can be listened on");
    NetPeer { net, events }
}

impl NetPeer {
    pub(super) fn id(&self) -> PeerId {
        self.net.me()
    }

    pub(super) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.net.port()))
    }

    /// Where to dial it.
    pub(super) fn endpoint_addr(&self) -> EndpointAddr {
        self.net.dialer.book.endpoint_addr(&self.id(), &[self.addr()]).expect("a key")
    }

    pub(super) fn dial(&self, other: &Self) {
        self.net.dial(other.id(), vec![other.addr()]);
    }

    /// The next event that is neither `Path` nor `Addrs`.
    pub(super) async fn next(&mut self) -> NetEvent {
        let next = async {
            loop {
                let event = self.events.recv().await.expect("the net is open");
                if !matches!(event, NetEvent::Path(..) | NetEvent::Addrs(_)) {
                    return event;
                }
            }
        };
        timeout(DEADLINE, next).await.expect("an event comes")
    }

    pub(super) async fn up(&mut self, other: PeerId) -> PathInfo {
        let event = self.next().await;
        let NetEvent::Up(peer, info) = event else { panic!("not connected: {event:?}") };
        assert_eq!(peer, other);
        info
    }

    pub(super) async fn down(&mut self, other: PeerId) -> DownReason {
        let event = self.next().await;
        let NetEvent::Down(peer, reason) = event else { panic!("not gone: {event:?}") };
        assert_eq!(peer, other);
        reason
    }

    pub(super) async fn frame(&mut self, other: PeerId) -> Bytes {
        let event = self.next().await;
        let NetEvent::Frame(peer, frame) = event else { panic!("no frame: {event:?}") };
        assert_eq!(peer, other);
        frame
    }

    pub(super) fn send(&self, other: PeerId, frame: &'static str) -> Result<(), OutboxError> {
        self.net.send(other, Bytes::from_static(frame.as_bytes()))
    }

    /// Stops in an orderly way.
    pub(super) async fn stop(mut self) {
        let drain = async { while self.events.recv().await.is_some() {} };
        tokio::join!(drain, self.net.shutdown(DEADLINE));
    }
}

/// A peer that can end as a killed process does: its runtime is dropped, and no packet reports it.
pub(super) struct Mortal {
    runtime: Runtime,
    pub(super) peer: NetPeer,
}

impl Mortal {
    pub(super) async fn start(secret: [u8; 32], settings: NetSettings, roster: Arc<Roster>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let started = runtime.spawn(start(secret, settings, roster)).await;
        Self { peer: started.expect("the peer starts"), runtime }
    }

    pub(super) fn kill(self) {
        self.runtime.shutdown_background();
    }
}

/// Connects two peers.
pub(super) async fn connect(a: &mut NetPeer, b: &mut NetPeer) {
    a.dial(b);
    a.up(b.id()).await;
    b.up(a.id()).await;
}
