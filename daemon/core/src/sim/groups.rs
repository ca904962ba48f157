//! Groups of peers in a simulated network.

use std::collections::BTreeSet;

/// Splits peers into groups, each connected by `linked` directly or through others.
pub(super) fn groups<P: Copy + Ord>(mut peers: BTreeSet<P>, linked: impl Fn(P, P) -> bool) -> Vec<Vec<P>> {
    let mut groups = Vec::new();
    while let Some(first) = peers.pop_first() {
        let mut group = vec![first];
        let mut next = 0;
        while let Some(peer) = group.get(next).copied() {
            next += 1;
            let near: Vec<P> = peers.iter().copied().filter(|other| linked(peer, *other)).collect();
            for other in near {
                peers.remove(&other);
                group.push(other);
            }
        }
        groups.push(group);
    }
    groups
}
