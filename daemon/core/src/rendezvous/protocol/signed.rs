//! Signed statements of the role: claims, successions, reports. They pass through other peers and stay as they were signed.

use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::log::signature::{self, SignatureBytes};
use crate::rendezvous::events::RoleFault;
use crate::rendezvous::settings::ROLE_FRAME_BYTES_MAX;

/// Something that a member states with its signature.
pub(crate) trait Statement: Serialize + DeserializeOwned {
    /// What is signed begins with this, so that no other signature of the key can be taken for one.
    const CONTEXT: &'static [u8];

    /// The room it is about.
    fn room(&self) -> &RoomId;

    /// The peer that states it.
    fn author(&self) -> &PeerId;

    /// Whether its lists keep their bounds.
    fn fits(&self) -> bool;
}

/// A statement as it travels: not verified yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct SignedBytes {
    statement: Vec<u8>,
    signature: SignatureBytes,
}

/// A statement that was read but not verified: for cheap checks only.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    value: T,
    raw: SignedBytes,
}

/// A statement with a valid signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed<T> {
    value: T,
    raw: SignedBytes,
}

impl<T: Statement> Signed<T> {
    /// Signs a statement of this peer.
    pub(crate) fn sign(value: T, key: &SigningKey) -> Self {
        let statement =
            postcard::to_stdvec(&value).expect("statements of the role have no type that cannot be encoded");
        let signature = signature::sign(key, T::CONTEXT, &statement);
        Self { value, raw: SignedBytes { statement, signature } }
    }

    pub(crate) fn value(&self) -> &T {
        &self.value
    }

    pub(crate) fn raw(&self) -> &SignedBytes {
        &self.raw
    }
}

impl SignedBytes {
    /// Reads a statement about `room` without verifying its signature.
    pub(crate) fn open<T: Statement>(self, room: &RoomId) -> Result<Opened<T>, RoleFault> {
        if self.statement.len() > ROLE_FRAME_BYTES_MAX {
            return Err(RoleFault::TooLong);
        }
        let value = match postcard::take_from_bytes::<T>(&self.statement) {
            Ok((value, [])) => value,
            Ok(_) | Err(_) => return Err(RoleFault::Malformed),
        };
        if value.room() != room {
            return Err(RoleFault::OtherRoom);
        }
        if !value.fits() {
            return Err(RoleFault::Malformed);
        }
        Ok(Opened { value, raw: self })
    }
}

impl<T: Statement> Opened<T> {
    pub(crate) fn value(&self) -> &T {
        &self.value
    }

    pub(crate) fn raw(&self) -> &SignedBytes {
        &self.raw
    }

    /// Verifies the signature, strictly: weak keys and mangled signatures are refused.
    pub(crate) fn verify(self) -> Result<Signed<T>, RoleFault> {
        let author = self.value.author().as_bytes();
        if !signature::holds(author, T::CONTEXT, &self.raw.statement, self.raw.signature) {
            return Err(RoleFault::Signature);
        }
        Ok(Signed { value: self.value, raw: self.raw })
    }
}
