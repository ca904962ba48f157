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
    /// Address and port to listen on, UDP and TCP; default all addresses and [`PEER_PORT`] or another free port.
    pub listen: Listen,
    /// Whether this peer finds and announces peers and rooms on the local network; default on.
    pub mdns: Mdns,
    /// Silence after which a connection is closed; default 15 s, 1 s to 60 s. It must exceed the time in which a relay is
    /// replaced: presence is decided by heartbeats, not by this.
    pub idle_timeout: Duration,
    /// Time without any packet after which a direct path is closed; default 15 s, which is iroh's maximum. A path on which
    /// something was sent is given up far earlier, see `transport/silence.rs`.
    pub path_idle_timeout: Duration,
    /// Interval between keep-alives on a silent path; default 5 s, which is iroh's maximum, less than the idle timeout of a
    /// path and than the time for which routers remember a flow.
    pub keep_alive: Duration,
}

impl Default for NetSettings {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            mdns: Mdns::On,
            idle_timeout: Duration::from_secs(15),
            path_idle_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(5),
        }
    }
}

/// Whether multicast DNS is used on the local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mdns {
    /// Find and announce.
    On,
    /// Send no packet to it.
    Off,
}

/// Address and port to listen on: `IP`, `IP:PORT`, `[IP]:PORT` or `:PORT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// One local address; `None` means all of IPv4 and IPv6.
    pub ip: Option<IpAddr>,
    /// One port, 0 for any free one; `None` means [`PEER_PORT`], or another one when that is taken.
    pub port: Option<u16>,
}

/// Why a text is not an address to listen on. The same text fails again.
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
    /// The requested port is in use.
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
    /// The address does not belong to this machine, or the port needs more rights.
    #[error("cannot listen on {addr}: check that --listen names an address of this machine and a port above 1023")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The endpoint could not be built.
    #[error("the network endpoint cannot start")]
    Endpoint(#[source] Box<iroh::endpoint::BindError>),
    /// No free loopback port for the forwarder to the relay.
    #[error("no free port on the loopback interface: check that it is up")]
    Forwarder(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_address_round_trips() {
        for text in ["192.0.2.1", "192.0.2.1:7", "2001:db8::1", "[2001:db8::1]:7", ":7", ":0"] {
            let listen: Listen = text.parse().expect("an address");
            assert_eq!(listen.to_string(), text);
        }
        for text in ["", "host", "host:7", "7", ":", ":70000", "192.0.2.1:", "[::1]"] {
            assert!(text.parse::<Listen>().is_err(), "{text} must be refused");
        }
    }
}
