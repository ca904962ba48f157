//! Settings of the network, and why it cannot start.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use chat_proto::PEER_PORT;

/// Settings of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetSettings {
    /// Where to listen, UDP and TCP; all addresses and [`PEER_PORT`] or another free one.
    pub listen: Listen,
    /// Whether peers and rooms on the local network are found and told about this one; on.
    pub mdns: Mdns,
    /// After how much silence a connection is given up; 15 s, 1 s to 60 s. It must exceed the time in which a relay is
    /// replaced: presence is told by heartbeats, not by this.
    pub idle_timeout: Duration,
    /// After how much silence a direct path is given up, so that the one over the relay carries the connection on; 3 s, less
    /// than the idle timeout. It counts from the first packet that nobody answered, and is shorter than a peer that was
    /// pinged has to answer: so a connection whose peer still answers over the relay outlives its direct path. A shorter
    /// one would leave pairs relayed for up to a minute after a short cut, and they feel the end of the relay's peer.
    pub path_idle_timeout: Duration,
    /// How often a silent path is kept alive; 1.8 s, less than the idle timeout of a path. Pings of peers that have nothing to
    /// say come as often, so that this costs packets on the paths that are not in use.
    pub keep_alive: Duration,
}

impl Default for NetSettings {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            mdns: Mdns::On,
            idle_timeout: Duration::from_secs(15),
            path_idle_timeout: Duration::from_secs(3),
            keep_alive: Duration::from_millis(1_800),
        }
    }
}

/// Whether the local network is searched and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mdns {
    /// Yes.
    On,
    /// No packet is sent to it.
    Off,
}

/// Where to listen: `IP`, `IP:PORT`, `[IP]:PORT` or `:PORT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// One local address; none means all of IPv4 and IPv6.
    pub ip: Option<IpAddr>,
    /// One port, 0 for any free one; none means [`PEER_PORT`], or another one when that is taken.
    pub port: Option<u16>,
}

/// Why a text is no address to listen on. The same text will fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an address to listen on: write IP, IP:PORT, [IPv6]:PORT or :PORT")]
pub struct ParseListenError {
    text: String,
}

impl FromStr for Listen {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, ParseListenError> {
        let fail = || ParseListenError { text: text.chars().filter(|c| !c.is_control()).take(80).collect() };
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self { ip: Some(ip), port: None });
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(Self { ip: Some(addr.ip()), port: Some(addr.port()) });
        }
        let port = text.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(fail)?;
        Ok(Self { ip: None, port: Some(port) })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.port) {
            (Some(ip), Some(port)) => write!(f, "{}", SocketAddr::new(ip, port)),
            (Some(ip), None) => write!(f, "{ip}"),
            (None, port) => write!(f, ":{}", port.unwrap_or(PEER_PORT)),
        }
    }
}

/// Why the network cannot start. Nothing is left open.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port that was asked for is in use.
    #[error(
        "port {port} is taken on {ip}: another chatd or program uses it, choose another with --listen or leave the port out"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The address.
        ip: IpAddr,
    },
    /// The default port and all others that were tried are in use.
    #[error("no free port for UDP and TCP was found: choose one with --listen")]
    NoFreePort,
    /// The address is not one of this machine, or the port needs more rights.
    #[error("cannot listen on {addr}: check that --listen names an address of this machine and a port above 1023")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The endpoint could not be built.
    #[error("the network endpoint cannot start")]
    Endpoint(#[source] Box<iroh::endpoint::BindError>),
    /// No loopback port for the way to the relay.
    #[error("no free port on the loopback interface: check that it is up")]
    Forwarder(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on_print_what_they_parse() {
        for text in ["192.0.2.1", "192.0.2.1:7", "2001:db8::1", "[2001:db8::1]:7", ":7", ":0"] {
            let listen: Listen = text.parse().expect("an address");
            assert_eq!(listen.to_string(), text);
        }
        for text in ["", "host", "host:7", "7", ":", ":70000", "192.0.2.1:", "[::1]"] {
            assert!(text.parse::<Listen>().is_err(), "{text} must be refused");
        }
    }
}
