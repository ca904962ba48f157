//! Looks for a direct path beside a relayed one.
//!
//! iroh looks for direct paths when a connection is made, when addresses change, and once a minute. A network that lets UDP
//! pass again changes no address. So the end that dialled makes a short-lived second connection over the relayed path from
//! time to time: iroh then tries all addresses of the peer again, on both ends at once, as routers that translate
//! addresses require.

use std::time::Duration;

use chat_core::wire::ROOM_ALPN;
use iroh::endpoint::{Connection, Side};
use iroh::{Endpoint, EndpointAddr};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::net::transport::close::CloseCode;

/// Minimum interval between two attempts; iroh tries the same addresses every five seconds at most.
const TRY_EVERY_MIN: Duration = Duration::from_secs(2);

/// Maximum interval: a peer that is relayed for minutes most likely stays so.
const TRY_EVERY_MAX: Duration = Duration::from_secs(60);

/// Part of the time since the last direct path after which the next attempt follows.
const PART: u32 = 8;

/// Timeout for the second connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Looks for a direct path while the connection has none, as long as it is polled.
pub(crate) async fn look(endpoint: &Endpoint, connection: &Connection) {
    if connection.side() != Side::Client {
        return std::future::pending().await;
    }
    let mut relayed_since = Instant::now();
    loop {
        sleep((relayed_since.elapsed() / PART).clamp(TRY_EVERY_MIN, TRY_EVERY_MAX)).await;
        let relayed = {
            let paths = connection.paths();
            let selected = paths.iter().find(|path| path.is_selected());
            selected.filter(|path| path.is_relay()).map(|path| path.remote_addr().clone())
        };
        match relayed {
            Some(relay) => again(endpoint, EndpointAddr::from_parts(connection.remote_id(), [relay])).await,
            None => relayed_since = Instant::now(),
        }
    }
}

async fn again(endpoint: &Endpoint, addr: EndpointAddr) {
    match timeout(CONNECT_MAX, endpoint.connect(addr, ROOM_ALPN)).await {
        Ok(Ok(second)) => second.close(CloseCode::Duplicate.var_int(), b""),
        Ok(Err(error)) => debug!(%error, "no second connection over the relay"),
        Err(_) => debug!("a second connection over the relay took too long"),
    }
}
