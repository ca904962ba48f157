//! Pings: quiet neighbours are pinged, silent ones are disconnected and so offline.

use std::time::Duration;

use chat_proto::id::PeerId;

use crate::input::Now;
use crate::node::Node;
use crate::node::timers::Timer;
use crate::output::{CloseReason, Output};
use crate::peers::liveness::Finding;
use crate::rendezvous::events::RoleInput;
use crate::wire::Frame;

impl Node {
    /// A connection is open: frames are expected from now on.
    pub(super) fn watch_pulse(&mut self, peer: PeerId, rtt: Duration, now: Now) {
        let jitter = self.jitter();
        self.peers.liveness.up(peer, rtt, jitter, now.mono);
        self.set_pulse();
    }

    /// The role was taken from a peer because it seems gone: it has to show that it is not.
    pub(super) fn doubt_pulse(&mut self, peer: &PeerId, now: Now) {
        self.peers.liveness.suspect(peer, now.mono);
        self.set_pulse();
    }

    /// Pings quiet peers, and disconnects silent ones.
    pub(super) fn feel_pulse(&mut self, now: Now) {
        let stretch = self.rendezvous().map_or(1, |role| role.stretch(now));
        for finding in self.peers.liveness.tick(stretch, now.mono) {
            match finding {
                Finding::Ask(peer, times) => self.send_either(&peer, times, &Frame::Ping(times)),
                Finding::Gone(peer) => {
                    tracing::info!(remote = %peer.short(), "peer is silent, connection closed");
                    self.break_with(peer, CloseReason::Silent, now);
                }
            }
        }
        self.set_pulse();
    }

    pub(super) fn answer_ping(&mut self, peer: &PeerId, number: u64) {
        self.send_either(peer, number, &Frame::Pong(number));
    }

    /// By turns as a datagram, which waits behind nothing, and in the stream, where what is lost is repeated.
    fn send_either(&mut self, peer: &PeerId, number: u64, frame: &Frame) {
        if !number.is_multiple_of(2) {
            return self.send(peer, frame);
        }
        if let Ok(raw) = frame.encode()
            && self.peers.connections.is_connected(peer)
        {
            self.out.push_back(Output::Datagram(*peer, raw));
        }
    }

    /// Nothing is read from the network: no peer is blamed for its silence.
    pub(super) fn on_deaf(&mut self, now: Now) {
        self.peers.liveness.forgive(now.mono);
        self.tell_role(RoleInput::Deaf, now);
    }

    fn set_pulse(&mut self) {
        match self.peers.liveness.next() {
            Some(at) => self.timers.set(Timer::Pulse, at),
            None => self.timers.cancel(Timer::Pulse),
        }
    }
}
