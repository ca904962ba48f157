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

/// Maximum number of them with the same IP address: a second one appears when a router restarts. A third replaces the
/// oldest.
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

    /// Adds an address at which other peers see this one; the oldest is dropped. The addresses of this peer's own interfaces
    /// are announced before it, and whatever others report.
    pub(crate) fn observe(&self, addr: SocketAddr) {
        let addr = canonical(addr);
        if !can_be_reached(addr) {
            return;
        }
        let dropped = {
            let mut observed = self.lock();
            // Also where it is one of an interface.
            if observed.contains(&addr) || self.current.load().contains(&addr) {
                return;
            }
            observed.push_back(addr);
            let surplus = surplus(&observed);
            surplus.and_then(|at| observed.remove(at))
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

/// Position of the observed address to drop, if there are too many, of one IP address or in total. A router that gives every
/// destination another port produces many of one IP address, and each would be announced to the whole room.
fn surplus(observed: &VecDeque<SocketAddr>) -> Option<usize> {
    let newest = observed.back()?.ip();
    let of_this_ip = observed.iter().filter(|known| known.ip() == newest).count();
    if of_this_ip > PORTS_MAX {
        return observed.iter().position(|known| known.ip() == newest);
    }
    (observed.len() > OBSERVED_MAX).then_some(0)
}

/// Selects the addresses that other peers may reach: IPv4 of this peer's own interfaces, then IPv6, then what other peers
/// observed, for which some room is kept; loopback only where there is nothing else.
pub(crate) fn useful(addrs: impl Iterator<Item = SocketAddr>, observed: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addrs: Vec<SocketAddr> = addrs.map(canonical).filter(|addr| can_be_reached(*addr)).collect();
    if addrs.iter().any(|addr| !addr.ip().is_loopback()) {
        addrs.retain(|addr| !addr.ip().is_loopback());
    }
    addrs.sort_by_key(|addr| (addr.is_ipv6(), *addr));
    addrs.dedup();
    let (mut seen, mut own): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|addr| observed.contains(addr));
    seen.truncate(OBSERVED_MAX);
    own.truncate(ADDRS_MAX - seen.len());
    own.extend(seen);
    own
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
        assert_eq!(addrs, ["192.168.0.2:1", "[2001:db8::1]:1", "203.0.113.9:7"]);
    }

    #[test]
    fn observed_addresses_are_bounded() {
        let addr = |host, port| SocketAddr::from(([203, 0, 113, host], port));
        assert_eq!(surplus(&[addr(9, 1), addr(9, 2)].into()), None, "the router was restarted");
        assert_eq!(surplus(&[addr(8, 1), addr(9, 1), addr(9, 2), addr(9, 3)].into()), Some(1), "one port too many");
        assert_eq!(surplus(&[addr(5, 1), addr(6, 1), addr(7, 1), addr(8, 1), addr(9, 1)].into()), Some(0));
    }

    #[test]
    fn observed_addresses_displace_no_interface_from_the_front() {
        let seen: Vec<String> = (1..=9).map(|n| format!("203.0.113.{n}:1")).collect();
        let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
        let all = [["192.168.0.2:1", "[2001:db8::1]:1"].as_slice(), seen.as_slice()].concat();
        let addrs = useful_of(&all, &seen);
        assert_eq!(addrs[..2], ["192.168.0.2:1", "[2001:db8::1]:1"]);
        assert_eq!(addrs.len(), 2 + OBSERVED_MAX);
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
        assert_eq!(useful_of(&many, &["192.0.2.40:1"])[ADDRS_MAX - 1], "192.0.2.40:1", "room is kept for it");
    }
}
