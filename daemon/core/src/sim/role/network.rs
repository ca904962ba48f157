//! The network of the role simulation: how long frames take between two peers, and what is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::sim::clock::random_span;

/// Time after which a unanswered connection attempt fails.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Index of a peer.
pub(super) type Id = usize;

/// How packets travel from one peer to another, in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkModel {
    /// Minimum delay.
    pub(super) delay: Duration,
    /// Maximum that is added to it, evenly distributed.
    pub(super) jitter: Duration,
    /// Share of packets that are lost.
    pub(super) loss: f64,
}

impl LinkModel {
    /// A switch in one room.
    pub(super) const LAN: Self = Self::new(150, 100, 0.0);

    /// What the promises name: 5 % of packets lost, 200 ms of jitter.
    pub(super) const ROUGH: Self = Self::new(5_000, 200_000, 0.05);

    /// A link with delay and jitter in microseconds.
    pub(super) const fn new(delay_us: u64, jitter_us: u64, loss: f64) -> Self {
        Self { delay: Duration::from_micros(delay_us), jitter: Duration::from_micros(jitter_us), loss }
    }

    /// The delay of one packet.
    fn delay(self, rng: &mut ChaCha8Rng) -> Duration {
        let late = if self.jitter.is_zero() { Duration::ZERO } else { random_span(rng, ..=self.jitter) };
        self.delay + late
    }

    fn loses(self, rng: &mut ChaCha8Rng) -> bool {
        self.loss > 0.0 && rng.random_bool(self.loss)
    }
}

/// All links.
#[derive(Debug)]
pub(super) struct RoleNetwork {
    usual: LinkModel,
    special: BTreeMap<(Id, Id), LinkModel>,
    /// Nothing travels from the first to the second.
    cut: BTreeSet<(Id, Id)>,
    /// Peers without UDP: only dials and watches, which use TCP, get through.
    no_udp: BTreeSet<Id>,
    /// Pairs without a direct path, connected through a relay.
    pub(super) relayed: BTreeSet<(Id, Id)>,
    /// When the last byte of each ordered stream arrives.
    streams: BTreeMap<(Id, Id), Duration>,
}

impl RoleNetwork {
    pub(super) fn new(usual: LinkModel) -> Self {
        Self {
            usual,
            special: BTreeMap::new(),
            cut: BTreeSet::new(),
            no_udp: BTreeSet::new(),
            relayed: BTreeSet::new(),
            streams: BTreeMap::new(),
        }
    }

    pub(super) fn set_usual(&mut self, link: LinkModel) {
        self.usual = link;
    }

    /// Both directions between two peers.
    pub(super) fn set(&mut self, a: Id, b: Id, link: LinkModel) {
        self.special.insert((a, b), link);
        self.special.insert((b, a), link);
    }

    pub(super) fn link(&self, from: Id, to: Id) -> LinkModel {
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

    pub(super) fn rtt(&self, a: Id, b: Id) -> Duration {
        let (to, back) = (self.link(a, b), self.link(b, a));
        to.delay + back.delay + (to.jitter + back.jitter) / 2
    }

    /// How long a datagram takes, unless it is lost.
    pub(super) fn datagram(&self, from: Id, to: Id, rng: &mut ChaCha8Rng) -> Option<Duration> {
        let link = self.link(from, to);
        (self.open(from, to) && !link.loses(rng)).then(|| link.delay(rng))
    }

    /// When a frame of an ordered stream arrives: a lost packet is sent again after a probe timeout that doubles
    /// (RFC 9002, section 6.2), and the frames behind it wait.
    pub(super) fn stream(&mut self, from: Id, to: Id, now: Duration, rng: &mut ChaCha8Rng) -> Duration {
        let link = self.link(from, to);
        let mut delay = link.delay(rng);
        let mut timeout = 2 * link.delay + 2 * link.jitter + Duration::from_millis(25);
        while link.loses(rng) {
            delay += timeout;
            timeout *= 2;
        }
        let last = self.streams.entry((from, to)).or_default();
        *last = (*last + Duration::from_micros(1)).max(now + delay);
        *last
    }

    pub(super) fn reset_stream(&mut self, a: Id, b: Id) {
        self.streams.remove(&(a, b));
        self.streams.remove(&(b, a));
    }
}
