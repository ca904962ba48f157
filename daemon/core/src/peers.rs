//! Other peers: connections, addresses, liveness, presence.

pub mod addrs;
pub(crate) mod connections;
pub(crate) mod dialing;
pub(crate) mod liveness;
pub(crate) mod presence;

use std::net::SocketAddr;

use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::input::Now;
use crate::log::local::Local;
use crate::output::Output;
use crate::types::PathInfo;
use crate::wire::Frame;
use addrs::{AddrBook, AddrRecord};
use connections::Connections;
use presence::Presence;

/// What this peer knows of others, and the addresses it gives them of itself.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) connections: Connections,
    pub(crate) presence: Presence,
    pub(crate) addrs: AddrBook,
    pub(crate) own_addrs: Vec<SocketAddr>,
}

impl Peers {
    /// This peer's addresses, signed; newer than all that it signed before, also when its clock was set back since.
    pub(crate) fn sign_own_addrs(&self, local: &Local, now: Now) -> AddrRecord {
        let held = self.addrs.get(&local.me).map(|record| record.time);
        let after = held.map_or(0, |time| time.as_ms().saturating_add(1));
        let time = Timestamp::from_ms(now.wall.as_ms().max(after));
        AddrRecord::sign(self.own_addrs.clone(), time, &local.key)
    }

    /// A connection is open: frames are expected from now on.
    pub(crate) fn up(&mut self, peer: PeerId, path: PathInfo, cx: &mut NodeContext) {
        self.connections.up(peer, path, cx.jitter(), cx.now.mono);
        self.addrs.is_back(&peer);
        self.plan_ping(cx);
    }

    /// The role was taken from a peer because it seems gone: it has to show that it is not.
    pub(crate) fn suspect(&mut self, peer: &PeerId, cx: &mut NodeContext) {
        self.connections.suspect(peer, cx.now.mono);
        self.plan_ping(cx);
    }

    /// Sets the timer for the next pings.
    pub(crate) fn plan_ping(&mut self, cx: &mut NodeContext) {
        cx.set_at(Timer::Ping, self.connections.next_ping());
    }

    /// Sends a ping or its answer: by turns as a datagram, which waits behind nothing, and in the stream, where what is
    /// lost is repeated.
    pub(crate) fn send_ping(&self, peer: &PeerId, number: u64, frame: &Frame, cx: &mut NodeContext) {
        if !number.is_multiple_of(2) {
            return self.connections.send(&mut cx.out, peer, frame);
        }
        if let Ok(raw) = frame.encode()
            && self.connections.is_connected(peer)
        {
            cx.push(Output::Datagram(*peer, raw));
        }
    }
}
