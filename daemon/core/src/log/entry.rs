//! Signed entries: the only thing peers store and replicate.
//!
//! An author's log is a hash chain of entries. The header names room, author, sequence number, the entry before it, the
//! dependencies, and the hash of the body; the signature covers the header's bytes. A body can therefore be dropped
//! without breaking the chain. Headers and bodies are encoded with postcard and travel as the bytes that were signed, so no
//! peer ever re-encodes what it verifies.
//!
//! **Order is causal, dates are labels.** [`Header::time`] is what the author's clock showed, for people to read. Entries are
//! sorted by their order time ([`Header::order_after`]): the label, unless the author had seen entries of a later order; then
//! its entry carries a time after all of those. So a wrong clock dates messages wrongly and never puts an answer before
//! its question.
//!
//! [`SignedEntry`] is unverified; [`Entry`] has passed [`Entry::verify`] (or [`Entry::from_trusted`], for entries from this
//! peer's own disk). Whether the author was entitled to write it follows from the membership, not from the entry.

mod bounds;
mod dep;
mod kind;

use chat_proto::id::{EntryHash, InviteId, MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::config::ENTRY_BYTES_MAX;
#[cfg(doc)]
use crate::config::{ENTRY_DEPS_MAX, ENTRY_MESSAGES_MAX};
use crate::log::entry::bounds::check_bounds;
use crate::log::entry::kind::{encode_body, is_marked, mark_messages};
use crate::log::signature::{self, SignatureBytes};

pub use dep::Dep;

/// Version of the entry format.
const VERSION: u8 = 1;

/// Context of the entry hash, so that no other hash of this project can be taken for one (BLAKE3 key derivation mode).
const HASH_CONTEXT: &str = "chatd 2026 entry header v1";

/// Context of the number of a branch.
const BRANCH_CONTEXT: &str = "chatd 2026 branch of a forked log v1";

/// What is signed begins with this, so that no other signature of this key can be taken for one.
const SIGN_CONTEXT: &[u8] = b"chatd entry v1\0";

/// A random number per database: a restored backup writes under a new one and cannot fork its own past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// Position of an entry in its log, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// Beyond every entry.
    pub const MAX: Self = Self(u64::MAX);

    /// The next sequence number.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One author's chain under one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// The peer that writes it.
    pub author: PeerId,
    /// The database it writes with.
    pub incarnation: Incarnation,
}

impl LogId {
    /// The log in which the branch of a fork is filed that begins with an entry. It follows from that entry alone, so all
    /// peers name it alike.
    pub fn branch(author: PeerId, first: &EntryHash) -> Self {
        let derived = blake3::derive_key(BRANCH_CONTEXT, first.as_bytes());
        let (number, _) = derived.split_first_chunk().expect("32 bytes are more than 8");
        Self { author, incarnation: Incarnation(u64::from_le_bytes(*number)) }
    }

    /// The least and the greatest log of an author.
    pub(crate) fn range_of(author: PeerId) -> std::ops::RangeInclusive<Self> {
        let log = |number| Self { author, incarnation: Incarnation(number) };
        log(0)..=log(u64::MAX)
    }
}

/// Hybrid logical clock (Kulkarni et al., 2014): milliseconds since the Unix epoch in the upper 48 bits, a counter in
/// the lower 16. Dates entries and orders them; see the documentation of this file for the difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first instant of a wall-clock millisecond.
    pub const fn from_wall(wall: Timestamp) -> Self {
        let ms = wall.as_ms();
        let ms = if ms >= 1 << 48 { (1 << 48) - 1 } else { ms };
        Self(ms << 16)
    }

    /// The wall-clock part.
    pub const fn wall(self) -> Timestamp {
        Timestamp::from_ms(self.0 >> 16)
    }

    /// The next time.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The newest entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The log.
    pub log: LogId,
    /// Its newest sequence number.
    pub seq: Seq,
    /// The hash of that entry.
    pub hash: EntryHash,
}

/// What the signature covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Format version, 1.
    pub version: u8,
    /// The room; zeros in the first entry, whose hash *is* the room's id.
    pub room: RoomId,
    /// The log that it belongs to.
    pub log: LogId,
    /// Sequence number, from 1.
    pub seq: Seq,
    /// Hash of the entry before it; none at sequence number 1.
    pub backlink: Option<EntryHash>,
    /// The label: when the author wrote it, by the author's clock.
    pub time: Hlc,
    /// Newest entries of other logs the author had seen since its last entry; at most [`ENTRY_DEPS_MAX`]. One with the
    /// sequence number zero names no entry: it carries the order time ([`Dep::order`]) or what a message answers
    /// ([`Dep::reply`]).
    pub deps: Vec<Dep>,
    /// BLAKE3 hash of the body's bytes.
    pub body_hash: [u8; 32],
    /// Length of the body in bytes.
    pub body_bytes: u32,
}

/// Labels beyond this (in the year 6429) are taken for it in the order, so that no clock uses up the times.
pub(crate) const ORDER_LABEL_MAX: Hlc = Hlc(1 << 63);

impl Header {
    /// The time by which the entry is ordered; `before` is that of the entry before it in its log.
    pub fn order_after(&self, before: Option<Hlc>) -> Hlc {
        let carries = |dep: &&Dep| dep.seq == Seq::ZERO && dep.log.author == self.log.author;
        let carried = self.deps.iter().find(carries).map(|dep| Hlc(dep.log.incarnation.0));
        let label = self.time.min(ORDER_LABEL_MAX);
        [carried, before.map(Hlc::next)].into_iter().flatten().fold(label, Hlc::max)
    }
}

/// Content of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// 1 to [`ENTRY_MESSAGES_MAX`] messages.
    Messages(Vec<MessageBody>),
    /// A change of the membership, or keys.
    Control(Control),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageBody {
    /// To the whole room.
    Text(String),
    /// To the recipients of the boxes only.
    Sealed(Vec<SealedBox>),
}

/// A direct message as its recipient can open it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedBox {
    /// The recipient.
    pub to: PeerId,
    /// Olm message type: 0 opens a session, 1 continues one.
    pub kind: u8,
    /// Ciphertext that only the recipient can decrypt.
    pub ciphertext: Vec<u8>,
}

/// A control item: changes the membership or publishes keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// The first entry of the room: its author is the founder.
    Genesis {
        /// The room's name.
        room_name: String,
        /// Whether every knock is admitted.
        open: bool,
        /// The founder's name.
        name: String,
        /// Random, so that two rooms founded alike differ.
        nonce: [u8; 16],
    },
    /// Peers that hold the one-time key may join.
    Invite {
        /// Public half of the one-time key.
        key: InviteId,
        /// End of its validity.
        expires: Timestamp,
        /// Maximum number of admissions.
        uses: u32,
    },
    /// The invite ends.
    Revoke {
        /// Public half of its key.
        key: InviteId,
    },
    /// A peer is admitted.
    Admit {
        /// Who.
        peer: PeerId,
        /// Its name.
        name: String,
        /// The right by which it is admitted.
        by: AdmitBy,
    },
    /// A peer is removed.
    Remove {
        /// Who.
        peer: PeerId,
        /// The last valid entry of each of its logs.
        cuts: Vec<Dep>,
    },
    /// The author changes its name.
    Rename {
        /// The new name.
        name: String,
    },
    /// A member's admin right is granted or revoked.
    Role {
        /// Who.
        peer: PeerId,
        /// Whether it may remove members and grant roles.
        admin: bool,
    },
    /// The author leaves.
    Leave,
    /// Keys with which direct messages to the author are sealed.
    Keys {
        /// Curve25519 identity key.
        identity: [u8; 32],
        /// Curve25519 key that opens a session while the author is away.
        fallback: [u8; 32],
    },
}

/// The right by which a peer is admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdmitBy {
    /// A member admitted it, or the room is open.
    Member,
    /// The newcomer showed a ticket.
    Invite {
        /// Public half of the ticket's key.
        key: InviteId,
        /// That key's signature over room, newcomer and name ([`crate::admission::codec::ticket_request`]).
        signature: SignatureBytes,
    },
}

/// An entry as it travels and is stored: not verified yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedEntry {
    /// Postcard bytes of the [`Header`].
    pub header: Vec<u8>,
    /// The author's signature over them.
    pub signature: SignatureBytes,
    /// Postcard bytes of the [`Body`]; none where it was dropped.
    pub body: Option<Vec<u8>>,
}

impl SignedEntry {
    /// Length in bytes, limited by [`ENTRY_BYTES_MAX`].
    pub fn len_bytes(&self) -> usize {
        self.header.len() + self.body.as_ref().map_or(0, Vec::len)
    }
}

/// An entry whose signature, hashes and bounds are valid. Whether its author was entitled to write it is checked
/// elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    header: Header,
    hash: EntryHash,
    /// The log that it is filed in.
    log: LogId,
    body: Option<Body>,
    signed: SignedEntry,
}

/// Why bytes are not a valid entry of the room. The sender is at fault; the same bytes will fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Header or body cannot be read.
    #[error("entry cannot be decoded")]
    Malformed,
    /// Beyond [`ENTRY_BYTES_MAX`], [`ENTRY_DEPS_MAX`] or [`ENTRY_MESSAGES_MAX`], or a text or name out of bounds.
    #[error("entry is out of bounds")]
    OutOfBounds,
    /// Of another room.
    #[error("entry is of another room")]
    OtherRoom,
    /// Signature or key is invalid.
    #[error("signature of the entry is invalid")]
    Signature,
    /// The body is not the one that was signed.
    #[error("body of the entry is not the one that was signed")]
    BodyHash,
    /// Sequence number and backlink contradict each other.
    #[error("sequence number and backlink of the entry contradict each other")]
    Chain,
}

impl Entry {
    /// Writes and signs an entry.
    ///
    /// # Errors
    /// [`EntryError::OutOfBounds`] when it is too large.
    pub fn sign(mut header: Header, body: Body, key: &SigningKey) -> Result<Self, EntryError> {
        let body_raw = encode_body(&body).map_err(|_| EntryError::Malformed)?;
        header.version = VERSION;
        header.body_hash = *blake3::hash(&body_raw).as_bytes();
        header.body_bytes = u32::try_from(body_raw.len()).map_err(|_| EntryError::OutOfBounds)?;
        let mut header_raw = postcard::to_stdvec(&header).map_err(|_| EntryError::Malformed)?;
        if matches!(body, Body::Messages(_)) {
            mark_messages(&mut header_raw);
        }
        let signature = signature::sign(key, SIGN_CONTEXT, &header_raw);
        let hash = hash_header(&header_raw);
        let signed = SignedEntry { header: header_raw, signature, body: Some(body_raw) };
        check_bounds(&header, Some(&body), &signed)?;
        Ok(Self { log: header.log, header, hash, body: Some(body), signed })
    }

    /// Verifies an entry of `room` that came from outside.
    ///
    /// # Errors
    /// The first check that failed; nothing is changed.
    pub fn verify(signed: SignedEntry, room: &RoomId) -> Result<Self, EntryError> {
        let entry = Self::from_trusted(signed)?;
        let header = &entry.header;
        let own_room = if entry.is_genesis() { entry.hash.as_bytes() == room.as_bytes() } else { header.room == *room };
        if !own_room {
            return Err(EntryError::OtherRoom);
        }
        if !entry.is_signed() {
            return Err(EntryError::Signature);
        }
        Ok(entry)
    }

    /// Whether the signature is the author's, which [`Entry::from_trusted`] does not check.
    pub fn is_signed(&self) -> bool {
        let author = self.header.log.author.as_bytes();
        signature::holds(author, SIGN_CONTEXT, &self.signed.header, self.signed.signature)
    }

    /// Reads an entry that this peer verified before and took from its own disk: everything but the signature is
    /// checked.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn from_trusted(signed: SignedEntry) -> Result<Self, EntryError> {
        if signed.len_bytes() > ENTRY_BYTES_MAX {
            return Err(EntryError::OutOfBounds);
        }
        let header: Header = decode(&signed.header)?;
        if header.version != VERSION {
            return Err(EntryError::Malformed);
        }
        if (header.seq == Seq(1)) != header.backlink.is_none() || header.seq == Seq::ZERO {
            return Err(EntryError::Chain);
        }
        let body = match &signed.body {
            None => None,
            Some(raw) => {
                let length_holds = u32::try_from(raw.len()) == Ok(header.body_bytes);
                if !length_holds || blake3::hash(raw).as_bytes() != &header.body_hash {
                    return Err(EntryError::BodyHash);
                }
                Some(decode(raw)?)
            }
        };
        check_bounds(&header, body.as_ref(), &signed)?;
        let body = body.filter(|body| matches!(body, Body::Messages(_)) || !is_marked(&signed.header));
        let hash = hash_header(&signed.header);
        Ok(Self { log: header.log, header, hash, body, signed })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The hash of the header: the entry's name.
    pub fn hash(&self) -> EntryHash {
        self.hash
    }

    /// The log that it is filed in: the one that its header names, or a branch of it ([`crate::log::forks`]).
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The same entry, filed in a branch of the log that its header names.
    #[must_use]
    pub fn filed_in(self, log: LogId) -> Self {
        Self { log, ..self }
    }

    /// Whether it is the first entry of its log.
    pub fn begins(&self) -> bool {
        let first_of_branch = || self.log == LogId::branch(self.author(), &self.hash);
        self.header.seq == Seq(1) || (self.log != self.header.log && first_of_branch())
    }

    /// Its sequence number.
    pub fn seq(&self) -> Seq {
        self.header.seq
    }

    /// Its author.
    pub fn author(&self) -> PeerId {
        self.header.log.author
    }

    /// Its content; none where the body is not there, or is not of the kind that the header says.
    pub fn body(&self) -> Option<&Body> {
        self.body.as_ref()
    }

    /// The control item it carries, if it is one.
    pub fn control(&self) -> Option<&Control> {
        match self.body.as_ref()? {
            Body::Control(control) => Some(control),
            Body::Messages(_) => None,
        }
    }

    /// The messages it carries.
    pub fn messages(&self) -> &[MessageBody] {
        match self.body.as_ref() {
            Some(Body::Messages(messages)) => messages,
            Some(Body::Control(_)) | None => &[],
        }
    }

    /// The message that the one with this index answers, where that is not sealed with the text. Anyone can name any
    /// message: it may be unknown here.
    pub fn reply_to(&self, index: usize) -> Option<MessageId> {
        let author = self.author();
        let replies = self.header.deps.iter().filter_map(|dep| dep.as_reply(author));
        replies.into_iter().find(|(of, _)| *of == index).map(|(_, answered)| answered)
    }

    /// The bytes as they travel.
    pub fn signed(&self) -> &SignedEntry {
        &self.signed
    }

    /// Whether this is the first entry of a room.
    pub fn is_genesis(&self) -> bool {
        self.header.room.as_bytes() == &[0; 32]
    }
}

fn decode<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Result<T, EntryError> {
    match postcard::take_from_bytes(raw) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(EntryError::Malformed),
    }
}

pub(crate) fn hash_header(raw: &[u8]) -> EntryHash {
    EntryHash::from_bytes(blake3::derive_key(HASH_CONTEXT, raw))
}

#[cfg(test)]
mod tests;
