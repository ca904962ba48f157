//! Asking to be let into a room.

use std::io;

use chat_core::admission::{Admitted, DenyReason};
use chat_proto::id::PeerId;

/// This peer was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// What a new member needs to begin.
    pub admitted: Admitted,
    /// The member that let us in.
    pub door: PeerId,
}

/// Why this peer was not let in. Nothing was changed here; each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The host's name has no address.
    #[error("the host '{host}' is not known: check its spelling, or give its IP address")]
    UnknownHost {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Nobody answered.
    #[error(
        "nobody could be reached at {tried}: check that chatd runs there and that UDP and TCP pass, then try again"
    )]
    Unreachable {
        /// Where it was tried.
        tried: String,
    },
    /// Somebody answered who does not speak this protocol.
    #[error("what listens at {tried} is not a chatd that this one understands: check the port, or update")]
    NotChatd {
        /// Where it was tried.
        tried: String,
    },
    /// The peer there is in no room yet.
    #[error("the chatd at {tried} is in no room: start a room there first")]
    NoRoom {
        /// Where it was tried.
        tried: String,
    },
    /// The address leads back here.
    #[error("{tried} is this peer itself: give the address of another one")]
    Itself {
        /// Where it was tried.
        tried: String,
    },
    /// A member said no.
    #[error(transparent)]
    Denied(#[from] DenyReason),
    /// A member was reached, and its answer did not come in time.
    #[error("{tried} was reached and did not answer in time: try again")]
    TimedOut {
        /// Where it was tried.
        tried: String,
    },
    /// A member was reached, and the connection broke before its answer.
    #[error("the connection to {tried} broke before the answer: try again")]
    Broken {
        /// Where it was tried.
        tried: String,
    },
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}
