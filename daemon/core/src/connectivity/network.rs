//! Which addresses belong to the same network, as far as an address can tell.

use std::net::{IpAddr, SocketAddr};

/// Whether two addresses share a network: the first 24 bits of IPv4, the first 48 of IPv6 (what a site is given).
pub(crate) fn same_network(a: IpAddr, b: IpAddr) -> bool {
    match (a.to_canonical(), b.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.is_loopback() && b.is_loopback()) || a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..3] == b.segments()[..3],
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Whether `other` lies outside every network that a peer with the addresses `own` is in. Unknown where the peer has no
/// address of that family to compare with.
pub(crate) fn outside(own: &[SocketAddr], other: IpAddr) -> Option<bool> {
    let other = other.to_canonical();
    let mut same_family = own.iter().map(|addr| addr.ip().to_canonical()).filter(|ip| ip.is_ipv4() == other.is_ipv4());
    let first = same_family.next()?;
    Some(!same_network(first, other) && !same_family.any(|ip| same_network(ip, other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn address_prefixes_distinguish_networks() {
        let own = addrs(&["192.168.1.5:24283", "203.0.113.9:24283", "[2001:db8:1::5]:24283"]);
        for (other, expected) in [
            ("192.168.1.77", Some(false)),
            ("::ffff:192.168.1.77", Some(false)),
            ("203.0.113.200", Some(false)),
            ("198.51.100.3", Some(true)),
            ("192.168.2.5", Some(true)),
            ("2001:db8:1:ffff::1", Some(false)),
            ("2001:db8:2::1", Some(true)),
        ] {
            assert_eq!(outside(&own, other.parse().expect("an address")), expected, "{other}");
        }
        assert_eq!(outside(&own[..2], "2001:db8::1".parse().expect("an address")), None);
        assert_eq!(outside(&addrs(&["127.0.0.1:1"]), "127.1.2.3".parse().expect("an address")), Some(false));
        assert_eq!(outside(&[], "192.0.2.1".parse().expect("an address")), None);
    }
}
