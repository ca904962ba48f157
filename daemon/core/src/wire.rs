//! Frames of the room protocol, between members only.
//!
//! Each connection has one ordered stream in each direction that carries frames, each a big-endian `u32` length and that
//! many bytes (at most [`FRAME_BYTES_MAX`]) of postcard. The length is the shell's business; the core sees whole frames.

pub mod extension;

use std::net::SocketAddr;

use bytes::Bytes;
use chat_proto::id::{EntryHash, PeerId};
use chat_proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::FRAME_BYTES_MAX;
use crate::log::entry::{Head, LogId, Seq, SignedEntry};
use crate::peers::addrs::AddrRecord;

/// ALPN of the room protocol: members only.
pub const ROOM_ALPN: &[u8] = b"chatd/room/1";

/// A frame between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// First frame in each direction, repeated now and then.
    Hello {
        /// The sender's clock, to find out whose is wrong.
        time: Timestamp,
        /// The address at which the sender sees the receiver.
        observed: Option<SocketAddr>,
    },
    /// New entries, each after what it depends on where the sender had both.
    Entries(Vec<SignedEntry>),
    /// The answer to a `Want`: entries of one log from the first requested on, as many as fit.
    Chunk(Vec<SignedEntry>),
    /// What the sender holds on disk.
    Vector {
        /// Newest entry of each log.
        heads: Vec<Head>,
        /// Whether the receiver answers with its own.
        reply: bool,
    },
    /// Requests entries of a log, first and last sequence number included.
    Want {
        /// The log.
        log: LogId,
        /// First sequence number wanted.
        from: Seq,
        /// Last sequence number wanted.
        to: Seq,
    },
    /// A receipt: `holder` holds this log on disk up to `seq`. Sent to the log's author, who believes it only from the holder
    /// itself. A neighbour that is not the author forwards it once to an author of version 0.1; others are sent a
    /// [`SignedReceipt`](extension::SignedReceipt).
    Held {
        /// The peer that holds it.
        holder: PeerId,
        /// The log.
        log: LogId,
        /// Newest sequence number held.
        seq: Seq,
        /// Hash of that entry, because the log may be forked.
        hash: EntryHash,
    },
    /// Peers that the sender is connected to, with what it measured.
    Links(Vec<PeerLink>),
    /// Address records of members.
    Addrs(Vec<AddrRecord>),
    /// A stranger asks the sender for admission, or that request has ended.
    Knock {
        /// The stranger.
        peer: PeerId,
        /// Name it asks for.
        name: String,
        /// Words that both sides show.
        words: String,
        /// State of the request.
        state: KnockNews,
    },
    /// Two entries of one author with one sequence number: proof that the log was forked.
    Fork(Box<SignedEntry>, Box<SignedEntry>),
    /// A message of the broadcast tree, opaque here.
    Tree(Vec<u8>),
    /// A message of the rendezvous, opaque here, or an [`Extension`](extension::Extension).
    Role(Vec<u8>),
    /// Asks for a `Pong` with the same number.
    Ping(u64),
    /// Answers a `Ping`.
    Pong(u64),
    /// The sender leaves in an orderly way.
    Bye,
    /// A hash of the sender's version vector: a receiver with the same one needs no vector.
    Digest {
        /// The hash.
        digest: [u8; 32],
        /// Whether the receiver must answer with its own.
        reply: bool,
    },
}

/// State of a knock, as members report it to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KnockNews {
    /// It waits at the sender.
    Waiting,
    /// The sender refuses it; the receiver informs the stranger.
    Denied,
    /// It has ended at the sender.
    Over,
}

/// A connection as one end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLink {
    /// The other end.
    pub peer: PeerId,
    /// Whether no relay is in between.
    pub direct: bool,
    /// Round-trip time in microseconds.
    pub rtt_us: u32,
}

/// A frame that cannot be encoded or decoded. A peer that sends one is disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("frame of {0} bytes is longer than {max}", max = FRAME_BYTES_MAX)]
    TooLong(usize),
    /// Not a frame of this version.
    #[error("frame cannot be decoded")]
    Malformed,
}

impl Frame {
    /// The frame's bytes, without length.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when it does not fit.
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        let raw = postcard::to_stdvec(self).map_err(|_| FrameError::Malformed)?;
        if raw.len() > FRAME_BYTES_MAX { Err(FrameError::TooLong(raw.len())) } else { Ok(raw.into()) }
    }

    /// Reads one frame from exactly these bytes.
    ///
    /// # Errors
    /// Says whether it was too long or not a frame.
    pub fn decode(raw: &[u8]) -> Result<Self, FrameError> {
        if raw.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(raw.len()));
        }
        match postcard::take_from_bytes(raw) {
            Ok((frame, [])) => Ok(frame),
            Ok(_) | Err(_) => Err(FrameError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_from_outside_never_panic(raw: Vec<u8>) {
            if let Ok(frame) = Frame::decode(&raw) {
                let encoded = frame.encode().expect("what was read can be written");
                prop_assert_eq!(Frame::decode(&encoded), Ok(frame));
            }
        }
    }

    #[test]
    fn a_frame_is_read_whole_or_not_at_all() {
        let raw = Frame::Ping(77).encode().expect("fits");
        assert_eq!(Frame::decode(&raw), Ok(Frame::Ping(77)));
        assert_eq!(Frame::decode(&raw[..raw.len() - 1]), Err(FrameError::Malformed));
        assert_eq!(Frame::decode(&[&raw[..], &[0]].concat()), Err(FrameError::Malformed));
        assert_eq!(Frame::decode(&vec![0; FRAME_BYTES_MAX + 1]), Err(FrameError::TooLong(FRAME_BYTES_MAX + 1)));
    }
}
