//! What travels between machines: dials, connections, frames, datagrams, watches and probes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::id::PeerId;

use crate::input::Input;
use crate::sim::room::machine::{Host, MachineState};
use crate::sim::room::network::{ConnEnd, ConnId, Phase};
use crate::sim::room::plan::Fault;
use crate::sim::room::world::RoomWorld;
use crate::types::{PathInfo, ProbeOutcome, RoleEvent};
use crate::wire::Frame;

/// Maximum time until an unanswered dial fails, in milliseconds.
const DIAL_TIMEOUT_MS: u64 = 5_000;

/// Minimum and maximum time until a connection that carries nothing ends, in milliseconds.
const IDLE_MS: (u64, u64) = (2_000, 12_000);

/// Share of packets that [`Fault::Loss`] loses.
const LOSS: f64 = 0.05;

/// Share of datagrams that [`Fault::DuplicateDatagrams`] delivers twice.
const DUPLICATES: f64 = 0.1;

/// Maximum delay that [`Fault::Loss`] adds to a datagram, in milliseconds.
const JITTER_MS: u64 = 200;

impl RoomWorld {
    fn latency(&mut self, a: Host, b: Host) -> Duration {
        let base = 1 + (a.0 * 7 + b.0 * 7) as u64 % self.plan.latency_ms_max;
        let spike = if self.plan.faults.is_empty() || !self.troubled || !self.chance(0.005) { 0 } else { 2_000 };
        let again = if self.loses() { 250 } else { 0 };
        self.between_ms(base, base + base / 2 + spike + again)
    }

    /// Whether a packet is lost.
    fn loses(&mut self) -> bool {
        self.troubled && self.plan.has(Fault::Loss) && self.chance(LOSS)
    }

    fn reaches(&self, from: Host, to: Host) -> bool {
        !self.net.is_blocked(from, to) && !self.net.is_blocked(to, from)
    }

    pub(in crate::sim::room) fn dial(&mut self, host: Host, peer: PeerId, addrs: &[SocketAddr]) {
        let Some(to) = self.host_of(&peer) else {
            return self.input_after(host, Duration::from_millis(50), Input::DialFailed(peer));
        };
        assert_ne!(host, to, "a node dials itself");
        let standing = self.net.between(host, to).is_some_and(|(_, conn)| conn.phase(conn.end_of(host)) != Phase::Down);
        if standing || !self.net.dialling.insert((host, to)) {
            return;
        }
        if addrs.is_empty() {
            self.net.dialling.remove(&(host, to));
            return self.input_after(host, Duration::from_millis(50), Input::DialFailed(peer));
        }
        let delay = self.latency(host, to) * 2;
        self.schedule_for(host, delay, move |world| world.dialled(host, to, 0));
    }

    pub(in crate::sim::room) fn dialled(&mut self, host: Host, to: Host, tries: u8) {
        let peer = self.at(to).id;
        let answers = self.reaches(host, to) && !self.net.shielded.contains(&to);
        if !answers || matches!(self.at(to).state, MachineState::Suspended) {
            self.net.dialling.remove(&(host, to));
            let wait = self.between_ms(100, DIAL_TIMEOUT_MS);
            return self.input_after(host, wait, Input::DialFailed(peer));
        }
        let listens = self.at(to).node.is_some();
        let admitted = self.at(host).admits(&peer) && self.at(to).admits(&self.at(host).id);
        if listens && !admitted && tries == 0 {
            // The gate waits a moment, as the news of an admission may still be in transit.
            return self.schedule_for(host, Duration::from_secs(1), move |world| world.dialled(host, to, 1));
        }
        self.net.dialling.remove(&(host, to));
        if !listens || !admitted {
            return self.input_after(host, Duration::from_millis(5), Input::DialFailed(peer));
        }
        if let Some((old, conn)) = self.net.between(host, to) {
            let both = conn.phase(ConnEnd::Dialler) != Phase::Down && conn.phase(ConnEnd::Acceptor) != Phase::Down;
            if both && self.chance(0.7) {
                return;
            }
            self.break_now(old);
        }
        self.connect(host, to);
    }

    fn connect(&mut self, dialler: Host, acceptor: Host) {
        let after = self.latency(dialler, acceptor);
        let id = self.net.open(dialler, acceptor, [self.now(), self.now() + after]);
        self.schedule_for(dialler, Duration::ZERO, move |world| world.up(id, dialler));
        self.schedule_for(acceptor, after, move |world| world.up(id, acceptor));
    }

    pub(in crate::sim::room) fn up(&mut self, id: ConnId, host: Host) {
        let Some(conn) = self.net.conns.get_mut(&id) else { return };
        let end = conn.end_of(host);
        if conn.phase(end) != Phase::Rising {
            return;
        }
        conn.set_phase(end, Phase::Up);
        let other = conn.host(end.other());
        let (peer, addr) = (self.at(other).id, self.at(other).addr);
        if !self.at(host).admits(&peer) {
            // The daemon asks its gate again before it hands a connection over, as membership may have changed since.
            if let Some(conn) = self.net.conns.get_mut(&id) {
                conn.set_phase(end, Phase::Down);
            }
            return self.break_soon(id);
        }
        let rtt = self.latency(host, other) * 2;
        let inbound = end == ConnEnd::Acceptor;
        let path = PathInfo { direct: true, rtt, loss: 0.0, remote: Some(addr), inbound };
        self.input(host, Input::Up(peer, path));
    }

    pub(in crate::sim::room) fn send(&mut self, host: Host, peer: &PeerId, frame: Bytes) {
        let Some(to) = self.host_of(peer) else { return };
        self.count(host, peer, &frame);
        let latency = self.latency(host, to);
        let (now, bound) = (self.now(), self.plan.queue_bytes_max);
        let Some((id, conn)) = self.net.between(host, to) else { return };
        let end = conn.end_of(host);
        if !conn.takes(end) {
            return;
        }
        let lane = conn.lane(end.other());
        lane.bytes += frame.len();
        let full = lane.bytes > bound;
        lane.last = lane.last.max(now + latency);
        let first = !lane.moving;
        let at = lane.last;
        lane.moving = true;
        self.hash.update(&to.0.to_le_bytes());
        self.hash.update(&frame);
        lane.frames.push_back((at, frame));
        if full {
            return self.break_soon(id);
        }
        if first {
            self.move_lane(id, end.other());
        }
    }

    fn count(&mut self, host: Host, peer: &PeerId, frame: &Bytes) {
        self.checker.sends(self.at(host), peer, frame);
        if let Some(to) = self.host_of(peer) {
            *self.sent.entry((kind(frame), host, to)).or_default() += 1;
        }
        let (frames, bytes) = &mut self.machine(host).sent;
        *frames += 1;
        *bytes += frame.len() as u64;
    }

    pub(in crate::sim::room) fn send_datagram(&mut self, host: Host, peer: &PeerId, frame: Bytes) {
        let Some(to) = self.host_of(peer) else { return };
        self.count(host, peer, &frame);
        let rough = self.troubled && self.plan.has(Fault::Loss);
        let late = if rough { self.between_ms(0, JITTER_MS) } else { Duration::ZERO };
        let latency = self.latency(host, to) + late;
        let lost = self.loses() || self.net.is_blocked(host, to);
        let twice = self.troubled && self.plan.has(Fault::DuplicateDatagrams) && self.chance(DUPLICATES);
        let twin = twice.then(|| (latency + self.between_ms(0, JITTER_MS), frame.clone()));
        let Some((id, conn)) = self.net.between(host, to) else { return };
        if conn.takes(conn.end_of(host)) && !lost {
            self.hash.update(&frame);
            if let Some((later, twin)) = twin {
                self.schedule_for(to, later, move |world| world.datagram_arrives(id, to, twin));
            }
            self.schedule_for(to, latency, move |world| world.datagram_arrives(id, to, frame));
        }
    }

    pub(in crate::sim::room) fn datagram_arrives(&mut self, id: ConnId, host: Host, frame: Bytes) {
        let Some(conn) = self.net.conns.get(&id) else { return };
        let end = conn.end_of(host);
        let from = conn.host(end.other());
        if conn.phase(end) == Phase::Up && !self.net.is_blocked(from, host) {
            let peer = self.at(from).id;
            self.input(host, Input::Frame(peer, frame));
        }
    }

    fn move_lane(&mut self, id: ConnId, to: ConnEnd) {
        let now = self.now();
        let Some(conn) = self.net.conns.get_mut(&id) else { return };
        let host = conn.host(to);
        let lane = conn.lane(to);
        lane.moving = !lane.frames.is_empty();
        if let Some((at, _)) = lane.frames.front() {
            let after = at.saturating_sub(now);
            self.schedule_for(host, after, move |world| world.arrive(id, host));
        }
    }

    pub(in crate::sim::room) fn arrive(&mut self, id: ConnId, host: Host) {
        let Some(conn) = self.net.conns.get_mut(&id) else { return };
        let end = conn.end_of(host);
        if conn.phase(end) != Phase::Up {
            return;
        }
        let from = conn.host(end.other());
        if self.net.blocked.contains(&(from, host)) {
            conn.lane(end).moving = false;
            return;
        }
        let lane = conn.lane(end);
        let Some((_, frame)) = lane.frames.pop_front() else {
            lane.moving = false;
            return;
        };
        lane.bytes -= frame.len();
        let peer = self.at(from).id;
        self.move_lane(id, end);
        self.input(host, Input::Frame(peer, frame));
    }

    /// Closes a connection; what this side has sent still arrives.
    pub(in crate::sim::room) fn disconnect(&mut self, host: Host, peer: &PeerId) {
        let Some(to) = self.host_of(peer) else { return };
        let flush = self.between_ms(0, 500);
        let Some((id, conn)) = self.net.between(host, to) else { return };
        let end = conn.end_of(host);
        if !conn.takes(end) {
            return;
        }
        conn.close(end);
        let arrived = conn.lane(end.other()).last;
        let after = arrived.saturating_sub(self.now()) + Duration::from_millis(1);
        self.schedule_for(host, flush, move |world| world.down(id, host));
        self.schedule_for(to, after, move |world| world.down(id, to));
    }

    pub(in crate::sim::room) fn down(&mut self, id: ConnId, host: Host) {
        let Some(conn) = self.net.conns.get_mut(&id) else { return };
        let end = conn.end_of(host);
        let phase = conn.phase(end);
        conn.set_phase(end, Phase::Down);
        let other = conn.host(end.other());
        self.net.forget_if_over(id);
        if phase == Phase::Up {
            let peer = self.at(other).id;
            self.input(host, Input::Down(peer));
        }
    }

    /// Breaks a connection; both ends learn of it at once.
    fn break_now(&mut self, id: ConnId) {
        let Some(conn) = self.net.conns.get(&id) else { return };
        for host in conn.ends {
            self.down(id, host);
        }
    }

    pub(in crate::sim::room) fn break_soon(&mut self, id: ConnId) {
        let Some(conn) = self.net.conns.get(&id) else { return };
        for host in conn.ends {
            let after = self.between_ms(1, 300);
            self.schedule_for(host, after, move |world| world.down(id, host));
        }
    }

    pub(in crate::sim::room) fn unwatch(&mut self, host: Host, peer: &PeerId) {
        if let Some(to) = self.host_of(peer) {
            self.net.watches.remove(&(host, to));
        }
    }

    /// The kernel of a machine whose process ended closes the watches on it.
    fn end_watches(&mut self, host: Host) {
        let peer = self.at(host).id;
        let mut watchers: Vec<Host> =
            self.net.watches.iter().filter(|(_, to)| *to == host).map(|(from, _)| *from).collect();
        watchers.retain(|watcher| self.reaches(*watcher, host));
        self.net.watches.retain(|(from, to)| *from != host && *to != host);
        for watcher in watchers {
            let after = self.between_ms(1, self.plan.latency_ms_max * 3 / 2);
            self.input_after(watcher, after, Input::Role(RoleEvent::WatchClosed(peer)));
        }
    }

    /// A machine dies without a word; the others notice after the idle timeout.
    pub(in crate::sim::room) fn vanish(&mut self, host: Host) {
        self.end_watches(host);
        self.net.dialling.retain(|(from, _)| *from != host);
        for id in self.net.of(host) {
            let Some(conn) = self.net.conns.get_mut(&id) else { continue };
            let end = conn.end_of(host);
            conn.set_phase(end, Phase::Down);
            let other = conn.host(end.other());
            self.net.forget_if_over(id);
            let after = self.between_ms(IDLE_MS.0, IDLE_MS.1);
            self.schedule_for(other, after, move |world| world.down(id, other));
        }
    }

    /// A machine's process exits; its kernel closes the connections.
    pub(in crate::sim::room) fn part(&mut self, host: Host) {
        self.end_watches(host);
        self.net.dialling.retain(|(from, _)| *from != host);
        for id in self.net.of(host) {
            let Some(conn) = self.net.conns.get_mut(&id) else { continue };
            let end = conn.end_of(host);
            conn.set_phase(end, Phase::Down);
            let other = conn.host(end.other());
            let last = conn.lane(end.other()).last;
            self.net.forget_if_over(id);
            let after = last.saturating_sub(self.now()) + Duration::from_millis(1);
            self.schedule_for(other, after, move |world| world.down(id, other));
        }
    }

    /// Lets connections end that something cuts off for longer than the idle timeout.
    pub(in crate::sim::room) fn watch_idle(&mut self) {
        let ids: Vec<ConnId> = self.net.conns.keys().copied().collect();
        for id in ids {
            let Some(conn) = self.net.conns.get(&id) else { continue };
            let [a, b] = conn.ends;
            if !self.reaches(a, b) {
                let after = self.between_ms(IDLE_MS.0, IDLE_MS.1);
                self.schedule(after, move |world| world.idle(id));
            }
        }
    }

    pub(in crate::sim::room) fn idle(&mut self, id: ConnId) {
        let Some(conn) = self.net.conns.get(&id) else { return };
        let [a, b] = conn.ends;
        let asleep = self.at(a).state == MachineState::Suspended || self.at(b).state == MachineState::Suspended;
        if !self.reaches(a, b) || asleep {
            self.break_soon(id);
        }
    }

    pub(in crate::sim::room) fn heal(&mut self, links: &[(Host, Host)]) {
        for link in links {
            self.net.blocked.remove(link);
        }
        let ids: Vec<ConnId> = self.net.conns.keys().copied().collect();
        for id in ids {
            for end in [ConnEnd::Dialler, ConnEnd::Acceptor] {
                let idle = self.net.conns.get_mut(&id).is_some_and(|conn| !conn.lane(end).moving);
                if idle {
                    self.move_lane(id, end);
                }
            }
        }
    }

    pub(in crate::sim::room) fn watch(&mut self, host: Host, peer: PeerId) {
        let to = self.host_of(&peer).filter(|to| self.reaches(host, *to) && self.at(*to).node.is_some());
        let event = if to.is_some() { RoleEvent::WatchOpened(peer) } else { RoleEvent::WatchFailed(peer) };
        self.net.watches.extend(to.map(|to| (host, to)));
        let after = self.between_ms(2, 80);
        self.input_after(host, after, Input::Role(event));
    }

    pub(in crate::sim::room) fn probe(&mut self, host: Host, peer: PeerId, addrs: Vec<SocketAddr>) {
        let to = self.host_of(&peer).filter(|to| self.reaches(host, *to) && !self.net.shielded.contains(to));
        let up = to.is_some_and(|to| self.at(to).state == MachineState::Running);
        let rtt = self.between_ms(2, 80);
        let (after, outcome) = match addrs.first() {
            Some(addr) if up => (rtt, ProbeOutcome::Answered { addr: *addr, rtt }),
            Some(_) | None => (Duration::from_secs(3), ProbeOutcome::Unanswered(addrs)),
        };
        self.input_after(host, after, Input::Role(RoleEvent::Probed(peer, outcome)));
    }
}

fn kind(raw: &[u8]) -> &'static str {
    match Frame::decode(raw) {
        Ok(Frame::Hello { .. }) => "hello",
        Ok(Frame::Entries(_)) => "entries",
        Ok(Frame::Chunk(_)) => "chunk",
        Ok(Frame::Vector { .. }) => "vector",
        Ok(Frame::Digest { .. }) => "digest",
        Ok(Frame::Want { .. }) => "want",
        Ok(Frame::Held { .. }) => "held",
        Ok(Frame::Links(_)) => "links",
        Ok(Frame::Addrs(_)) => "addrs",
        Ok(Frame::Knock { .. }) => "knock",
        Ok(Frame::Fork(..)) => "fork",
        Ok(Frame::Tree(_)) => "tree",
        Ok(Frame::Role(_)) => "role",
        Ok(Frame::Ping(_) | Frame::Pong(_)) => "ping",
        Ok(Frame::Bye) => "bye",
        Err(_) => "garbage",
    }
}
