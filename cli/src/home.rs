//! Finds the daemon: the home directory that is meant, its run directory, or the URL that the environment names.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use hyper::Uri;
use hyper::header::HeaderValue;

/// Where the daemon is to be reached.
#[derive(Clone)]
pub(crate) enum Target {
    /// Through the files in the run directory of a home.
    Home {
        /// Directory with `chatd.sock`, `api.json` and `token`.
        run: PathBuf,
        /// The command that starts a daemon there.
        start: String,
    },
    /// Over TCP, as `CHATD_URL` and `CHATD_TOKEN` say.
    Url {
        /// `HOST:PORT`.
        authority: String,
        /// The `Authorization` header, where a token was given.
        bearer: Option<HeaderValue>,
    },
}

/// Why it is not known where the daemon would be. Nothing was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HomeError {
    /// `CHATD_URL` is not a URL of the local API.
    #[error("CHATD_URL is '{0}': write it like http://127.0.0.1:24284, as 'chatd env' prints it")]
    Url(String),
    /// `CHATD_TOKEN` holds what no header can carry.
    #[error("CHATD_TOKEN holds characters that no token has: copy it from 'chatd env'")]
    Token,
    /// Neither `XDG_DATA_HOME` nor `HOME` is set.
    #[error("no home directory is known: set HOME, or say --home DIR")]
    NoHome,
}

impl Target {
    /// Where the daemon is: `--home`, else `CHATD_URL`, else `CHATD_HOME`, else the default home.
    ///
    /// # Errors
    /// When the environment names a place that cannot be.
    pub(crate) fn locate(flag: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HomeError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(home) = flag {
            let start = format!("chatd start --home {}", home.display());
            return Ok(Self::Home { run: home.join("run"), start });
        }
        let start = "chatd start".to_owned();
        if let Some(url) = variable("CHATD_URL") {
            return Self::from_url(&url.to_string_lossy(), variable("CHATD_TOKEN"));
        }
        if let Some(home) = variable("CHATD_HOME") {
            return Ok(Self::Home { run: Path::new(&home).join("run"), start });
        }
        // The base directory specification has relative paths ignored.
        let directory = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(run) = directory("XDG_RUNTIME_DIR") {
            return Ok(Self::Home { run: run.join("chatd"), start });
        }
        let data = match directory("XDG_DATA_HOME") {
            Some(data) => data,
            None => variable("HOME").map(PathBuf::from).ok_or(HomeError::NoHome)?.join(".local/share"),
        };
        Ok(Self::Home { run: data.join("chatd/run"), start })
    }

    fn from_url(url: &str, token: Option<OsString>) -> Result<Self, HomeError> {
        let refused = || HomeError::Url(url.chars().filter(|c| !c.is_control()).take(80).collect());
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let authority = uri.authority().filter(|authority| authority.port().is_some()).ok_or_else(refused)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
        if uri.scheme_str() != Some("http") || !bare {
            return Err(refused());
        }
        let bearer = token.map(|token| bearer(&token.to_string_lossy())).transpose()?;
        Ok(Self::Url { authority: authority.to_string(), bearer })
    }
}

/// The `Authorization` header for a token; hidden in `Debug`.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, HomeError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| HomeError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The place in words, for errors.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home { run, .. } => write!(f, "{}", run.display()),
            Self::Url { authority, .. } => write!(f, "http://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests;
