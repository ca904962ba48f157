//! The clients that the relay of a peer serves.

use chat_core::types::Switch;
use iroh::endpoint::presets;
use iroh::{Endpoint, RelayConfig, RelayMap, RelayMode, SecretKey, Watcher};
use n0_future::StreamExt;
use tokio::time::timeout;

use super::peers::*;
use crate::net::tcp::forwarder::{Forwarder, RelayAt, RelayCandidate, RelayOrder};

/// An endpoint that uses the relay of a peer, through a forwarder of its own.
pub(super) struct Guest {
    pub(super) endpoint: Endpoint,
    _forwarder: Forwarder,
}

impl Guest {
    /// Uses the relay through the TCP port of its peer.
    pub(super) async fn of(host: &NetPeer, key: [u8; 32]) -> Self {
        Self::with(RelayCandidate { peer: host.id(), at: RelayAt::Member(vec![host.addr()]) }, key).await
    }

    /// Uses the relay past the TCP port, which would ask for a proof first.
    async fn past_the_port(host: &NetPeer, key: [u8; 32]) -> Self {
        let mut addrs = host.net.role.relay_addr.subscribe();
        let running = timeout(DEADLINE, addrs.wait_for(Option::is_some)).await.expect("in time").expect("runs");
        let at = RelayAt::Here(running.expect("an address"));
        drop(running);
        Self::with(RelayCandidate { peer: host.id(), at }, key).await
    }

    async fn with(relay: RelayCandidate, key: [u8; 32]) -> Self {
        let forwarder = Forwarder::start(SecretKey::from_bytes(&key)).await.expect("starts");
        forwarder.use_relays(RelayOrder::new(vec![relay], None));
        let map = RelayMap::from(RelayConfig::new(forwarder.url().clone(), None));
        let builder = Endpoint::builder(presets::Minimal).secret_key(SecretKey::from_bytes(&key));
        let endpoint = builder.relay_mode(RelayMode::Custom(map)).bind().await.expect("binds");
        Self { endpoint, _forwarder: forwarder }
    }

    pub(super) async fn is_served(&self) {
        timeout(DEADLINE, self.endpoint.online()).await.expect("the relay serves it");
    }

    async fn is_denied(&self) {
        let mut changes = self.endpoint.home_relay_status().stream();
        let denied = async {
            while let Some(statuses) = changes.next().await {
                if statuses.iter().any(|status| status.auth_denied_reason().is_some()) {
                    return;
                }
            }
        };
        timeout(DEADLINE, denied).await.expect("the relay refuses");
    }
}

#[tokio::test]
async fn relay_serves_members_until_they_are_removed_and_strangers_never() {
    let ids = |members: &[u8]| members.iter().map(|n| id_of(&secret(*n))).collect::<Vec<_>>();
    let host = start(secret(0), settings(), roster(&ids(&[0, 1, 2]), false)).await;
    host.net.switch_relay(Switch::On);
    let (one, other) = (Guest::past_the_port(&host, secret(1)).await, Guest::of(&host, secret(2)).await);
    one.is_served().await;
    other.is_served().await;
    let stranger = Guest::past_the_port(&host, secret(3)).await;
    stranger.is_denied().await;

    host.net.gate().set_roster(roster(&ids(&[0, 2]), false));
    one.is_denied().await;
    other.is_served().await;
    for guest in [one, other, stranger] {
        guest.endpoint.close().await;
    }
    host.stop().await;
}
