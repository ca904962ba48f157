//! Presence: which members are online, and when each was last seen.
//!
//! A member is online while it is connected to this peer or to a neighbour that reports it, and in a large room for some
//! time after its keep-alive. One record per peer outlives its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;

use crate::input::Now;
use crate::peers::connections::Connections;

/// What is known of the presence of all peers. Bounded by the number of members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presence {
    peers: BTreeMap<PeerId, Seen>,
}

/// When one peer was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    online: bool,
    /// When it was last online.
    last: Option<Timestamp>,
    /// When it was seen through the tree, in monotonic time.
    heard: Option<Duration>,
}

impl Presence {
    pub(crate) fn restore(&mut self, peer: PeerId, at: Timestamp) {
        self.peers.entry(peer).or_default().last = Some(at);
    }

    /// Updates which of `members` are online; a member seen through the tree is online for `heard_for`. Returns the
    /// changes.
    pub(crate) fn refresh(
        &mut self,
        members: impl Iterator<Item = PeerId>,
        connections: &Connections,
        heard_for: Duration,
        now: Now,
    ) -> Vec<PeerId> {
        let links = connections.connected().flat_map(|(peer, connected)| connected.links.keys().chain([peer]));
        let reached: BTreeSet<PeerId> = links.copied().collect();
        self.peers.retain(|_, seen| {
            seen.heard = seen.heard.filter(|at| now.mono.saturating_sub(*at) < heard_for);
            seen.heard.is_some() || seen.last.is_some()
        });
        let online: BTreeSet<PeerId> = members.filter(|peer| reached.contains(peer) || self.was_heard(peer)).collect();
        let before: BTreeSet<PeerId> = self.online().collect();
        for peer in before.union(&online) {
            let seen = self.peers.entry(*peer).or_default();
            (seen.online, seen.last) = (online.contains(peer), Some(now.wall));
        }
        before.symmetric_difference(&online).copied().collect()
    }

    /// A member of a large room sent a keep-alive.
    pub(crate) fn heard(&mut self, peer: PeerId, now: Now) {
        self.peers.entry(peer).or_default().heard = Some(now.mono);
    }

    /// Whether a member was seen through the tree and not reported gone since.
    pub(crate) fn was_heard(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|seen| seen.heard.is_some())
    }

    /// A member that was seen is gone.
    pub(crate) fn not_heard(&mut self, peer: &PeerId) {
        if let Some(seen) = self.peers.get_mut(peer) {
            seen.heard = None;
        }
    }

    pub(crate) fn is_online(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|seen| seen.online)
    }

    pub(crate) fn online(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter().filter(|(_, seen)| seen.online).map(|(peer, _)| *peer)
    }

    pub(crate) fn last_seen(&self, peer: &PeerId) -> Option<Timestamp> {
        self.peers.get(peer)?.last
    }

    /// Number of peers that were ever seen.
    pub(crate) fn ever_seen(&self) -> usize {
        self.peers.values().filter(|seen| seen.last.is_some()).count()
    }

    /// When each peer was last seen, for the store.
    pub(crate) fn seen(&self) -> Vec<(PeerId, Timestamp)> {
        self.peers.iter().filter_map(|(peer, seen)| Some((*peer, seen.last?))).collect()
    }
}
