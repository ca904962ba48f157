//! The other peers, one record each: who is online, the connection, what was measured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::connectivity::measure::{MEASURES_MAX, Measure};
use crate::rendezvous::context::neighbour::Neighbour;
use crate::rendezvous::settings::LINKS_MAX;
use crate::types::PathInfo;

/// What this peer knows of one other.
#[derive(Debug, Default)]
pub(crate) struct PeerRecord {
    /// Since when it is believed online, where it is a member.
    online: Option<Duration>,
    /// The connection to it.
    link: Option<Neighbour>,
    /// What was measured, now or earlier.
    measure: Option<Measure>,
}

impl PeerRecord {
    fn is_empty(&self) -> bool {
        self.online.is_none() && self.link.is_none() && self.measure.is_none()
    }
}

/// The records of all other peers. At most [`LINKS_MAX`] have a connection, at most [`MEASURES_MAX`] a measurement, and only
/// members are online.
#[derive(Debug, Default)]
pub(crate) struct PeerRecords {
    of: BTreeMap<PeerId, PeerRecord>,
    links: usize,
    measures: usize,
    online: usize,
}

impl PeerRecords {
    /// A connection is open. Returns whether it is tracked.
    pub(crate) fn up(&mut self, peer: PeerId, path: PathInfo, now: Duration) -> bool {
        let known = self.is_linked(&peer);
        if self.links >= LINKS_MAX && !known {
            return false;
        }
        self.links += usize::from(!known);
        self.of.entry(peer).or_default().link = Some(Neighbour::new(path, now));
        self.measure_path(peer, &path, now);
        true
    }

    /// The path of a connection changed, or was measured again.
    pub(crate) fn path(&mut self, peer: PeerId, path: PathInfo, now: Duration) {
        if let Some(link) = self.link_mut(&peer) {
            link.path = path;
            self.measure_path(peer, &path, now);
        }
    }

    /// A connection ended. Returns whether it was tracked.
    pub(crate) fn down(&mut self, peer: &PeerId) -> bool {
        let Some(record) = self.of.get_mut(peer) else { return false };
        if record.link.take().is_none() {
            return false;
        }
        self.links -= 1;
        if let Some(measure) = &mut record.measure {
            measure.down();
        }
        if record.is_empty() {
            self.of.remove(peer);
        }
        true
    }

    pub(crate) fn link(&self, peer: &PeerId) -> Option<&Neighbour> {
        self.of.get(peer).and_then(|record| record.link.as_ref())
    }

    pub(crate) fn link_mut(&mut self, peer: &PeerId) -> Option<&mut Neighbour> {
        self.of.get_mut(peer).and_then(|record| record.link.as_mut())
    }

    pub(crate) fn is_linked(&self, peer: &PeerId) -> bool {
        self.link(peer).is_some()
    }

    /// The connections, by peer.
    pub(crate) fn links(&self) -> impl Iterator<Item = (&PeerId, &Neighbour)> {
        self.of.iter().filter_map(|(peer, record)| Some((peer, record.link.as_ref()?)))
    }

    /// The connected peers.
    pub(crate) fn linked(&self) -> impl Iterator<Item = &PeerId> {
        self.links().map(|(peer, _)| peer)
    }

    /// Number of connections.
    pub(crate) const fn links_len(&self) -> usize {
        self.links
    }

    /// The neighbour whose turn it is to be pinged; marks it as pinged.
    pub(crate) fn next_ping(&mut self, now: Duration) -> Option<PeerId> {
        let links = self.of.iter_mut().filter_map(|(peer, record)| Some((peer, record.link.as_mut()?)));
        let (peer, link) = links.min_by_key(|(peer, link)| (link.pinged, **peer))?;
        link.pinged = Some(now);
        Some(*peer)
    }

    pub(crate) fn measure(&self, peer: &PeerId) -> Option<&Measure> {
        self.of.get(peer).and_then(|record| record.measure.as_ref())
    }

    /// All measurements that are still valid.
    pub(crate) fn measures(&self, now: Duration) -> impl Iterator<Item = (&PeerId, &Measure)> {
        let all = self.of.iter().filter_map(|(peer, record)| Some((peer, record.measure.as_ref()?)));
        all.filter(move |(_, measure)| measure.is_current(now))
    }

    /// A ping leaves.
    pub(crate) fn pinged(&mut self, peer: &PeerId, nonce: u64, now: Duration) {
        let Some(record) = self.of.get_mut(peer) else { return };
        if let (Some(measure), Some(link)) = (&mut record.measure, &record.link) {
            measure.ping(nonce, link.heard, now);
        }
    }

    /// A pong arrived; returns whether it answers a ping that was on its way.
    pub(crate) fn ponged(&mut self, peer: &PeerId, nonce: u64, now: Duration) -> bool {
        let measure = self.of.get_mut(peer).and_then(|record| record.measure.as_mut());
        measure.is_some_and(|measure| measure.pong(nonce, now))
    }

    /// A probe was answered, or not. `outside`: whether this peer is outside the other's network, where known.
    pub(crate) fn probed(&mut self, peer: PeerId, rtt: Option<Duration>, outside: Option<bool>, now: Duration) {
        self.measure_mut(peer, now).probed(rtt, outside, now);
    }

    /// This peer itself was asleep or starved: pings in flight prove nothing about others.
    pub(crate) fn forgive(&mut self) {
        self.of.values_mut().filter_map(|record| record.measure.as_mut()).for_each(Measure::forgive);
    }

    /// Replaces the peers that are online; returns whether something changed.
    pub(crate) fn set_online(&mut self, online: &BTreeSet<PeerId>, now: Duration) -> bool {
        let before = self.online;
        self.retain_online(|peer| online.contains(peer));
        let mut changed = self.online != before;
        for peer in online {
            let record = self.of.entry(*peer).or_default();
            if record.online.is_none() {
                record.online = Some(now);
                self.online += 1;
                changed = true;
            }
        }
        changed
    }

    /// Only members are online and measured.
    pub(crate) fn set_members(&mut self, members: &BTreeSet<PeerId>) {
        self.retain_online(|peer| members.contains(peer));
        for (_, record) in self.of.iter_mut().filter(|(peer, _)| !members.contains(*peer)) {
            self.measures -= usize::from(record.measure.take().is_some());
        }
        self.of.retain(|_, record| !record.is_empty());
    }

    fn retain_online(&mut self, stays: impl Fn(&PeerId) -> bool) {
        for (_, record) in self.of.iter_mut().filter(|(peer, record)| record.online.is_some() && !stays(peer)) {
            record.online = None;
            self.online -= 1;
        }
        self.of.retain(|_, record| !record.is_empty());
    }

    pub(crate) fn is_online(&self, peer: &PeerId) -> bool {
        self.of.get(peer).is_some_and(|record| record.online.is_some())
    }

    /// Number of members that are online, as this peer believes.
    pub(crate) const fn online_len(&self) -> usize {
        self.online
    }

    /// Peers that are online or connected, and since when they are online.
    pub(crate) fn present(&self) -> impl Iterator<Item = (&PeerId, Option<Duration>)> {
        let present = self.of.iter().filter(|(_, record)| record.online.is_some() || record.link.is_some());
        present.map(|(peer, record)| (peer, record.online))
    }

    fn measure_path(&mut self, peer: PeerId, path: &PathInfo, now: Duration) {
        self.measure_mut(peer, now).path(path, now);
    }

    fn measure_mut(&mut self, peer: PeerId, now: Duration) -> &mut Measure {
        let known = self.measure(&peer).is_some();
        if self.measures >= MEASURES_MAX && !known {
            self.forget_a_measure();
        }
        self.measures += usize::from(!known);
        self.of.entry(peer).or_default().measure.get_or_insert_with(|| Measure::new(now))
    }

    /// Makes room: of the peers that are not connected the measurement that is oldest goes.
    fn forget_a_measure(&mut self) {
        let all = || self.of.iter().filter_map(|(peer, record)| Some((*peer, record.measure.as_ref()?)));
        let idle = all().filter(|(_, measure)| !measure.connected);
        let oldest = idle.min_by_key(|(peer, measure)| (measure.at, *peer)).map(|(peer, _)| peer);
        let Some(peer) = oldest.or_else(|| all().next().map(|(peer, _)| peer)) else { return };
        if let Some(record) = self.of.get_mut(&peer) {
            self.measures -= usize::from(record.measure.take().is_some());
            if record.is_empty() {
                self.of.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: PathInfo =
        PathInfo { direct: true, rtt: Duration::from_millis(5), loss: 0.0, remote: None, inbound: false };

    fn peer(n: u32) -> PeerId {
        let mut raw = [0; 32];
        raw[..4].copy_from_slice(&n.to_be_bytes());
        PeerId::from_bytes(raw)
    }

    fn at(ms: u32) -> Duration {
        Duration::from_millis(u64::from(ms))
    }

    #[test]
    fn measurements_are_bounded_and_keep_connected_peers() {
        let mut records = PeerRecords::default();
        assert!(records.up(peer(0), PATH, at(0)));
        for n in 1..3_000 {
            records.probed(peer(n), Some(at(5)), None, at(n));
        }
        assert_eq!(records.measures(at(3_000)).count(), MEASURES_MAX);
        assert_eq!(records.of.len(), MEASURES_MAX, "an empty record goes");
        assert!(records.measure(&peer(0)).is_some());
        assert!(records.measure(&peer(1)).is_none());
        assert!(records.measure(&peer(2_999)).is_some());
    }

    #[test]
    fn record_without_contents_goes_and_counts_stay_right() {
        let mut records = PeerRecords::default();
        assert!(records.up(peer(1), PATH, at(0)) && records.up(peer(1), PATH, at(1)));
        assert!(records.set_online(&BTreeSet::from([peer(1), peer(2)]), at(2)));
        assert!(!records.set_online(&BTreeSet::from([peer(1), peer(2)]), at(3)), "nothing changed");
        assert_eq!((records.links_len(), records.online_len(), records.present().count()), (1, 2, 2));
        records.set_members(&BTreeSet::from([peer(2)]));
        assert!(records.measure(&peer(1)).is_none() && records.is_linked(&peer(1)) && !records.is_online(&peer(1)));
        assert!(records.down(&peer(1)) && !records.down(&peer(1)));
        assert_eq!((records.of.len(), records.links_len(), records.online_len()), (1, 0, 1));
        assert!(records.set_online(&BTreeSet::new(), at(4)));
        assert!(records.of.is_empty());
    }
}
