//! Where the files of a daemon are: its home and its run directory; and which daemon a program is to talk to.
//!
//! These rules exist once, for the daemon that makes the files and for the clients that look for them. Nothing is created
//! here. The home is enough to find its daemon: the run directory of the default home depends on `XDG_RUNTIME_DIR`, which
//! cron, ssh, sudo and git hooks do not set, so [`Home::follow`] reads from the home which one the daemon uses.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;

/// Maximum bytes read of a lock file; a valid one has about 100.
const LOCK_BYTES_MAX: u64 = 1024;

/// A variable of the environment; `HOME` and `USER` come from the account where they are unset or empty.
pub fn environment(name: &str) -> Option<OsString> {
    let set = std::env::var_os(name).filter(|value| !value.is_empty());
    let account = || User::from_uid(geteuid()).ok().flatten();
    set.or_else(|| match name {
        "HOME" => account().map(|user| user.dir.into()),
        "USER" => account().map(|user| user.name.into()),
        _ => None,
    })
}

/// The directories of one daemon, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    run: PathBuf,
    given: Given,
}

/// How the home was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// With `--home`.
    Flag,
    /// With `CHATD_HOME`.
    Variable,
    /// By default.
    Default,
}

/// Why it is not known where the daemon is. Nothing was tried.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// Neither `XDG_DATA_HOME` nor `HOME` is set.
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
    /// `CHATD_URL` is not a URL of the local API.
    #[error("CHATD_URL is '{0}': write it like http://127.0.0.1:24284, as 'chatd env' prints it")]
    Url(String),
    /// `CHATD_TOKEN` holds what no header can carry.
    #[error("CHATD_TOKEN has characters that a token cannot have: copy it from 'chatd env'")]
    Token,
}

impl Home {
    /// The home that is selected: `--home`, else `CHATD_HOME`, else `chatd` in the user's data directory, as the XDG base
    /// directory specification has it.
    ///
    /// # Errors
    /// When the environment does not say where it would be.
    pub fn locate(flag: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, LocateError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let flag = flag.map(|path| (path.to_owned(), Given::Flag));
        if let Some((path, given)) = flag.or_else(|| Some((variable("CHATD_HOME")?.into(), Given::Variable))) {
            let root = std::path::absolute(&path).map_err(|source| LocateError::Relative { path, source })?;
            return Ok(Self { run: root.join("run"), root, given });
        }
        // The specification has relative paths ignored.
        let directory = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = directory("XDG_DATA_HOME").or_else(|| Some(directory("HOME")?.join(".local/share")));
        let root = data.ok_or(LocateError::Unknown)?.join("chatd");
        let run = directory("XDG_RUNTIME_DIR").map_or_else(|| root.join("run"), |run| run.join("chatd"));
        Ok(Self { root, run, given: Given::Default })
    }

    /// The same home with another run directory.
    #[must_use]
    pub fn with_run(self, run: PathBuf) -> Self {
        Self { run, ..self }
    }

    /// The same home with the run directory of the daemon that uses it, if one does; its lock file names that.
    #[must_use]
    pub fn follow(self) -> Self {
        #[derive(Deserialize)]
        struct Holder {
            run: PathBuf,
        }
        let mut text = Vec::new();
        let Ok(mut lock) = File::open(self.lock()) else { return self };
        let read = lock.by_ref().take(LOCK_BYTES_MAX).read_to_end(&mut text);
        match read.ok().and_then(|_| serde_json::from_slice::<Holder>(&text).ok()) {
            // A copy of a home has a lock file as well, which no daemon holds. The lock is tried only where that matters:
            // for this moment no daemon can take it.
            Some(holder) if holder.run != self.run => match lock.try_lock_shared() {
                Err(TryLockError::WouldBlock) => self.with_run(holder.run),
                Ok(()) | Err(TryLockError::Error(_)) => self,
            },
            Some(_) | None => self,
        }
    }

    /// The home itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of what matters while the daemon runs.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The peer's secret key.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// The room's database.
    pub fn database(&self) -> PathBuf {
        self.root.join("room.db")
    }

    /// The settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.root.join("chatd.log")
    }

    /// Held by the daemon that uses this home; names its run directory.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Held by the daemon that uses this run directory.
    pub fn run_lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// The API's socket, unless its path is too long for one; `api.json` then says where else it is.
    pub fn socket(&self) -> PathBuf {
        self.run.join("chatd.sock")
    }

    /// `api.json`: how to reach the daemon, written once its API answers.
    pub fn api_file(&self) -> PathBuf {
        self.run.join("api.json")
    }

    /// The token of the API on TCP.
    pub fn token(&self) -> PathBuf {
        self.run.join("token")
    }

    /// `tokens.json`: the named tokens of the API on TCP, as hashes.
    pub fn tokens_file(&self) -> PathBuf {
        self.root.join("tokens.json")
    }

    /// `command` as it reaches this home from the same shell.
    pub fn command(&self, command: &str) -> String {
        match self.flag() {
            None => command.to_owned(),
            Some(root) => format!("{command} --home {}", quote(&root.to_string_lossy())),
        }
    }

    /// Whether this is the home of a process that is given none.
    pub fn is_default(&self) -> bool {
        self.given == Given::Default
    }

    /// What `--home` has to be so that a process with the same environment finds this home.
    pub fn flag(&self) -> Option<&Path> {
        match self.given {
            Given::Flag => Some(&self.root),
            Given::Variable | Given::Default => None,
        }
    }
}

/// Where the API of a daemon is.
#[derive(Clone, Debug)]
pub enum DaemonAddr {
    /// Found through the files in the run directory of a home.
    Home(Home),
    /// On TCP.
    Tcp {
        /// `http://HOST:PORT`.
        url: Url,
        /// The `Authorization` header, where a token was given; its value is hidden in `Debug`.
        bearer: Option<HeaderValue>,
    },
}

impl DaemonAddr {
    /// The daemon that is selected: `--home`, else `CHATD_URL` with `CHATD_TOKEN`, else `CHATD_HOME`, else the default home.
    ///
    /// # Errors
    /// When the environment names no place, or one that cannot be.
    pub fn locate(flag: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, LocateError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        match (flag, set("CHATD_URL")) {
            (None, Some(url)) => {
                let token = set("CHATD_TOKEN").map(|token| token.to_string_lossy().into_owned());
                Self::tcp(&url.to_string_lossy(), token.as_deref())
            }
            (Some(_), _) | (None, None) => Home::locate(flag, variable).map(Self::Home),
        }
    }

    /// The API at `http://HOST:PORT`, with its token.
    ///
    /// # Errors
    /// When the URL or the token cannot be one.
    pub fn tcp(url: &str, token: Option<&str>) -> Result<Self, LocateError> {
        let refused = || LocateError::Url(url.chars().filter(|c| !c.is_control()).take(80).collect());
        let authority = url.strip_prefix("http://").ok_or_else(refused)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let bare = !authority.contains(['/', '?', '#', '@', '\\']) && !authority.contains(char::is_control);
        let parsed = Url::parse(url).ok().filter(|parsed| bare && port.is_some() && parsed.has_host());
        let bearer = token.map(bearer).transpose()?;
        Ok(Self::Tcp { url: parsed.ok_or_else(refused)?, bearer })
    }

    /// `command` as it reaches this daemon's home from the same shell, where it is known.
    pub fn command(&self, command: &str) -> Option<String> {
        match self {
            Self::Home(home) => Some(home.command(command)),
            Self::Tcp { .. } => None,
        }
    }
}

/// The place in words, for errors.
impl fmt::Display for DaemonAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home(home) => write!(f, "{}", home.run().display()),
            Self::Tcp { url, .. } => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

/// The `Authorization` header for a token; hidden in `Debug`.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, LocateError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| LocateError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A word as a POSIX shell reads it; words of harmless characters stay bare.
pub fn quote(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
