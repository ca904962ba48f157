//! Identifiers: newtypes that are checked when parsed and display as the text they are parsed from.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::schema::text_schema;

/// Why a text is not an identifier. Nothing was changed; the same text will fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The text has the wrong length or characters.
    #[error("'{text}' is not a {kind}: expected {expected}")]
    Malformed {
        /// Name of the identifier.
        kind: &'static str,
        /// The expected form.
        expected: &'static str,
        /// The given text, shortened.
        text: String,
    },
}

impl ParseIdError {
    fn new(kind: &'static str, expected: &'static str, text: &str) -> Self {
        let text = text.chars().filter(|c| !c.is_control()).take(80).collect();
        Self::Malformed { kind, expected, text }
    }
}

macro_rules! bytes_id {
    ($name:ident, $kind:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes. Every value is accepted here; its meaning is checked where it is used.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first ten hexadecimal digits, for logs and spans.
            pub fn short(&self) -> String {
                HEXLOWER.encode(&self.0[..5])
            }
        }

        text_schema!($name, $doc, "pattern": "^[0-9a-f]{64}$");

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
                    .map(Self)
                    .ok_or_else(|| ParseIdError::new($kind, "64 hexadecimal digits", text))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_bytes(&self.0, self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

fn serialize_bytes<S: Serializer>(
    bytes: &[u8; 32],
    text: &impl fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() { serializer.collect_str(text) } else { bytes.serialize(serializer) }
}

bytes_id!(PeerId, "peer id", "A peer: its ed25519 public key, which is also its iroh `EndpointId`.");
bytes_id!(RoomId, "room id", "A room: the BLAKE3 hash of its first entry.");
bytes_id!(EntryHash, "entry hash", "A log entry: the BLAKE3 hash of its signed header.");
bytes_id!(InviteId, "invite id", "An invite: the public half of its one-time ed25519 key.");

impl PeerId {
    /// The short form that is shown next to a name, so that a look-alike name is visible.
    pub fn tag(&self) -> PeerTag {
        PeerTag(BASE32_NOPAD.encode(&self.0[..5]).to_ascii_lowercase())
    }
}

/// Short form of a peer's key: 8 characters of base 32 (40 bits). For display; never an identity by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerTag(String);

text_schema!(PeerTag, "Short form of a peer's key, for display.", "pattern": "^[a-z2-7]{8}$");

impl fmt::Display for PeerTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PeerTag {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let lower = text.to_ascii_lowercase();
        let valid = lower.len() == 8 && lower.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
        if valid { Ok(Self(lower)) } else { Err(ParseIdError::new("peer tag", "8 characters of base 32", text)) }
    }
}

impl TryFrom<String> for PeerTag {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<PeerTag> for String {
    fn from(tag: PeerTag) -> Self {
        tag.0
    }
}

/// A message: the entry that carries it and its index in that entry, written `<entry hash>.<index>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Entry that carries the message.
    pub entry: EntryHash,
    /// Index in the entry, from 0.
    pub index: u16,
}

text_schema!(MessageId, "A message, the same at every peer.", "pattern": r"^[0-9a-f]{64}\.(0|[1-9][0-9]*)$");

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.entry, self.index)
    }
}

impl FromStr for MessageId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let malformed = || ParseIdError::new("message id", "64 hexadecimal digits, a dot and a number", text);
        let (entry, index) = text.split_once('.').ok_or_else(malformed)?;
        let canonical = index == "0" || !index.starts_with(['0', '+']);
        let index = index.parse().ok().filter(|_| canonical).ok_or_else(malformed)?;
        Ok(Self { entry: entry.parse().map_err(|_| malformed())?, index })
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.entry, self.index).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            <(EntryHash, u16)>::deserialize(deserializer).map(|(entry, index)| Self { entry, index })
        }
    }
}

/// Number of a request to be admitted; unique in one run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct KnockId(pub u64);

impl fmt::Display for KnockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for KnockId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse().map(Self).map_err(|_| ParseIdError::new("knock id", "a number", text))
    }
}

/// Term of the rendezvous role: increases by one with every claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// The term that a claimant takes after this one. The maximum term is its own successor.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn id_displayed_parses_back(bytes: [u8; 32], index: u16) {
            let peer = PeerId::from_bytes(bytes);
            prop_assert_eq!(peer.to_string().parse::<PeerId>(), Ok(peer));
            prop_assert_eq!(peer.tag().to_string().parse::<PeerTag>(), Ok(peer.tag()));
            let message = MessageId { entry: EntryHash::from_bytes(bytes), index };
            prop_assert_eq!(message.to_string().parse::<MessageId>(), Ok(message));
            let json = serde_json::to_string(&message).expect("ids serialise");
            prop_assert_eq!(serde_json::from_str::<MessageId>(&json).expect("and back"), message);
        }

        #[test]
        fn arbitrary_text_parses_without_panic(text: String) {
            let _ = text.parse::<PeerId>();
            let _ = text.parse::<PeerTag>();
            let _ = text.parse::<MessageId>();
            let _ = text.parse::<KnockId>();
        }
    }

    #[test]
    fn message_id_with_a_noncanonical_index_is_rejected() {
        let entry = EntryHash::from_bytes([7; 32]);
        for index in ["00", "01", "+1", "", "65536"] {
            assert!(format!("{entry}.{index}").parse::<MessageId>().is_err(), "{index} must be rejected");
        }
        assert!(format!("{entry}.0").parse::<MessageId>().is_ok());
    }
}
