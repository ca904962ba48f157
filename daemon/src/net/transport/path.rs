//! The path of a connection's packets: measured here, not reported by the peer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chat_core::types::PathInfo;
use iroh::TransportAddr;
use iroh::endpoint::{Connection, Side};

/// Time between two measurements.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// Round-trip time that QUIC assumes for a path it has not measured yet (RFC 9002, section 6.2.2).
pub(crate) const INITIAL_RTT: Duration = Duration::from_millis(50);

/// How long a round-trip time is remembered at least, and half of how long at most.
const RTT_SPAN: Duration = Duration::from_secs(10);

/// Measures the path of one connection.
#[derive(Debug, Default)]
pub(crate) struct PathSampler {
    loss: LossWindow,
    rtt: RttWindow,
}

impl PathSampler {
    /// Measures the path that carries data now.
    pub(crate) fn sample(&mut self, connection: &Connection) -> PathInfo {
        let paths = connection.paths();
        let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next());
        let inbound = connection.side() == Side::Server;
        let Some(path) = path else {
            // No path is open right after the handshake or while the last one is being replaced.
            return PathInfo { direct: false, rtt: Duration::ZERO, loss: self.loss.share(), remote: None, inbound };
        };
        let stats = path.stats();
        self.loss.add(path.remote_addr(), stats.sent_packets, stats.lost_packets);
        let rtt = self.rtt.smallest(path.remote_addr(), measured(stats.rtt), Instant::now());
        let TransportAddr::Ip(addr) = path.remote_addr() else {
            return PathInfo { direct: false, rtt, loss: self.loss.share(), remote: None, inbound };
        };
        let remote = Some(canonical(*addr));
        PathInfo { direct: true, rtt, loss: self.loss.share(), remote, inbound }
    }
}

/// A round-trip time, or zero where it is only assumed.
fn measured(rtt: Duration) -> Duration {
    if rtt == INITIAL_RTT { Duration::ZERO } else { rtt }
}

/// The smallest round-trip time of the last ten to twenty seconds. QUIC smooths it over all packets, so that it is far too
/// long for a while after the other end was suspended or starved.
#[derive(Debug, Default)]
struct RttWindow {
    path: Option<TransportAddr>,
    since: Option<Instant>,
    /// The smallest of the current span and of the one before.
    now: Option<Duration>,
    before: Option<Duration>,
}

impl RttWindow {
    /// Adds a measurement, zero where there is none, and returns the smallest; another path starts anew.
    fn smallest(&mut self, path: &TransportAddr, rtt: Duration, at: Instant) -> Duration {
        if self.path.as_ref() != Some(path) {
            *self = Self { path: Some(path.clone()), ..Self::default() };
        }
        if at - *self.since.get_or_insert(at) >= RTT_SPAN {
            (self.since, self.before) = (Some(at), self.now.take());
        }
        if !rtt.is_zero() {
            self.now = Some(self.now.map_or(rtt, |smallest| smallest.min(rtt)));
        }
        [self.now, self.before].into_iter().flatten().min().unwrap_or(Duration::ZERO)
    }
}

/// Share of lost packets; each older measurement has half the weight, so that it follows the network.
#[derive(Debug, Default)]
struct LossWindow {
    path: Option<TransportAddr>,
    total: (u64, u64),
    sent: f32,
    lost: f32,
}

impl LossWindow {
    /// Adds the counters of a path, which only grow; another path starts from zero.
    fn add(&mut self, path: &TransportAddr, sent: u64, lost: u64) {
        if self.path.as_ref() != Some(path) {
            *self = Self { path: Some(path.clone()), ..Self::default() };
        }
        let (sent_new, lost_new) = (sent.saturating_sub(self.total.0), lost.saturating_sub(self.total.1));
        self.total = (sent, lost);
        self.sent = self.sent / 2.0 + sent_new as f32;
        self.lost = self.lost / 2.0 + lost_new as f32;
    }

    fn share(&self) -> f32 {
        if self.sent > 0.0 { (self.lost / self.sent).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Address at which the other end of a connection is seen; `None` through a relay.
pub(crate) fn seen_at(connection: &Connection) -> Option<SocketAddr> {
    PathSampler::default().sample(connection).remote
}

/// Converts an IPv4 address that arrived through an IPv6 socket to IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> TransportAddr {
        TransportAddr::Ip(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    #[test]
    fn loss_follows_the_network() {
        let mut window = LossWindow::default();
        assert_eq!(window.share(), 0.0);
        window.add(&path(1), 100, 50);
        assert_eq!(window.share(), 0.5);
        for n in 2..=8 {
            window.add(&path(1), n * 100, 50);
        }
        assert!(window.share() < 0.01, "old losses fade: {}", window.share());
        window.add(&path(2), 10, 0);
        assert_eq!(window.share(), 0.0, "another path starts from zero");
    }

    #[test]
    fn round_trip_time_is_the_smallest_of_the_last_seconds() {
        let (mut window, begun) = (RttWindow::default(), Instant::now());
        let mut at = |port, ms, seconds| {
            window.smallest(&path(port), Duration::from_millis(ms), begun + Duration::from_secs(seconds)).as_millis()
        };
        assert_eq!(at(1, 0, 0), 0, "not measured yet");
        assert_eq!([at(1, 20, 1), at(1, 900, 3), at(1, 30, 5)], [20, 20, 20]);
        assert_eq!(at(1, 900, 15), 20, "of the span before");
        assert_eq!(at(1, 40, 26), 40, "it has become slower");
        assert_eq!(at(2, 70, 27), 70, "another path starts anew");
    }

    #[test]
    fn assumed_round_trip_time_is_zero() {
        assert_eq!(measured(INITIAL_RTT), Duration::ZERO);
        assert_eq!(measured(Duration::from_millis(2)), Duration::from_millis(2));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = "[::ffff:192.0.2.1]:7".parse().expect("an address");
        assert_eq!(canonical(mapped), SocketAddr::from(([192, 0, 2, 1], 7)));
    }
}
