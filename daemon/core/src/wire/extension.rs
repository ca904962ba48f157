//! What members say to each other beyond the frames of version 0.1.
//!
//! An older member ends a connection on which a frame of an unknown kind arrives. It ignores frames of the role of an
//! unknown version, though: an extension travels as one of those, and members that understand extensions announce it when
//! a connection opens.

use chat_proto::id::{EntryHash, PeerId};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::log::entry::{Head, LogId, Seq, SignedEntry};
use crate::log::signature::{self, SignatureBytes};
use crate::wire::Frame;

/// First byte of a frame of the role that carries an extension. The role's own frames have version 1.
const EXTENSION: u8 = 0x80;

/// Context of a receipt's signature.
const RECEIPT_CONTEXT: &[u8] = b"chatd receipt v1\0";

/// What travels in a [`Frame::Role`] to members that understand it. New variants come last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extension {
    /// The sender understands extensions.
    Announced,
    /// A receipt that other members pass on.
    Receipt(SignedReceipt),
    /// The sender answers requests for bodies.
    GivesBodies,
    /// Requests those bodies that the receiver keeps of a log, first and last sequence number included.
    WantBodies {
        /// The log.
        log: LogId,
        /// First sequence number.
        from: Seq,
        /// Last sequence number.
        to: Seq,
    },
    /// Answers a request for bodies: the first entries of the range that the sender holds with their bodies; none where it has
    /// no more.
    Bodies {
        /// The log.
        log: LogId,
        /// The entries.
        entries: Vec<SignedEntry>,
    },
    /// The sender says when it waits for receipts; others may come in groups.
    GroupsReceipts,
    /// The sender waits for a receipt of its own log up to this entry.
    AwaitsReceipt {
        /// The log.
        log: LogId,
        /// Sequence number of the entry.
        seq: Seq,
    },
}

/// A receipt with the signature of its holder: `holder` holds this log on disk up to `seq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The peer that holds it.
    pub holder: PeerId,
    /// The log.
    pub log: LogId,
    /// Newest sequence number held.
    pub seq: Seq,
    /// Hash of that entry, because the log may be forked.
    pub hash: EntryHash,
    /// The holder's signature.
    pub signature: SignatureBytes,
}

impl Extension {
    /// The frame that carries it.
    pub fn to_frame(&self) -> Frame {
        let body = postcard::to_stdvec(self).expect("extensions have no type that cannot be encoded");
        Frame::Role([&[EXTENSION], body.as_slice()].concat())
    }

    /// Whether a frame of the role carries an extension.
    pub fn is_in(raw: &[u8]) -> bool {
        raw.first() == Some(&EXTENSION)
    }

    /// Reads what a frame of the role carries; `None` when it is not an extension that this version knows.
    pub fn decode(raw: &[u8]) -> Option<Self> {
        let body = raw.strip_prefix(&[EXTENSION])?;
        match postcard::take_from_bytes(body) {
            Ok((extension, [])) => Some(extension),
            Ok(_) | Err(_) => None,
        }
    }
}

impl SignedReceipt {
    /// Writes and signs a receipt.
    pub fn sign(head: Head, key: &SigningKey) -> Self {
        let holder = PeerId::from_bytes(key.verifying_key().to_bytes());
        let signature = signature::sign(key, RECEIPT_CONTEXT, &statement(&head));
        Self { holder, log: head.log, seq: head.seq, hash: head.hash, signature }
    }

    /// Whether its holder wrote it.
    pub fn verify(&self) -> bool {
        let head = Head { log: self.log, seq: self.seq, hash: self.hash };
        signature::holds(self.holder.as_bytes(), RECEIPT_CONTEXT, &statement(&head), self.signature)
    }
}

/// What a receipt's holder signs. The hash covers the room.
fn statement(head: &Head) -> Vec<u8> {
    let (incarnation, seq) = (head.log.incarnation.0.to_be_bytes(), head.seq.0.to_be_bytes());
    [head.log.author.as_bytes().as_slice(), &incarnation, &seq, head.hash.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::entry::Incarnation;
    use crate::rendezvous::is_ignored_frame;

    fn receipt() -> SignedReceipt {
        let log = LogId { author: PeerId::from_bytes([1; 32]), incarnation: Incarnation(7) };
        let head = Head { log, seq: Seq(3), hash: EntryHash::from_bytes([2; 32]) };
        SignedReceipt::sign(head, &SigningKey::from_bytes(&[5; 32]))
    }

    #[test]
    fn receipt_is_its_holders_own() {
        assert!(receipt().verify());
        assert!(!SignedReceipt { seq: Seq(4), ..receipt() }.verify());
        assert!(!SignedReceipt { hash: EntryHash::from_bytes([3; 32]), ..receipt() }.verify());
        let other = PeerId::from_bytes(SigningKey::from_bytes(&[6; 32]).verifying_key().to_bytes());
        assert!(!SignedReceipt { holder: other, ..receipt() }.verify());
    }

    #[test]
    fn members_of_version_0_1_ignore_extensions() {
        let Frame::Role(raw) = Extension::Receipt(receipt()).to_frame() else { panic!("a frame of the role") };
        assert_eq!(Extension::decode(&raw), Some(Extension::Receipt(receipt())));
        assert!(is_ignored_frame(&raw), "a version of the role's frames that is not known");
        assert_eq!(Extension::decode(&raw[..raw.len() - 1]), None);
        assert_eq!(Extension::decode(&[1, 0]), None, "a frame of the role itself");
    }
}
