//! Accounts and sessions at rest: encrypted under a key derived from the identity, each with its own salt.

use vodozemac::PickleError;
use vodozemac::olm::{Account, AccountPickle, Session, SessionPickle};

use crate::store::types::Secret;

/// Encrypted state and its salt.
pub(super) struct Pickled {
    pub(super) salt: [u8; 16],
    pub(super) pickle: String,
}

impl Pickled {
    pub(super) fn account(account: &Account, secret: &Secret) -> Self {
        let salt = rand::random();
        Self { salt, pickle: account.pickle().encrypt(&key(secret, &salt)) }
    }

    pub(super) fn session(session: &Session, secret: &Secret) -> Self {
        let salt = rand::random();
        Self { salt, pickle: session.pickle().encrypt(&key(secret, &salt)) }
    }

    pub(super) fn to_account(&self, secret: &Secret) -> Result<Account, PickleError> {
        AccountPickle::from_encrypted(&self.pickle, &key(secret, &self.salt)).map(Account::from_pickle)
    }

    pub(super) fn to_session(&self, secret: &Secret) -> Result<Session, PickleError> {
        SessionPickle::from_encrypted(&self.pickle, &key(secret, &self.salt)).map(Session::from_pickle)
    }
}

/// The initialisation vector of a pickle is derived from the key: the salt makes both different each time.
fn key(secret: &Secret, salt: &[u8; 16]) -> [u8; 32] {
    blake3::derive_key("chatd 2026 olm pickle v1", &[&secret.0[..], salt].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickle_is_decrypted_only_with_its_secret() {
        let account = Account::new();
        let pickled = Pickled::account(&account, &Secret([1; 32]));
        let read = pickled.to_account(&Secret([1; 32])).expect("the same secret");
        assert_eq!(read.curve25519_key(), account.curve25519_key());
        assert!(pickled.to_account(&Secret([2; 32])).is_err());
        assert_ne!(Pickled::account(&account, &Secret([1; 32])).pickle, pickled.pickle);
    }
}
