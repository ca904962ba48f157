//! The addresses that this peer can give to others.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use chat_core::config::ADDRS_MAX;
use iroh::{Endpoint, Watcher};
use n0_future::StreamExt;

use crate::net::context::Shared;
use crate::net::event_queue::NetEvent;
use crate::net::transport::path::canonical;

/// Most addresses at which others see this peer: one for each of its networks is usual.
const OBSERVED_MAX: usize = 4;

/// Most of these with the same IP address: a second one comes with a router's restart.
const PORTS_MAX: usize = 2;

/// What the endpoint can be reached at now.
pub(crate) fn current(endpoint: &Endpoint) -> Vec<SocketAddr> {
    useful(endpoint.watch_addr().get().ip_addrs().copied(), &[])
}

/// Tells the addresses now and whenever they change.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut changes = shared.endpoint.watch_addr().stream();
    let mut told = None;
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = shared.token.cancelled() => None,
        };
        let Some(addr) = change else { return };
        let observed: Vec<_> = shared.observed.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let addrs = useful(addr.ip_addrs().copied(), &observed);
        if told.as_ref() != Some(&addrs) {
            shared.addrs.store(Arc::new(addrs.clone()));
            told = Some(addrs.clone());
            shared.events.send(NetEvent::Addrs(addrs)).await;
        }
    }
}

/// Adds an address at which others see this peer; the oldest makes room.
pub(crate) fn observe(shared: &Arc<Shared>, addr: SocketAddr) {
    let addr = canonical(addr);
    if !can_be_reached(addr) {
        return;
    }
    let dropped = {
        let mut observed = shared.observed.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_news(observed.iter(), addr) {
            return;
        }
        observed.push_back(addr);
        if observed.len() > OBSERVED_MAX { observed.pop_front() } else { None }
    };
    let task = shared.clone();
    shared.tracker.spawn(async move {
        if let Some(dropped) = dropped {
            task.endpoint.remove_external_addr(&dropped).await;
        }
        task.endpoint.add_external_addr(addr).await;
    });
}

/// Whether an address is worth telling. A router that gives every destination another port makes many: a third one of the
/// same IP address is of no use to anybody else either, and each would be told to the whole room.
fn is_news<'a>(observed: impl Iterator<Item = &'a SocketAddr>, addr: SocketAddr) -> bool {
    let of_this_ip: Vec<_> = observed.filter(|known| known.ip() == addr.ip()).collect();
    of_this_ip.len() < PORTS_MAX && !of_this_ip.contains(&&addr)
}

/// Picks what others may reach, the most likely first: observed from outside, then IPv4, then IPv6; loopback only where
/// there is nothing else.
pub(crate) fn useful(addrs: impl Iterator<Item = SocketAddr>, observed: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addrs: Vec<SocketAddr> = addrs.map(canonical).filter(|addr| can_be_reached(*addr)).collect();
    if addrs.iter().any(|addr| !addr.ip().is_loopback()) {
        addrs.retain(|addr| !addr.ip().is_loopback());
    }
    addrs.sort_by_key(|addr| (!observed.contains(addr), addr.is_ipv6(), *addr));
    addrs.dedup();
    addrs.truncate(ADDRS_MAX);
    addrs
}

/// Whether an address means the same to others; link-local ones need the name of an interface.
fn can_be_reached(addr: SocketAddr) -> bool {
    let local = match addr.ip() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    addr.port() != 0 && !local && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn useful_of(texts: &[&str], observed: &[&str]) -> Vec<String> {
        let parse = |text: &&str| text.parse::<SocketAddr>().expect("an address");
        let observed: Vec<_> = observed.iter().map(parse).collect();
        useful(texts.iter().map(parse), &observed).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_others_can_reach_comes_first() {
        let addrs = useful_of(
            &[
                "127.0.0.1:1",
                "[::1]:1",
                "[fe80::1]:1",
                "[2001:db8::1]:1",
                "192.168.0.2:1",
                "203.0.113.9:7",
                "169.254.1.1:1",
            ],
            &["203.0.113.9:7"],
        );
        assert_eq!(addrs, ["203.0.113.9:7", "192.168.0.2:1", "[2001:db8::1]:1"]);
    }

    #[test]
    fn random_ports_are_told_twice_and_no_more() {
        let addr = |port| SocketAddr::from(([203, 0, 113, 9], port));
        assert!(is_news([].iter(), addr(1)));
        assert!(!is_news([addr(1)].iter(), addr(1)), "known");
        assert!(is_news([addr(1)].iter(), addr(2)), "the router was restarted");
        assert!(!is_news([addr(1), addr(2)].iter(), addr(3)));
        assert!(is_news([addr(1), addr(2)].iter(), SocketAddr::from(([203, 0, 113, 10], 3))), "another network");
    }

    #[test]
    fn loopback_is_given_where_there_is_nothing_else() {
        assert_eq!(useful_of(&["127.0.0.1:1", "[::1]:1"], &[]), ["127.0.0.1:1", "[::1]:1"]);
    }

    #[test]
    fn no_more_than_a_record_holds() {
        let many: Vec<String> = (1..=40).map(|n| format!("192.0.2.{n}:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(useful_of(&many, &["192.0.2.40:1"]).len(), ADDRS_MAX);
        assert_eq!(useful_of(&many, &["192.0.2.40:1"])[0], "192.0.2.40:1");
    }
}
