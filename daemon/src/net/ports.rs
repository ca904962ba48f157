//! What speaks on the TCP port of a peer: each service is named by the first line.

/// Asks who listens here; see [`crate::net::hello`].
pub(crate) const HELLO_LINE: &[u8] = b"CHATD HELLO 1\n";

/// Goes on to the embedded relay; see [`crate::net::relay`].
pub(crate) const RELAY_LINE: &[u8] = b"CHATD RELAY 1\n";

/// What is answered to it where a relay runs, before the id of the peer whose it is and all that the relay says.
pub(crate) const RELAY_RUNS: u8 = b'+';

/// Stays open and silent until this process ends; see [`crate::net::watch`].
pub(crate) const WATCH_LINE: &[u8] = b"CHATD WATCH 1\n";

/// A service on the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The hello.
    Hello,
    /// The relay.
    Relay,
    /// A watch.
    Watch,
}

impl Service {
    /// The service that a first line, without its line feed, names.
    pub(crate) fn named(line: &[u8]) -> Option<Self> {
        let services = [(HELLO_LINE, Self::Hello), (RELAY_LINE, Self::Relay), (WATCH_LINE, Self::Watch)];
        services.iter().find(|(known, _)| known.strip_suffix(b"\n") == Some(line)).map(|(_, service)| *service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_service() {
        assert_eq!(Service::named(b"CHATD HELLO 1"), Some(Service::Hello));
        assert_eq!(Service::named(b"CHATD RELAY 1"), Some(Service::Relay));
        assert_eq!(Service::named(b"CHATD WATCH 1"), Some(Service::Watch));
        for other in [&b""[..], b"CHATD HELLO 2", b"CHATD HELLO 1\r", b"GET / HTTP/1.1\r"] {
            assert_eq!(Service::named(other), None);
        }
    }
}
