//! Frames of the role: what [`Frame::Role`](crate::wire::Frame::Role) carries.
//!
//! One byte of version, then postcard. Frames of another version are ignored without a fault, so that a room can be
//! upgraded peer by peer.

use std::time::Duration;

use chat_proto::id::Term;
use serde::{Deserialize, Serialize};

use crate::rendezvous::events::RoleFault;
use crate::rendezvous::protocol::signed::SignedBytes;
use crate::rendezvous::settings::{HISTORY_MAX, ROLE_FRAME_BYTES_MAX};

/// Version of the frames.
const VERSION: u8 = 1;

/// What members send each other about the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RoleFrame {
    /// What the sender knows: to a new neighbour, and to one that knows less.
    State {
        /// The claim in force; none while the sender knows of none.
        claim: Option<SignedBytes>,
        /// The newest succession of that claim's term.
        succession: Option<SignedBytes>,
    },
    /// A claim of the role; forwarded once.
    Claim(SignedBytes),
    /// The holder publishes its succession; the first of a term is forwarded at once, later ones on request.
    Succession(SignedBytes),
    /// A heartbeat, from the holder to each peer on its list.
    Beat {
        /// The holder's term.
        term: Term,
        /// Counts the beats of a term.
        seq: u64,
        /// How long ago the holder heard the receiver: one that sends and does not hear cannot serve it.
        heard_ms: u32,
    },
    /// Answers some of the heartbeats.
    BeatAck {
        /// Their term.
        term: Term,
    },
    /// Measures, and compares what both know.
    Ping {
        /// Returned in the answer.
        nonce: u64,
        /// What the sender knows.
        gossip: Gossip,
    },
    /// Answers a ping.
    Pong {
        /// From the ping.
        nonce: u64,
        /// What the sender knows.
        gossip: Gossip,
    },
    /// The sender suspects the holder of this term and asks when the receiver heard it.
    Suspect {
        /// The term.
        term: Term,
        /// Returned in the answer.
        nonce: u64,
        /// The reason.
        cause: Cause,
    },
    /// Answers a suspicion.
    Verdict {
        /// From the suspicion.
        nonce: u64,
        /// The term the answering peer knows.
        term: Term,
        /// How long ago it heard that term's holder itself, if ever.
        heard_ms: Option<u32>,
    },
    /// From the holder to one member: take the role over. Forwarded once where they are not connected.
    Offer(SignedBytes),
    /// What a member measured, on its way to the holder.
    Report {
        /// How often it was forwarded.
        hops: u8,
        /// The report.
        report: SignedBytes,
    },
    /// Asks for the history.
    HistoryWant,
    /// Past claims.
    History(Vec<SignedBytes>),
}

/// What neighbours compare with every ping; the one that is behind is sent the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gossip {
    /// The term the sender knows; 0 for none.
    pub(crate) term: Term,
    /// The newest succession of that term.
    pub(crate) serial: u64,
    /// Age of the newest sign of life of that term's holder, heard or reported.
    pub(crate) age_ms: u32,
    /// Short hash of that claim: two claims of one term must meet.
    pub(crate) claim: u32,
    /// Short hash over the keys of the history.
    pub(crate) digest: u32,
}

/// Why a holder is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// Its kernel closed the TCP watch.
    Died,
    /// Heartbeats are missing, or the connection ended without a goodbye.
    Silent,
}

/// Milliseconds, as frames carry them.
pub(crate) fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

impl RoleFrame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("frames of the role have no type that cannot be encoded");
        [&[VERSION], body.as_slice()].concat()
    }

    /// Reads a frame; `None` when it is of another version.
    pub(crate) fn decode(raw: &[u8]) -> Result<Option<Self>, RoleFault> {
        if raw.len() > ROLE_FRAME_BYTES_MAX {
            return Err(RoleFault::TooLong);
        }
        match raw.split_first() {
            Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
                Ok((Self::History(claims), [])) if claims.len() > HISTORY_MAX => Err(RoleFault::Malformed),
                Ok((frame, [])) => Ok(Some(frame)),
                Ok(_) | Err(_) => Err(RoleFault::Malformed),
            },
            Some(_) => Ok(None),
            None => Err(RoleFault::Malformed),
        }
    }

    /// Whether it carries signatures, which cost the receiver most.
    pub(crate) const fn is_signed(&self) -> bool {
        match self {
            Self::State { .. }
            | Self::Claim(_)
            | Self::Succession(_)
            | Self::Offer(_)
            | Self::Report { .. }
            | Self::History(_) => true,
            Self::Beat { .. }
            | Self::BeatAck { .. }
            | Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Suspect { .. }
            | Self::Verdict { .. }
            | Self::HistoryWant => false,
        }
    }
}
