//! Ed25519 signatures over statements: entries, tickets, address records, and the statements of the rendezvous role.
//!
//! Each kind of statement has its own context, which is signed in front of it, so that a signature over one kind can
//! never be taken for a signature over another. Verification is strict: weak keys and malleable signatures are rejected.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// An ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureBytes([u8; 32], [u8; 32]);

impl From<Signature> for SignatureBytes {
    fn from(signature: Signature) -> Self {
        Self(*signature.r_bytes(), *signature.s_bytes())
    }
}

impl From<SignatureBytes> for Signature {
    fn from(bytes: SignatureBytes) -> Self {
        Self::from_components(bytes.0, bytes.1)
    }
}

impl SignatureBytes {
    /// The 64 bytes.
    pub fn to_bytes(self) -> [u8; 64] {
        Signature::from(self).to_bytes()
    }

    /// From 64 bytes.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        Signature::from_bytes(bytes).into()
    }
}

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignatureBytes(..)")
    }
}

/// Signs `statement` in `context`.
pub(crate) fn sign(key: &SigningKey, context: &[u8], statement: &[u8]) -> SignatureBytes {
    key.sign(&[context, statement].concat()).into()
}

/// Whether `key` signed `statement` in `context`.
pub(crate) fn holds(key: &[u8; 32], context: &[u8], statement: &[u8], signature: SignatureBytes) -> bool {
    let signed = [context, statement].concat();
    let verifies =
        || VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(&signed, &signature.into()).is_ok());
    #[cfg(test)]
    return verified::once(&[key, &signed, &signature.to_bytes()], verifies);
    #[cfg(not(test))]
    verifies()
}

/// What was verified before: the peers of a simulation verify the same entries, which took half of its time.
#[cfg(test)]
mod verified {
    use std::cell::RefCell;
    use std::collections::HashSet;

    /// Maximum number of statements that are remembered.
    const STATEMENTS_MAX: usize = 100_000;

    thread_local! {
        static VERIFIED: RefCell<HashSet<[u8; 32]>> = RefCell::default();
    }

    pub(super) fn once(parts: &[&[u8]], verifies: impl FnOnce() -> bool) -> bool {
        let mut digest = blake3::Hasher::new();
        for part in parts {
            digest.update(&part.len().to_le_bytes()).update(part);
        }
        let statement = *digest.finalize().as_bytes();
        VERIFIED.with_borrow_mut(|verified| {
            if verified.len() >= STATEMENTS_MAX {
                verified.clear();
            }
            verified.contains(&statement) || (verifies() && verified.insert(statement))
        })
    }
}
