//! The unchecked settings of one source (flags, variables, file) and the precedence between sources.

use std::fmt;
use std::path::PathBuf;

use chat_core::config::BudgetSettings;

/// The settings of one source, unchecked.
#[derive(Debug, Default)]
pub(crate) struct SettingsLayer {
    pub(crate) name: Option<Setting<String>>,
    pub(crate) room: Option<Setting<String>>,
    pub(crate) open: Option<Setting<bool>>,
    pub(crate) listen: Option<Setting<String>>,
    pub(crate) api: Option<Setting<String>>,
    pub(crate) tcp: Option<Setting<bool>>,
    pub(crate) mdns: Option<Setting<bool>>,
    pub(crate) retention_days: Option<Setting<String>>,
    pub(crate) log: Option<Setting<String>>,
    pub(crate) budget: Option<BudgetSettings>,
}

/// A value and its source.
#[derive(Clone, Debug)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Its source.
    pub(crate) source: SettingSource,
}

/// The source of a value; errors about the value begin with it.
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
    /// Fills the values that this layer does not set from the `lower` one.
    pub(crate) fn over(self, lower: Self) -> Self {
        Self {
            name: self.name.or(lower.name),
            room: self.room.or(lower.room),
            open: self.open.or(lower.open),
            listen: self.listen.or(lower.listen),
            api: self.api.or(lower.api),
            tcp: self.tcp.or(lower.tcp),
            mdns: self.mdns.or(lower.mdns),
            retention_days: self.retention_days.or(lower.retention_days),
            log: self.log.or(lower.log),
            budget: self.budget.or(lower.budget),
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
