//! Reads `config.toml`: every key is optional, unknown keys are refused, each value keeps its line for errors.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use chat_client::chat_settings::ChatSettings;
use chat_core::config::BudgetSettings;
use serde::Deserialize;
use toml::Spanned;

use crate::app::settings::layer::{Setting, SettingSource, SettingsLayer};

/// Maximum size of `config.toml`, in bytes (64 KiB); one with every key has under a kilobyte.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Every key, for errors to which the TOML parser attaches none.
const KEYS: [&str; 15] = [
    "name",
    "room",
    "open",
    "listen",
    "api",
    "tcp",
    "mdns",
    "retention_days",
    "log",
    "mib",
    "entries",
    "control_entries",
    "admissions",
    "forks",
    "logs",
];

/// The keys of `config.toml`. [`DaemonSettings`](crate::app::settings::DaemonSettings) documents them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    name: Option<Spanned<String>>,
    room: Option<Spanned<String>>,
    open: Option<Spanned<bool>>,
    listen: Option<Spanned<String>>,
    api: Option<Spanned<String>>,
    tcp: Option<Spanned<bool>>,
    mdns: Option<Spanned<bool>>,
    retention_days: Option<Spanned<i64>>,
    log: Option<Spanned<String>>,
    budget: Option<BudgetTable>,
    /// Settings of `chat`, which are checked here so that a mistake is found early.
    #[serde(rename = "chat")]
    _chat: Option<ChatSettings>,
}

/// What one member may write in a day before more of it is taken slowly ([`BudgetSettings`]).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetTable {
    mib: Option<NonZeroU32>,
    entries: Option<NonZeroU32>,
    control_entries: Option<NonZeroU32>,
    admissions: Option<NonZeroU32>,
    forks: Option<NonZeroU32>,
    logs: Option<NonZeroU32>,
}

impl BudgetTable {
    fn settings(&self) -> BudgetSettings {
        let default = BudgetSettings::default();
        let or = |given: Option<NonZeroU32>, default| given.map_or(default, |given| u64::from(given.get()));
        BudgetSettings {
            bytes: self.mib.map_or(default.bytes, |mib| u64::from(mib.get()) * 1024 * 1024),
            entries: or(self.entries, default.entries),
            control_entries: or(self.control_entries, default.control_entries),
            admissions: or(self.admissions, default.admissions),
            forks: or(self.forks, default.forks),
            logs: or(self.logs, default.logs),
        }
    }
}

/// Why the file cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It exists and cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not text, or longer than [`FILE_BYTES_MAX`].
    #[error("{path} is not a text file with settings: rewrite or remove it")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// It is not TOML, or a key or the kind of its value is not known.
    #[error("{path}:{line}: {key}{message}", key = key_prefix(.key), message = one_line(.error.message()))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// The key on that line, where it is one of ours.
        key: Option<&'static str>,
        /// What is wrong, part of the message; boxed for its size.
        error: Box<toml::de::Error>,
    },
}

/// Reads the file; a missing one gives an empty layer.
///
/// # Errors
/// [`ConfigError`].
pub(crate) fn read(path: &Path) -> Result<SettingsLayer, ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SettingsLayer::default()),
        Err(error) => return Err(fail(error)),
    };
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(fail)?;
    match String::from_utf8(content) {
        Ok(text) if text.len() as u64 <= FILE_BYTES_MAX => parse(path, &text),
        Ok(_) | Err(_) => Err(ConfigError::NotText { path: path.to_owned() }),
    }
}

/// Reads the text of a file.
///
/// # Errors
/// [`ConfigError::Syntax`].
pub(super) fn parse(path: &Path, text: &str) -> Result<SettingsLayer, ConfigError> {
    let raw: ConfigFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line(text, span.start));
        ConfigError::Syntax { path: path.to_owned(), line, key: key_on(text, line), error: Box::new(error) }
    })?;
    let source = |key, start| SettingSource::File { path: path.to_owned(), line: line(text, start), key };
    Ok(SettingsLayer {
        name: setting(raw.name, |at| source("name", at)),
        room: setting(raw.room, |at| source("room", at)),
        open: setting(raw.open, |at| source("open", at)),
        listen: setting(raw.listen, |at| source("listen", at)),
        api: setting(raw.api, |at| source("api", at)),
        tcp: setting(raw.tcp, |at| source("tcp", at)),
        mdns: setting(raw.mdns, |at| source("mdns", at)),
        retention_days: setting(raw.retention_days, |at| source("retention_days", at))
            .map(|Setting { value, source }| Setting { value: value.to_string(), source }),
        log: setting(raw.log, |at| source("log", at)),
        budget: raw.budget.map(|table| table.settings()),
    })
}

fn setting<T>(value: Option<Spanned<T>>, source: impl Fn(usize) -> SettingSource) -> Option<Setting<T>> {
    value.map(|value| Setting { source: source(value.span().start), value: value.into_inner() })
}

fn line(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// The key that a line assigns.
fn key_on(text: &str, line: usize) -> Option<&'static str> {
    let word = text.lines().nth(line - 1)?.split('=').next()?.trim();
    KEYS.into_iter().find(|key| *key == word)
}

fn key_prefix(key: &Option<&'static str>) -> String {
    key.map_or_else(String::new, |key| format!("{key}: "))
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
