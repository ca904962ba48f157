//! What one source of settings says, unchecked, and which source wins.

use std::fmt;
use std::path::PathBuf;

/// What one source says, unchecked.
#[derive(Debug, Default)]
pub(crate) struct SettingsLayer {
    pub(crate) name: Option<Setting<String>>,
    pub(crate) room: Option<Setting<String>>,
    pub(crate) open: Option<Setting<bool>>,
    pub(crate) listen: Option<Setting<String>>,
    pub(crate) api: Option<Setting<String>>,
    pub(crate) tcp: Option<Setting<bool>>,
    pub(crate) mdns: Option<Setting<bool>>,
    pub(crate) log: Option<Setting<String>>,
}

/// A value and who said it.
#[derive(Clone, Debug)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Who said it.
    pub(crate) source: SettingSource,
}

/// Who says a value; printed in front of what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SettingSource {
    /// A flag.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A line of `config.toml`, from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The key.
        key: &'static str,
    },
}

impl SettingsLayer {
    /// What this layer says, and the lower one where it says nothing.
    pub(crate) fn over(self, lower: Self) -> Self {
        Self {
            name: self.name.or(lower.name),
            room: self.room.or(lower.room),
            open: self.open.or(lower.open),
            listen: self.listen.or(lower.listen),
            api: self.api.or(lower.api),
            tcp: self.tcp.or(lower.tcp),
            mdns: self.mdns.or(lower.mdns),
            log: self.log.or(lower.log),
        }
    }
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
        }
    }
}
