//! The target of `--join`: a ticket, an address, or the name of a room on the local network.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use chat_proto::PEER_PORT;
use chat_proto::text::check_name;
use chat_proto::ticket::{ParseTicketError, Ticket};

/// Maximum length of a host name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Where to ask to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinTarget {
    /// Members named by a ticket.
    Ticket(Box<Ticket>),
    /// The peer that listens there.
    Address {
        /// Name or IP address, without brackets.
        host: String,
        /// Port, [`PEER_PORT`] unless given.
        port: u16,
    },
    /// A room of that name on the local network; where there is none, a host of that name, on [`PEER_PORT`].
    Name(String),
}

/// Why a text is neither a ticket nor an address. The same text fails again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTargetError {
    /// It starts like a ticket but is not one.
    #[error(transparent)]
    Ticket(#[from] ParseTicketError),
    /// Not an address.
    #[error(
        "'{text}' is neither a ticket nor an address: give the line from 'chat invite', HOST, HOST:PORT, or the name of a room that 'chat rooms' lists"
    )]
    Address {
        /// The text, shortened.
        text: String,
    },
}

impl JoinTarget {
    /// Reads a ticket (`chat1…`), `NAME`, `HOST`, `HOST:PORT`, `IP`, `IP:PORT` or `[IPv6]:PORT`. A word without a dot is a name.
    ///
    /// # Errors
    /// [`ParseTargetError`], with what is wrong with the ticket or the address.
    pub fn parse(text: &str) -> Result<Self, ParseTargetError> {
        let text = text.trim();
        match text.parse::<Ticket>() {
            Ok(ticket) => return Ok(Self::Ticket(Box::new(ticket))),
            // Hosts may be called chat1 or chat1.example, and nothing shorter than this is a ticket.
            Err(ParseTicketError::Prefix) => {}
            Err(_) if text.len() < TICKET_CHARS_MIN && !text.contains(char::is_whitespace) => {}
            Err(error) => return Err(error.into()),
        }
        let fail = || ParseTargetError::Address { text: text.chars().filter(|c| !c.is_control()).take(80).collect() };
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Self::address(&addr.ip().to_string(), addr.port()).ok_or_else(fail);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse::<Ipv6Addr>() {
            return Self::address(&ip.to_string(), PEER_PORT).ok_or_else(fail);
        }
        if !text.contains('.') && !text.starts_with('-') && check_name("room's name", text).is_ok() {
            return Ok(Self::Name(text.to_owned()));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| fail())?),
            None => (text, PEER_PORT),
        };
        if !is_host(host) {
            return Err(fail());
        }
        Self::address(host, port).ok_or_else(fail)
    }

    fn address(host: &str, port: u16) -> Option<Self> {
        (port != 0).then(|| Self::Address { host: host.to_owned(), port })
    }

    /// The target as [`JoinTarget::parse`] takes it, the secret of a ticket included.
    pub(crate) fn as_given(&self) -> String {
        match self {
            Self::Ticket(ticket) => ticket.to_string(),
            Self::Address { .. } | Self::Name(_) => self.to_string(),
        }
    }
}

/// A ticket of one peer without addresses has about 200 characters.
const TICKET_CHARS_MIN: usize = 120;

pub(crate) fn is_host(host: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(letters) && !host.starts_with(['-', '.'])
}

impl fmt::Display for JoinTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(ticket) => write!(f, "a ticket for '{}'", ticket.room_name),
            Self::Address { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => write!(f, "{}", SocketAddr::new(ip, *port)),
                Err(_) => write!(f, "{host}:{port}"),
            },
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(host: &str, port: u16) -> JoinTarget {
        JoinTarget::Address { host: host.into(), port }
    }

    #[test]
    fn host_or_address_parses() {
        for (text, host, port) in [
            ("192.0.2.7", "192.0.2.7", PEER_PORT),
            ("192.0.2.7:9", "192.0.2.7", 9),
            ("::1", "::1", PEER_PORT),
            ("[::1]", "::1", PEER_PORT),
            ("[::1]:9", "::1", 9),
            ("lab-3.example.net", "lab-3.example.net", PEER_PORT),
            (" lab:9\n", "lab", 9),
            ("chat1.example.net:9", "chat1.example.net", 9),
        ] {
            assert_eq!(JoinTarget::parse(text), Ok(address(host, port)), "{text}");
        }
    }

    #[test]
    fn word_without_a_dot_is_a_name() {
        for name in ["chat1", "lab", "李", "a_b"] {
            assert_eq!(JoinTarget::parse(name), Ok(JoinTarget::Name(name.into())));
        }
    }

    #[test]
    fn other_text_is_refused_with_a_reason() {
        for text in ["", ":9", "host:", "host:0", "host:70000", "[::1", "a b", "http://host/", "-host", "1.2.3.4:5:6"] {
            let refused = JoinTarget::parse(text);
            assert!(matches!(refused, Err(ParseTargetError::Address { .. })), "{text}: {refused:?}");
        }
        let cut = format!("chat1{}", "a".repeat(200));
        assert!(matches!(JoinTarget::parse(&cut), Err(ParseTargetError::Ticket(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic_and_addresses_round_trip(text: String) {
            if let Ok(target @ JoinTarget::Address { .. }) = JoinTarget::parse(&text) {
                prop_assert_eq!(JoinTarget::parse(&target.to_string()), Ok(target));
            }
        }
    }
}
