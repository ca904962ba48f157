//! The peer's key: an ed25519 seed in a file of its own.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ed25519_dalek::SigningKey;

use crate::private_file::{self, Lasting};

/// Maximum bytes read of an identity file; a valid one has 65.
const FILE_BYTES_MAX: u64 = 1024;

/// Why there is no key. Nothing was changed: the file is never replaced, since it may be the only copy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// Other users may read it.
    #[error("other users may read the key {path} (mode {mode:04o}): run 'chmod 600 {path}'")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It does not hold a key.
    #[error(
        "{path} does not hold a key (64 hexadecimal digits): restore it from a backup, or give --home with another directory to start as a new peer"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// It is gone, and the home holds a room that only this key can go on in.
    #[error(
        "the key {path} is missing, and the room in this home needs it: restore it from a backup, or give --home with another directory to start as a new peer"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read the key {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A new one cannot be written.
    #[error("cannot write the key {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whether a missing key may be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AbsentKey {
    /// It is: the home never was in a room.
    Create,
    /// It is an error: the home holds a room.
    Refuse,
}

/// Reads this peer's key, or creates one at the first start. The caller holds the home's lock.
///
/// # Errors
/// When it is missing and must not be created, other users may read the file, it does not hold a key, or the disk fails.
pub(crate) fn load_or_create(path: &Path, absent: AbsentKey) -> Result<SigningKey, IdentityError> {
    match File::open(path) {
        Ok(file) => load(path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match absent {
            AbsentKey::Create => create(path),
            AbsentKey::Refuse => Err(IdentityError::Missing { path: path.to_owned() }),
        },
        Err(source) => Err(IdentityError::Read { path: path.to_owned(), source }),
    }
}

fn load(path: &Path, file: File) -> Result<SigningKey, IdentityError> {
    let fail = |source| IdentityError::Read { path: path.to_owned(), source };
    let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Permissions { path: path.to_owned(), mode });
    }
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).map_err(fail)?;
    HEXLOWER_PERMISSIVE
        .decode(content.trim_ascii())
        .ok()
        .and_then(|seed| <[u8; 32]>::try_from(seed).ok())
        .map(|seed| SigningKey::from_bytes(&seed))
        .ok_or_else(|| IdentityError::Corrupt { path: path.to_owned() })
}

fn create(path: &Path) -> Result<SigningKey, IdentityError> {
    let seed: [u8; 32] = rand::random();
    let text = format!("{}\n", HEXLOWER.encode(&seed));
    private_file::write(path, text.as_bytes(), Lasting::Forever)
        .map_err(|source| IdentityError::Write { path: path.to_owned(), source })?;
    Ok(SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn key_is_created_once_and_private() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("identity.key");
        let first = load_or_create(&path, AbsentKey::Create).expect("created");
        assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path, AbsentKey::Create).expect("loaded").to_bytes(), first.to_bytes());
    }

    #[test]
    fn key_of_the_first_version_loads() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("identity.key");
        private_file::write(&path, include_bytes!("../../../fixtures/identity-v1.key"), Lasting::Forever)
            .expect("written");
        assert_eq!(load_or_create(&path, AbsentKey::Create).expect("loaded").to_bytes(), [7; 32]);
    }

    #[test]
    fn key_readable_by_others_is_refused_with_the_command_that_helps() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("identity.key");
        load_or_create(&path, AbsentKey::Create).expect("created");
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("own file");
            let text = load_or_create(&path, AbsentKey::Create).expect_err("readable by others").to_string();
            assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
        }
    }

    #[test]
    fn invalid_key_is_refused_and_kept() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("identity.key");
        for content in [&b""[..], b"12", &[0xFF; 32], &[b'0'; 63], &[b'0'; 66], &[b'a'; 5000]] {
            private_file::write(&path, content, Lasting::Forever).expect("written");
            let error = load_or_create(&path, AbsentKey::Create).expect_err("no key");
            assert!(matches!(error, IdentityError::Corrupt { .. }), "{error}");
            assert_eq!(fs::read(&path).expect("kept"), content);
        }
    }

    #[test]
    fn missing_key_of_a_home_with_a_room_is_not_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("identity.key");
        let error = load_or_create(&path, AbsentKey::Refuse).expect_err("missing");
        assert!(matches!(error, IdentityError::Missing { .. }), "{error}");
        assert!(!path.exists(), "nothing is written");
    }
}
