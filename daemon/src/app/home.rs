//! The directories of a daemon: the home, and the run directory.
//!
//! The **home** keeps what lasts: `identity.key`, `room.db`, `config.toml`, `chatd.log` and `lock`. The **run directory**
//! keeps what exists while a daemon runs: its socket, `api.json` (how to reach it), `token`, and a second `lock`. It is
//! `run/` in the home; for the default home it is `$XDG_RUNTIME_DIR/chatd` where that is set, and the home's lock file then
//! names it, so that a command in any environment finds it ([`lock::follow`]).
//!
//! Invariants: both are this user's, the run directory has mode 0700, the home is not writable by others, files are 0600
//! ([`private_file`]); one daemon holds a home at a time ([`lock`], [`acquire_home`]). A home that violates this is
//! refused, not repaired, except that the run directory, which is chatd's own, is made private again.
//!
//! Every command locates a home; only `chatd start` creates it.

pub(crate) mod acquire_home;
pub(crate) mod identity;
pub(crate) mod lock;
pub(crate) mod private_file;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Maximum length of a Unix socket's path, in bytes: `sun_path` holds 104 with the closing zero on macOS, 108 on Linux.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 103;

/// The directories of one daemon, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    root: PathBuf,
    run: PathBuf,
    given: Given,
}

/// How the home was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// With `--home`.
    Flag,
    /// With `CHATD_HOME`.
    Variable,
    /// By default.
    Default,
}

/// Why a home cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    /// The environment does not determine it.
    #[error("no home directory is known: set HOME, or give --home DIR")]
    Unknown,
    /// The path of the home cannot be made absolute.
    #[error("the home {path} cannot be found: give --home with an absolute path")]
    Relative {
        /// As it was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
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

impl Home {
    /// Locates the home: `--home`, else `CHATD_HOME`, else `chatd` in the user's data directory (XDG Base Directory
    /// Specification). Creates nothing.
    ///
    /// # Errors
    /// When the environment does not determine it.
    pub(crate) fn locate(flag: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HomeError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let flag = flag.map(|path| (path.to_owned(), Given::Flag));
        if let Some((path, given)) = flag.or_else(|| Some((variable("CHATD_HOME")?.into(), Given::Variable))) {
            let root = std::path::absolute(&path).map_err(|source| HomeError::Relative { path, source })?;
            return Ok(Self { run: root.join("run"), root, given });
        }
        // The specification ignores relative paths.
        let directory = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = directory("XDG_DATA_HOME").or_else(|| Some(directory("HOME")?.join(".local/share")));
        let root = data.ok_or(HomeError::Unknown)?.join("chatd");
        let run = directory("XDG_RUNTIME_DIR").map_or_else(|| root.join("run"), |run| run.join("chatd"));
        Ok(Self { root, run, given: Given::Default })
    }

    /// The same home with another run directory.
    pub(crate) fn with_run(self, run: PathBuf) -> Self {
        Self { run, ..self }
    }

    /// Creates the directories, private to this user, and checks existing ones.
    ///
    /// # Errors
    /// When they cannot be created, or other users could change their contents.
    pub(crate) fn prepare(&self) -> Result<(), HomeError> {
        for path in [&self.root, &self.run] {
            private_file::create_directory(path)
                .map_err(|source| HomeError::Directory { path: path.clone(), source })?;
        }
        let mode = own(&self.root)?;
        if mode & 0o022 != 0 {
            return Err(HomeError::Writable { path: self.root.clone(), mode });
        }
        make_private(&self.run)
    }

    /// The home itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The run directory.
    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    /// The peer's secret key.
    pub(crate) fn identity(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// The room's database.
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("room.db")
    }

    /// The settings.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The log.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("chatd.log")
    }

    /// Held by the daemon that uses this home.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Held by the daemon that uses this run directory.
    pub(crate) fn run_lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// How to reach the daemon.
    pub(crate) fn api_file(&self) -> PathBuf {
        self.run.join("api.json")
    }

    /// The token of the API on TCP.
    pub(crate) fn token(&self) -> PathBuf {
        self.run.join("token")
    }

    /// The API's socket: in the run directory or, where that path is too long for a socket, in a short directory of
    /// this user's that is created for it. `api.json` names it.
    ///
    /// # Errors
    /// When the short directory cannot be created, or belongs to another user.
    pub(crate) fn prepare_socket(&self) -> Result<PathBuf, HomeError> {
        let path = self.run.join("chatd.sock");
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(path);
        }
        let hash = blake3::hash(self.root.as_os_str().as_bytes()).to_hex();
        let short = PathBuf::from(format!("/tmp/chatd-{}-{}", rustix::process::getuid().as_raw(), &hash[..16]));
        private_file::create_directory(&short)
            .map_err(|source| HomeError::Directory { path: short.clone(), source })?;
        make_private(&short)?;
        Ok(short.join("chatd.sock"))
    }

    /// `command` as typed in the same shell to reach this home.
    pub(crate) fn command(&self, command: &str) -> String {
        match self.flag() {
            None => command.to_owned(),
            Some(root) => format!("{command} --home {}", quote(&root.to_string_lossy())),
        }
    }

    /// Whether this is the home of a command without `--home` and `CHATD_HOME`.
    pub(crate) fn is_default(&self) -> bool {
        self.given == Given::Default
    }

    /// The value of `--home` that a process with the same environment needs to find this home.
    pub(crate) fn flag(&self) -> Option<&Path> {
        match self.given {
            Given::Flag => Some(&self.root),
            Given::Variable | Given::Default => None,
        }
    }
}

/// Quotes a word for a POSIX shell; words of harmless characters stay bare.
pub(crate) fn quote(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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
