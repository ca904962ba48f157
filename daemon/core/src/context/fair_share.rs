//! Who gives a place up when all places are taken: the source that holds most of them.
//!
//! Places that strangers can take (connections, knocks) are bounded. A bound alone lets one stranger take all of them and
//! keep the others out. With this rule a source is only ever displaced by one that holds fewer places, so that one source,
//! whatever it sends, costs the others nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Which of the taken places a newcomer from `source` gets when no place is free. `taken` names each place, the smallest
/// name for the oldest, and the source that holds it. A source with clearly more places than the newcomer's gives up its
/// oldest; otherwise the newcomer replaces the oldest place of its own source. `None` when all sources have an equal share
/// and the newcomer's has no place yet.
pub fn place_to_give_up<I: Ord + Copy, S: Ord>(taken: impl IntoIterator<Item = (I, S)>, source: &S) -> Option<I> {
    let mut sources: BTreeMap<S, (usize, I)> = BTreeMap::new();
    for (place, holder) in taken {
        let (count, oldest) = sources.entry(holder).or_insert((0, place));
        *count += 1;
        *oldest = place.min(*oldest);
    }
    let own = sources.get(source).copied();
    let fullest = sources.into_values().max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)));
    match (fullest, own) {
        (Some((most, oldest)), own) if most >= own.map_or(0, |(count, _)| count) + 2 => Some(oldest),
        (_, own) => own.map(|(_, oldest)| oldest),
    }
}

/// The network of an address: one IPv4 address, or an IPv6 /64, because a sender with one address of it has them all.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ipv6_addresses_of_one_network_are_one_source() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::9"));
        assert_ne!(of("2001:db8:1:2::9"), of("2001:db8:1:3::9"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn fullest_source_gives_up_its_oldest_place() {
        let taken = [(3, 'a'), (1, 'b'), (4, 'a'), (2, 'a')];
        assert_eq!(place_to_give_up(taken, &'c'), Some(2));
        assert_eq!(place_to_give_up(taken, &'b'), Some(2), "b has one place, a has three");
        assert_eq!(place_to_give_up(taken, &'a'), Some(2), "the fullest source displaces itself");
        let near = [(3, 'a'), (1, 'b'), (2, 'a')];
        assert_eq!(place_to_give_up(near, &'b'), Some(1), "an equal share is not taken from");
        assert_eq!(place_to_give_up([(1, 'a'), (2, 'b')], &'c'), None);
        assert_eq!(place_to_give_up(Vec::<(u8, char)>::new(), &'c'), None);
    }

    proptest! {
        /// However a source behaves, another one keeps what it has up to an equal share.
        #[test]
        fn source_keeps_its_equal_share(comers in proptest::collection::vec(0..4u8, 1..200)) {
            const PLACES: usize = 12;
            let mut taken: BTreeMap<usize, u8> = BTreeMap::new();
            for (name, source) in comers.into_iter().enumerate() {
                if taken.len() == PLACES {
                    let held = |of: u8, taken: &BTreeMap<usize, u8>| taken.values().filter(|held| **held == of).count();
                    let place = place_to_give_up(taken.iter().map(|(name, of)| (*name, *of)), &source);
                    let place = place.expect("four sources do not all have twelve");
                    let loser = taken[&place];
                    prop_assert!(loser == source || held(loser, &taken) > held(source, &taken) + 1);
                    taken.remove(&place);
                }
                taken.insert(name, source);
            }
        }
    }
}
