//! The rotating sample: which member is probed next, so that each is reached in turn at a fixed cost.

use std::collections::BTreeSet;

use chat_proto::id::PeerId;

/// Takes turns between members without a direct connection (are they reached directly at all?) and connected ones in other
/// networks (do they accept connections?), each group in the order of keys from where it left off.
#[derive(Debug)]
pub(crate) struct Sampler {
    indirect: PeerId,
    outside: PeerId,
    turn: SampleGroup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SampleGroup {
    Indirect,
    Outside,
}

impl Sampler {
    /// Begins at `start`: each peer elsewhere, or all peers would probe the same member at once.
    pub(crate) const fn new(start: PeerId) -> Self {
        Self { indirect: start, outside: start, turn: SampleGroup::Indirect }
    }

    /// The peer to probe now.
    pub(crate) fn next(&mut self, indirect: &BTreeSet<PeerId>, outside: &BTreeSet<PeerId>) -> Option<PeerId> {
        let first = self.turn;
        self.turn = match first {
            SampleGroup::Indirect => SampleGroup::Outside,
            SampleGroup::Outside => SampleGroup::Indirect,
        };
        match first {
            SampleGroup::Indirect => {
                rotate(&mut self.indirect, indirect).or_else(|| rotate(&mut self.outside, outside))
            }
            SampleGroup::Outside => rotate(&mut self.outside, outside).or_else(|| rotate(&mut self.indirect, indirect)),
        }
    }
}

fn rotate(cursor: &mut PeerId, from: &BTreeSet<PeerId>) -> Option<PeerId> {
    let behind = (std::ops::Bound::Excluded(*cursor), std::ops::Bound::Unbounded);
    let next = from.range(behind).next().or_else(|| from.first()).copied()?;
    *cursor = next;
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(list: &[u8]) -> BTreeSet<PeerId> {
        list.iter().map(|n| PeerId::from_bytes([*n; 32])).collect()
    }

    fn drawn(sampler: &mut Sampler, indirect: &[u8], outside: &[u8], times: usize) -> Vec<u8> {
        (0..times)
            .filter_map(|_| sampler.next(&peers(indirect), &peers(outside)))
            .map(|peer| peer.as_bytes()[0])
            .collect()
    }

    #[test]
    fn sampler_reaches_every_peer_and_alternates_groups() {
        let mut sampler = Sampler::new(PeerId::from_bytes([4; 32]));
        assert_eq!(drawn(&mut sampler, &[1, 3, 5, 7], &[2, 6], 8), [5, 6, 7, 2, 1, 6, 3, 2]);
    }

    #[test]
    fn empty_group_leaves_its_turn_to_the_other() {
        let mut sampler = Sampler::new(PeerId::from_bytes([0; 32]));
        assert_eq!(drawn(&mut sampler, &[], &[2, 6], 4), [2, 6, 2, 6]);
        assert_eq!(drawn(&mut sampler, &[1], &[], 3), [1, 1, 1]);
        assert!(drawn(&mut sampler, &[], &[], 3).is_empty());
    }
}
