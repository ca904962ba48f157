//! The addresses at which this peer can be reached, and which it announces.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use chat_core::config::ADDRS_MAX;
use iroh::{Endpoint, Watcher};
use n0_future::StreamExt;
use tracing::Span;

use crate::net::context::NetContext;
use crate::net::event_queue::NetEvent;
use crate::net::transport::path::canonical;

/// Maximum number of observed addresses: one for each network of this peer is usual.
const OBSERVED_MAX: usize = 4;

/// Maximum number of them with the same IP address: a second one appears when a router restarts.
const PORTS_MAX: usize = 2;

/// The addresses of this peer.
#[derive(Debug)]
pub(crate) struct OwnAddrs {
    ctx: NetContext,
    endpoint: Endpoint,
    /// What this peer announces, the most useful first.
    current: ArcSwap<Vec<SocketAddr>>,
    /// Addresses at which other peers see this one, oldest first.
    observed: Mutex<VecDeque<SocketAddr>>,
}

impl OwnAddrs {
    pub(crate) fn new(ctx: NetContext, endpoint: Endpoint) -> Self {
        let current = useful(endpoint.watch_addr().get().ip_addrs().copied(), &[]);
        Self { ctx, endpoint, current: ArcSwap::from_pointee(current), observed: Mutex::default() }
    }

    /// The addresses that this peer announces now.
    pub(crate) fn current(&self) -> Vec<SocketAddr> {
        self.current.load().to_vec()
    }

    /// Reports the addresses now and whenever they change.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut changes = self.endpoint.watch_addr().stream();
        let mut reported = None;
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = self.ctx.token.cancelled() => None,
            };
            let Some(addr) = change else { return };
            let observed: Vec<_> = self.lock().iter().copied().collect();
            let addrs = useful(addr.ip_addrs().copied(), &observed);
            if reported.as_ref() != Some(&addrs) {
                self.current.store(Arc::new(addrs.clone()));
                reported = Some(addrs.clone());
                self.ctx.events.send(NetEvent::Addrs(addrs)).await;
            }
        }
    }

    /// Adds an address at which other peers see this one; the oldest is dropped.
    pub(crate) fn observe(&self, addr: SocketAddr) {
        let addr = canonical(addr);
        if !can_be_reached(addr) {
            return;
        }
        let dropped = {
            let mut observed = self.lock();
            if !is_news(observed.iter(), addr) {
                return;
            }
            observed.push_back(addr);
            if observed.len() > OBSERVED_MAX { observed.pop_front() } else { None }
        };
        let endpoint = self.endpoint.clone();
        self.ctx.spawn(Span::none(), async move {
            if let Some(dropped) = dropped {
                endpoint.remove_external_addr(&dropped).await;
            }
            endpoint.add_external_addr(addr).await;
        });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SocketAddr>> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an observed address is new and useful. A router that gives every destination another port produces many: a third
/// one of the same IP address is useless to other peers, and each would be announced to the whole room.
fn is_news<'a>(observed: impl Iterator<Item = &'a SocketAddr>, addr: SocketAddr) -> bool {
    let of_this_ip: Vec<_> = observed.filter(|known| known.ip() == addr.ip()).collect();
    of_this_ip.len() < PORTS_MAX && !of_this_ip.contains(&&addr)
}

/// Selects the addresses that other peers may reach, the most likely first: observed from outside, then IPv4, then IPv6;
/// loopback only where there is nothing else.
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

/// Whether an address is valid on other machines; link-local ones need the name of an interface.
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
    fn useful_addresses_are_sorted_by_likelihood() {
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
    fn observed_ports_of_one_ip_are_bounded() {
        let addr = |port| SocketAddr::from(([203, 0, 113, 9], port));
        assert!(is_news([].iter(), addr(1)));
        assert!(!is_news([addr(1)].iter(), addr(1)), "known");
        assert!(is_news([addr(1)].iter(), addr(2)), "the router was restarted");
        assert!(!is_news([addr(1), addr(2)].iter(), addr(3)));
        assert!(is_news([addr(1), addr(2)].iter(), SocketAddr::from(([203, 0, 113, 10], 3))), "another network");
    }

    #[test]
    fn loopback_is_announced_where_there_is_nothing_else() {
        assert_eq!(useful_of(&["127.0.0.1:1", "[::1]:1"], &[]), ["127.0.0.1:1", "[::1]:1"]);
    }

    #[test]
    fn useful_addresses_are_bounded() {
        let many: Vec<String> = (1..=40).map(|n| format!("192.0.2.{n}:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(useful_of(&many, &["192.0.2.40:1"]).len(), ADDRS_MAX);
        assert_eq!(useful_of(&many, &["192.0.2.40:1"])[0], "192.0.2.40:1");
    }
}
