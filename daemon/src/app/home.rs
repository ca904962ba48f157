//! The directories of a daemon: the home, and the run directory.
//!
//! The **home** keeps what lasts: `identity.key`, `room.db`, `config.toml`, `chatd.log`, `lock`, and what the home
//! remembers about rooms beside the database ([`room_memory`]) and about tokens ([`token_files`]). The **run directory**
//! keeps what exists while a daemon runs: its socket, `api.json` (how to reach it), `token`, and a second `lock`. It is
//! `run/` in the home; for the default home it is `$XDG_RUNTIME_DIR/chatd` where that is set, and the home's lock file then
//! names it, so that a command in any environment finds it ([`Home::follow`]).
//!
//! Invariants: both are this user's, the run directory has mode 0700, the home is not writable by others, files are 0600
//! ([`private_file`]); one daemon holds a home at a time ([`lock`], [`acquire_home`]). A home that violates this is
//! refused, not repaired, except that the run directory, which is chatd's own, is made private again.
//!
//! Every command locates a home (`chat_client::Home` has the paths); only `chatd start` creates it.

pub(crate) mod acquire_home;
pub(crate) mod identity;
pub(crate) mod lock;
pub(crate) mod room_memory;
pub(crate) mod token_files;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::private_file;

pub(crate) use chat_client::Home;

/// Maximum length of a Unix socket's path, in bytes: `sun_path` holds 104 with the closing zero on macOS, 108 on Linux.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Why a home cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    /// A directory cannot be created or inspected.
    #[error("cannot use the directory {path}: give --home with one that you can write to")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another user owns a directory.
    #[error("{path} belongs to another user: give --home with a directory of your own")]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// Other users may write to the home and could replace the key.
    #[error(
        "other users may write to {path} (mode {mode:04o}): run 'chmod go-w {path}', or give --home with another directory"
    )]
    Writable {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Creates the directories, private to this user, and checks existing ones.
///
/// # Errors
/// When they cannot be created, or other users could change their contents.
pub(crate) fn prepare(home: &Home) -> Result<(), HomeError> {
    for path in [home.root(), home.run()] {
        private_file::create_directory(path)
            .map_err(|source| HomeError::Directory { path: path.to_owned(), source })?;
    }
    let mode = own(home.root())?;
    if mode & 0o022 != 0 {
        return Err(HomeError::Writable { path: home.root().to_owned(), mode });
    }
    make_private(home.run())
}

/// The API's socket: in the run directory or, where that path is too long for a socket, in a short directory of
/// this user's that is created for it. `api.json` names it.
///
/// # Errors
/// When the short directory cannot be created, or belongs to another user.
pub(crate) fn prepare_socket(home: &Home) -> Result<PathBuf, HomeError> {
    let path = home.socket();
    if path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok(path);
    }
    let hash = blake3::hash(home.root().as_os_str().as_bytes()).to_hex();
    let short = PathBuf::from(format!("/tmp/chatd-{}-{}", rustix::process::getuid().as_raw(), &hash[..16]));
    private_file::create_directory(&short).map_err(|source| HomeError::Directory { path: short.clone(), source })?;
    make_private(&short)?;
    Ok(short.join("chatd.sock"))
}

/// The permissions of a directory of this user.
fn own(path: &Path) -> Result<u32, HomeError> {
    let found = fs::metadata(path).map_err(|source| HomeError::Directory { path: path.to_owned(), source })?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(HomeError::Foreign { path: path.to_owned() });
    }
    Ok(found.permissions().mode() & 0o7777)
}

/// Makes a directory of chatd's own private; a symbolic link is refused.
fn make_private(path: &Path) -> Result<(), HomeError> {
    let fail = |source| HomeError::Directory { path: path.to_owned(), source };
    let found = fs::symlink_metadata(path).map_err(fail)?;
    if !found.is_dir() {
        return Err(fail(io::ErrorKind::NotADirectory.into()));
    }
    if own(path)? != private_file::DIRECTORY_MODE {
        fs::set_permissions(path, Permissions::from_mode(private_file::DIRECTORY_MODE)).map_err(fail)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
