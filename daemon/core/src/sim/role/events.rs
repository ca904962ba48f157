//! What happens in the simulation: events in time, and carrying out what peers want done.

use std::cmp::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::rendezvous::io::{Delivery, RoleInput, RoleOutput};
use crate::sim::role::net::{Fate, Id, Us};
use crate::sim::role::peer::Life;
use crate::sim::role::world::{World, addr};
use crate::types::{ProbeOutcome, RoleEvent, RoleRequest};

/// How long a connection attempt into nothing takes.
const TIMEOUT: Us = 3_000_000;

/// How soon something that did not get through is sent again.
const AGAIN: Us = 250_000;

/// Something that happens.
pub(super) enum Event {
    Wake {
        id: Id,
        run: u64,
    },
    Input {
        to: Id,
        run: u64,
        input: RoleInput,
    },
    Frame {
        from: Id,
        to: Id,
        conn: u64,
        frame: Bytes,
    },
    Connect {
        a: Id,
        b: Id,
        runs: (u64, u64),
    },
    WatchTried {
        by: Id,
        of: Id,
        run: u64,
        of_run: u64,
    },
    WatchClosed {
        by: Id,
        of: Id,
        tries: u32,
    },
    Gone {
        id: Id,
        run: u64,
    },
    /// The last frame of a connection, behind all others.
    Bye {
        from: Id,
        to: Id,
        conn: u64,
    },
    Presence,
    Sweep,
}

/// An event and its time; at one time, in the order in which they were scheduled.
pub(super) struct Scheduled {
    pub(super) at: Us,
    pub(super) order: u64,
    pub(super) event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl World {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { id, run } => self.wake(id, run),
            Event::Input { to, run, input } => {
                if self.peers[to].run == run {
                    self.give(to, input);
                }
            }
            Event::Frame { from, to, conn, frame } => {
                if self.connected(from, to).is_some_and(|now| now.number == conn) {
                    if self.net.open(from, to) {
                        let sender = self.peers[from].id;
                        self.give(to, RoleInput::Frame(sender, frame.to_vec()));
                    } else {
                        self.schedule(self.now + AGAIN, Event::Frame { from, to, conn, frame });
                    }
                }
            }
            Event::Connect { a, b, runs } => {
                let same = (self.peers[a].run, self.peers[b].run) == runs;
                let runs = |id: Id| self.peers[id].life == Life::Running && !self.peers[id].leaving;
                if same && runs(a) && runs(b) && self.net.both_ways(a, b) && self.connected(a, b).is_none() {
                    self.connect(a, b);
                }
            }
            Event::WatchTried { by, of, run, of_run } => self.watch_tried(by, of, run, of_run),
            Event::WatchClosed { by, of, tries } => self.watch_closed(by, of, tries),
            Event::Gone { id, run } => {
                if self.peers[id].run == run {
                    self.gone(id);
                }
            }
            Event::Bye { from, to, conn } => {
                if self.connected(from, to).is_some_and(|now| now.number == conn) {
                    let peer = self.peers[from].id;
                    self.give(to, RoleInput::Bye(peer));
                    self.disconnect(from, to);
                }
            }
            Event::Presence => self.presence(),
            Event::Sweep => self.sweep(),
        }
    }

    fn wake(&mut self, id: Id, run: u64) {
        let peer = &mut self.peers[id];
        if peer.run != run || peer.life != Life::Running {
            return;
        }
        if self.now < peer.busy_until {
            let at = peer.busy_until;
            return self.schedule(at, Event::Wake { id, run });
        }
        let due = peer.wake_at.is_some_and(|at| at <= self.now);
        if !due {
            return;
        }
        peer.wake_at = None;
        if peer.role.poll_timeout().is_some_and(|at| at.as_micros() <= u128::from(self.now)) {
            self.give(id, RoleInput::Tick);
        } else {
            self.drain(id);
        }
    }

    fn watch_tried(&mut self, by: Id, of: Id, run: u64, of_run: u64) {
        if self.peers[by].run != run {
            return;
        }
        let peer = self.peers[of].id;
        let accepts = self.peers[of].life != Life::Dead && self.peers[of].run == of_run;
        if accepts && self.net.tcp(by, of) && !self.no_watch.contains(&of) {
            self.watchers.insert((by, of));
            self.give(by, RoleInput::Net(RoleEvent::WatchOpened(peer)));
        } else {
            self.give(by, RoleInput::Net(RoleEvent::WatchFailed(peer)));
        }
    }

    /// The end of a TCP connection is told once the way is open; a kernel repeats itself for some minutes.
    fn watch_closed(&mut self, by: Id, of: Id, tries: u32) {
        if !self.net.tcp(by, of) {
            if tries > 0 {
                self.schedule(self.now + AGAIN, Event::WatchClosed { by, of, tries: tries - 1 });
            }
            return;
        }
        if self.watchers.remove(&(by, of)) {
            let peer = self.peers[of].id;
            self.give(by, RoleInput::Net(RoleEvent::WatchClosed(peer)));
        }
    }

    /// Does what a peer wants done.
    pub(super) fn execute(&mut self, id: Id, output: RoleOutput) {
        match output {
            RoleOutput::Send { to, frame, delivery } => {
                for peer in to {
                    self.send(id, self.index[&peer], &frame, delivery);
                }
            }
            RoleOutput::Net(RoleRequest::OpenWatch(peer)) => {
                let of = self.index[&peer];
                let takes = if self.net.tcp(id, of) { self.net.rtt(id, of) } else { TIMEOUT };
                let (run, of_run) = (self.peers[id].run, self.peers[of].run);
                self.schedule(self.now + takes, Event::WatchTried { by: id, of, run, of_run });
            }
            RoleOutput::Net(RoleRequest::CloseWatch(peer)) => {
                self.watchers.remove(&(id, self.index[&peer]));
            }
            RoleOutput::Net(RoleRequest::Probe(peer)) => self.probe(id, self.index[&peer]),
            RoleOutput::Net(RoleRequest::SwitchRelay(to)) => self.peers[id].relay = to,
            RoleOutput::Keep(peers) => self.peers[id].keep = peers,
            RoleOutput::Changed(change) => self.peers[id].changes.push((self.now, change)),
            RoleOutput::Released => {
                let run = self.peers[id].run;
                self.schedule(self.now, Event::Gone { id, run });
            }
            RoleOutput::Fault(peer, fault) => self.faults.push((id, peer, fault)),
            RoleOutput::Vacant { .. } | RoleOutput::Back { .. } => {}
        }
    }

    fn send(&mut self, from: Id, to: Id, frame: &Bytes, delivery: Delivery) {
        self.peers[from].frames_sent += 1;
        self.peers[from].bytes_sent += frame.len() as u64;
        for part in [self.now, from as u64, to as u64] {
            self.trace.update(&part.to_le_bytes());
        }
        self.trace.update(frame);
        let Some(conn) = self.connected(from, to) else { return };
        let at = match delivery {
            Delivery::Datagram => match self.net.datagram(from, to, &mut self.rng) {
                Fate::Arrives(delay) => self.now + delay,
                Fate::Lost => return,
            },
            Delivery::Stream => self.net.stream(from, to, self.now, &mut self.rng),
        };
        self.frame_to(from, to, frame, conn, at);
    }

    fn probe(&mut self, id: Id, of: Id) {
        self.probes += 1;
        let reached = self.peers[of].life == Life::Running && self.net.tcp(id, of) && self.net.direct(id, of);
        let rtt = self.net.rtt(id, of);
        let (outcome, takes) = if reached {
            (ProbeOutcome::Answered { addr: addr(of), rtt: Duration::from_micros(rtt) }, rtt)
        } else {
            (ProbeOutcome::Unanswered(vec![addr(of)]), TIMEOUT)
        };
        let (run, peer) = (self.peers[id].run, self.peers[of].id);
        self.schedule(
            self.now + takes,
            Event::Input { to: id, run, input: RoleInput::Net(RoleEvent::Probed(peer, outcome)) },
        );
    }

    /// The process dies; its kernel closes what it had open.
    pub(super) fn kill(&mut self, id: Id) {
        self.power_off(id);
        let watching: Vec<Id> = self.watchers.iter().filter(|(_, of)| *of == id).map(|(by, _)| *by).collect();
        for by in watching {
            let at = self.now + self.net.way(id, by).delay;
            self.schedule(at, Event::WatchClosed { by, of: id, tries: 500 });
        }
    }

    /// The machine dies: nobody is told.
    pub(super) fn power_off(&mut self, id: Id) {
        self.peers[id].life = Life::Dead;
        self.peers[id].inbox.clear();
        self.watchers.retain(|(by, _)| *by != id);
    }

    /// A new process of a peer; the others' connections to the old one are replaced.
    pub(super) fn restart(&mut self, id: Id) {
        let seed = rand::RngExt::random(&mut self.rng);
        let (now, settings) = (self.time_of(id), self.settings.clone());
        let known: Vec<(Id, Id)> = self.conns.keys().copied().filter(|(a, b)| *a == id || *b == id).collect();
        for pair in known {
            self.conns.remove(&pair);
        }
        self.peers[id].restart(&settings, seed, now);
        self.introduce(id);
        self.presence_soon();
    }

    pub(super) fn suspend(&mut self, id: Id) {
        self.peers[id].life = Life::Suspended;
    }

    /// What came meanwhile is read now, timers are late.
    pub(super) fn resume(&mut self, id: Id) {
        if self.peers[id].life != Life::Suspended {
            return;
        }
        self.peers[id].life = Life::Running;
        let inbox = std::mem::take(&mut self.peers[id].inbox);
        for input in inbox {
            self.give(id, input);
        }
        self.peers[id].wake_at = None;
        self.give(id, RoleInput::Tick);
    }

    /// An orderly stop: the role is handed over, then neighbours are told.
    pub(super) fn stop(&mut self, id: Id) {
        self.give(id, RoleInput::Leave);
    }

    fn gone(&mut self, id: Id) {
        self.peers[id].leaving = true;
        let known: Vec<(Id, Id)> = self.conns.keys().copied().filter(|(a, b)| *a == id || *b == id).collect();
        for (a, b) in known {
            let to = if a == id { b } else { a };
            let at = self.net.stream(id, to, self.now, &mut self.rng);
            if let Some(conn) = self.connected(a, b) {
                self.schedule(at, Event::Bye { from: id, to, conn: conn.number });
            }
        }
        self.kill(id);
    }
}
