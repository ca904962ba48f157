//! Connections and TCP watches between the peers of the role simulation, and the peers that are online.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::id::PeerId;

use crate::rendezvous::events::RoleInput;
use crate::sim::clock::MS;
use crate::sim::groups::groups;
use crate::sim::role::network::{DIAL_TIMEOUT, Id};
use crate::sim::role::peer::ProcessState;
use crate::sim::role::world::{RoleWorld, addr};
use crate::types::{PathInfo, RoleEvent};

/// Time without a byte after which a connection is given up, as QUIC does.
const IDLE: Duration = Duration::from_secs(15);

/// Interval at which peers try to connect and idle connections are looked for.
const SWEEP: Duration = Duration::from_millis(250);

/// Time until all peers learn which peers are online.
const PRESENCE: Duration = Duration::from_millis(300);

/// Time after which something that did not get through is sent again.
const RESEND: Duration = Duration::from_millis(250);

/// How often a kernel repeats the end of a TCP connection that does not get through.
const CLOSE_RESENDS: u32 = 500;

/// A connection, seen from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoleConn {
    number: u64,
    alive: Duration,
}

impl RoleWorld {
    /// The number of the connection between two peers, if there is one.
    pub(super) fn connected(&self, a: Id, b: Id) -> Option<u64> {
        self.conns.get(&(a.min(b), a.max(b))).map(|conn| conn.number)
    }

    /// Connects the pairs that want to be connected, and gives up idle connections.
    pub(super) fn sweep(&mut self) {
        self.schedule(SWEEP, Self::sweep);
        let now = self.now();
        let mut lost = Vec::new();
        for (&(a, b), conn) in &mut self.conns {
            let runs = |id: Id| self.peers[id].life == ProcessState::Running;
            if runs(a) && runs(b) && self.net.both_ways(a, b) {
                conn.alive = now;
            }
            if conn.alive + IDLE < now {
                lost.push((a, b));
            }
        }
        for (a, b) in lost {
            self.disconnect(a, b);
        }
        for (a, b) in self.wanted() {
            if self.can_connect(a, b) {
                let after = self.net.rtt(a, b) + self.random_span(Duration::ZERO..2 * MS);
                let runs = (self.peers[a].run, self.peers[b].run);
                self.schedule(after, move |world| {
                    if (world.peers[a].run, world.peers[b].run) == runs && world.can_connect(a, b) {
                        world.connect(a, b);
                    }
                });
            }
        }
    }

    fn can_connect(&self, a: Id, b: Id) -> bool {
        let runs = |id: Id| self.peers[id].life == ProcessState::Running && !self.peers[id].leaving;
        runs(a) && runs(b) && self.net.both_ways(a, b) && self.connected(a, b).is_none()
    }

    /// Pairs that are not connected and want to be.
    fn wanted(&self) -> Vec<(Id, Id)> {
        let mut pairs: BTreeSet<(Id, Id)> = match &self.mesh {
            Some(mesh) => mesh.clone(),
            None => (0..self.peers.len()).flat_map(|a| (a + 1..self.peers.len()).map(move |b| (a, b))).collect(),
        };
        if self.mesh.is_some() {
            for (id, peer) in self.peers.iter().enumerate() {
                let kept = peer.keep.iter().filter_map(|kept| self.index.get(kept));
                pairs.extend(kept.map(|kept| (id.min(*kept), id.max(*kept))));
            }
        }
        pairs.into_iter().filter(|pair| !self.conns.contains_key(pair)).collect()
    }

    fn connect(&mut self, a: Id, b: Id) {
        self.conns_opened += 1;
        self.net.reset_stream(a, b);
        self.conns.insert((a, b), RoleConn { number: self.conns_opened, alive: self.now() });
        for (id, other, inbound) in [(a, b, false), (b, a, true)] {
            let direct = self.net.direct(a, b);
            let remote = direct.then(|| addr(other));
            let path = PathInfo { direct, rtt: self.net.rtt(a, b), loss: 0.0, remote, inbound };
            let peer = self.peers[other].id;
            self.give(id, RoleInput::Up(peer, path));
        }
        self.presence_soon();
    }

    fn disconnect(&mut self, a: Id, b: Id) {
        if self.conns.remove(&(a.min(b), a.max(b))).is_some() {
            for (id, other) in [(a, b), (b, a)] {
                let peer = self.peers[other].id;
                self.give(id, RoleInput::Down(peer));
            }
            self.presence_soon();
        }
    }

    /// A frame arrives, unless its connection has been replaced; where nothing gets through it waits.
    pub(super) fn arrive(&mut self, from: Id, to: Id, conn: u64, frame: Bytes) {
        if self.connected(from, to) != Some(conn) {
            return;
        }
        if self.net.open(from, to) {
            let sender = self.peers[from].id;
            self.give(to, RoleInput::Frame(sender, frame.to_vec()));
        } else {
            self.schedule(RESEND, move |world| world.arrive(from, to, conn, frame));
        }
    }

    /// The last frame of a connection arrives, behind all others.
    pub(super) fn bye(&mut self, from: Id, to: Id, conn: u64) {
        if self.connected(from, to) == Some(conn) {
            let peer = self.peers[from].id;
            self.give(to, RoleInput::Bye(peer));
            self.disconnect(from, to);
        }
    }

    /// The peers that another one is connected to.
    pub(super) fn neighbours(&self, id: Id) -> Vec<Id> {
        let other = |(a, b): &(Id, Id)| if *a == id { Some(*b) } else { (*b == id).then_some(*a) };
        self.conns.keys().filter_map(other).collect()
    }

    pub(super) fn presence_soon(&mut self) {
        if !self.presence_due {
            self.presence_due = true;
            self.schedule(PRESENCE, Self::presence);
        }
    }

    /// Tells each peer which peers are connected to it, directly or through others.
    fn presence(&mut self) {
        self.presence_due = false;
        for group in groups((0..self.peers.len()).collect(), |a, b| self.connected(a, b).is_some()) {
            let online: BTreeSet<PeerId> = group.iter().map(|id| self.peers[*id].id).collect();
            for id in group {
                self.give(id, RoleInput::Online(online.clone()));
            }
        }
    }

    pub(super) fn open_watch(&mut self, by: Id, of: Id) {
        let takes = if self.net.tcp(by, of) { self.net.rtt(by, of) } else { DIAL_TIMEOUT };
        let of_run = self.peers[of].run;
        self.schedule_for(by, takes, move |world| {
            let (peer, life, run) = (world.peers[of].id, world.peers[of].life, world.peers[of].run);
            let accepts = life != ProcessState::Dead && run == of_run;
            if accepts && world.net.tcp(by, of) && !world.no_watch.contains(&of) {
                world.watches.insert((by, of));
                world.give(by, RoleInput::Net(RoleEvent::WatchOpened(peer)));
            } else {
                world.give(by, RoleInput::Net(RoleEvent::WatchFailed(peer)));
            }
        });
    }

    /// The kernel of a machine whose process ended closes the watches on it.
    pub(super) fn close_watches(&mut self, of: Id) {
        let watching: Vec<Id> = self.watches.iter().filter(|(_, watched)| *watched == of).map(|(by, _)| *by).collect();
        for by in watching {
            self.schedule(self.net.link(of, by).delay, move |world| world.watch_closed(by, of, CLOSE_RESENDS));
        }
    }

    /// The end of a TCP connection arrives, as soon as TCP gets through.
    pub(super) fn watch_closed(&mut self, by: Id, of: Id, resends: u32) {
        if !self.net.tcp(by, of) {
            if resends > 0 {
                self.schedule(RESEND, move |world| world.watch_closed(by, of, resends - 1));
            }
            return;
        }
        if self.watches.remove(&(by, of)) {
            let peer = self.peers[of].id;
            self.give(by, RoleInput::Net(RoleEvent::WatchClosed(peer)));
        }
    }
}
