//! The network of the simulation: how long things take between two peers, and what is cut.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Index of a peer.
pub(super) type Id = usize;

/// Microseconds.
pub(super) type Us = u64;

/// How a way between two peers behaves, in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// Shortest delay.
    pub(super) delay: Us,
    /// Most that is added to it, evenly spread.
    pub(super) jitter: Us,
    /// Share of packets that are lost.
    pub(super) loss: f64,
}

impl Way {
    /// A switch in one room.
    pub(super) const LAN: Self = Self { delay: 150, jitter: 100, loss: 0.0 };

    /// What the promises name: 5 % of packets lost, 200 ms of jitter.
    pub(super) const ROUGH: Self = Self { delay: 5_000, jitter: 200_000, loss: 0.05 };
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives(Us),
    Lost,
}

/// All ways.
#[derive(Debug)]
pub(super) struct Net {
    usual: Way,
    special: BTreeMap<(Id, Id), Way>,
    cut: BTreeSet<(Id, Id)>,
    /// Who has no UDP: only calls and watches, which are over TCP, get to it and from it.
    no_udp: BTreeSet<Id>,
    /// Pairs without a direct path: what they say to each other goes over a relay.
    pub(super) relayed: BTreeSet<(Id, Id)>,
    /// When the last byte of each ordered stream arrives.
    streams: BTreeMap<(Id, Id), Us>,
}

impl Net {
    pub(super) fn new(usual: Way) -> Self {
        Self {
            usual,
            special: BTreeMap::new(),
            cut: BTreeSet::new(),
            no_udp: BTreeSet::new(),
            relayed: BTreeSet::new(),
            streams: BTreeMap::new(),
        }
    }

    pub(super) fn set_usual(&mut self, way: Way) {
        self.usual = way;
    }

    /// Both directions between two peers.
    pub(super) fn set(&mut self, a: Id, b: Id, way: Way) {
        self.special.insert((a, b), way);
        self.special.insert((b, a), way);
    }

    pub(super) fn way(&self, from: Id, to: Id) -> Way {
        self.special.get(&(from, to)).copied().unwrap_or(self.usual)
    }

    pub(super) fn cut_one_way(&mut self, from: Id, to: Id) {
        self.cut.insert((from, to));
    }

    pub(super) fn cut(&mut self, a: Id, b: Id) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
    }

    pub(super) fn lose_udp(&mut self, id: Id) {
        self.no_udp.insert(id);
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.no_udp.clear();
    }

    pub(super) fn heal_pair(&mut self, a: Id, b: Id) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
    }

    pub(super) fn open(&self, from: Id, to: Id) -> bool {
        !self.cut.contains(&(from, to)) && !self.no_udp.contains(&from) && !self.no_udp.contains(&to)
    }

    /// Whether TCP connections can be made.
    pub(super) fn tcp(&self, a: Id, b: Id) -> bool {
        !self.cut.contains(&(a, b)) && !self.cut.contains(&(b, a))
    }

    pub(super) fn both_ways(&self, a: Id, b: Id) -> bool {
        self.open(a, b) && self.open(b, a)
    }

    pub(super) fn direct(&self, a: Id, b: Id) -> bool {
        !self.relayed.contains(&(a.min(b), a.max(b)))
    }

    pub(super) fn rtt(&self, a: Id, b: Id) -> Us {
        let (to, back) = (self.way(a, b), self.way(b, a));
        to.delay + back.delay + (to.jitter + back.jitter) / 2
    }

    fn delay(way: Way, rng: &mut ChaCha8Rng) -> Us {
        way.delay + if way.jitter > 0 { rng.random_range(0..=way.jitter) } else { 0 }
    }

    pub(super) fn datagram(&self, from: Id, to: Id, rng: &mut ChaCha8Rng) -> Fate {
        let way = self.way(from, to);
        if !self.open(from, to) || (way.loss > 0.0 && rng.random_bool(way.loss)) {
            return Fate::Lost;
        }
        Fate::Arrives(Self::delay(way, rng))
    }

    /// An ordered stream: a lost packet is sent again after a probe timeout that doubles (RFC 9002, section 6.2), and what
    /// is behind it waits.
    pub(super) fn stream(&mut self, from: Id, to: Id, now: Us, rng: &mut ChaCha8Rng) -> Us {
        let way = self.way(from, to);
        let mut delay = Self::delay(way, rng);
        let mut timeout = 2 * way.delay + 2 * way.jitter + 25_000;
        while way.loss > 0.0 && rng.random_bool(way.loss) {
            delay += timeout;
            timeout *= 2;
        }
        let last = self.streams.entry((from, to)).or_default();
        *last = (*last + 1).max(now + delay);
        *last
    }

    pub(super) fn reset_stream(&mut self, a: Id, b: Id) {
        self.streams.remove(&(a, b));
        self.streams.remove(&(b, a));
    }
}
