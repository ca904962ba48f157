//! Settings of the daemon, collected from four sources and checked once.
//!
//! Precedence, lowest first: built-in defaults, `config.toml` in the home ([`config_file`]), `CHATD_*` variables, flags of
//! `chatd start` ([`args`]). Each source becomes a [`SettingsLayer`] of optional values that remember where they were
//! given ([`layer`]); the layers are merged and [`check`] turns them into [`DaemonSettings`].
//!
//! Invariants: a value is validated exactly once, here; an invalid one is an error that names its source, down to the
//! line of the file, and says what is valid; unknown keys are errors; the API is never offered beyond loopback.
//! Collecting settings reads the file and changes nothing.
//!
//! [`start_options`] calls this for `chatd start`, first in the process of the command, then in the one it leaves in the
//! background. The other commands have no settings.

pub(crate) mod args;
mod config_file;
mod layer;
pub(crate) mod start_options;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use chat_core::config::BudgetSettings;
use chat_proto::text::{TextError, check_recorded_name};

use crate::app::report::logging;
use crate::app::settings::args::StartArgs;
use crate::app::settings::config_file::ConfigError;
use crate::app::settings::layer::{Setting, SettingSource, SettingsLayer};
use crate::net::settings::{Listen, Mdns};

/// Validated settings of a daemon. The key in `config.toml` is the field's name, the variable is `CHATD_` and that name;
/// the flag is named where it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DaemonSettings {
    /// Name of this peer in a room that it founds or joins: 1 to 32 letters, digits, `-`, `_`, `.`. Default: the
    /// login name. In a room already joined, `chat name` changes it.
    pub(crate) name: Option<String>,
    /// Name of a room to found, by the same rules. Default: derived from the founder's name.
    pub(crate) room: Option<String>,
    /// Whether a founded room admits every knock: `open = true` or `false`. Default: `false`.
    pub(crate) door: DoorPolicy,
    /// Address and port for other peers, UDP and TCP. Default: all addresses, port 24283, another one if it is taken.
    pub(crate) listen: Listen,
    /// Loopback address and port of the local API. Default: 127.0.0.1, port 24284, the next free one if it is taken.
    /// `tcp = false` (`--no-tcp`): none, the Unix socket alone. Default of `tcp`: `true`.
    pub(crate) api: Option<Listen>,
    /// Whether rooms are announced and looked for on the local network: `true` or `false` (`--no-mdns`). Default:
    /// `true`.
    pub(crate) mdns: Mdns,
    /// Number of days for which the texts of messages are kept, `retention_days`, 1 to 36,500. Default: 0, for ever.
    pub(crate) retention: Option<RetentionDays>,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives of `tracing-subscriber`'s `EnvFilter`.
    /// Default: `info`. `RUST_LOG` is read where `CHATD_LOG` is not set; there is no flag.
    pub(crate) log: String,
    /// What one member may write in a day before more of it is taken slowly: the table `[budget]` of the file alone, with
    /// the keys `mib`, `entries`, `control_entries`, `admissions`, `forks`, `logs`, each at least 1. Defaults: those of
    /// [`BudgetSettings`].
    pub(crate) budget: BudgetSettings,
}

/// Number of days for which the texts of messages are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetentionDays(u32);

impl RetentionDays {
    /// The longest time, a century.
    const MAX: u32 = 36_500;

    /// The number of days.
    pub(crate) fn days(self) -> u32 {
        self.0
    }

    /// The same as a span of time.
    pub(crate) fn span(self) -> Duration {
        Duration::from_secs(24 * 60 * 60) * self.0
    }
}

/// Whom a founded room admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorPolicy {
    /// Every knock.
    Open,
    /// Peers with a ticket, and knocks that a member admits.
    Closed,
}

/// Why the settings are invalid. Nothing was changed; a retry with the same settings fails again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A name violates the rules.
    #[error("{from}: {rule}")]
    Name {
        /// Its source.
        from: SettingSource,
        /// The rule.
        rule: TextError,
    },
    /// Not an address.
    #[error("{from}: '{given}' is not an address: write it like {example}, or give only a port")]
    Address {
        /// Its source.
        from: SettingSource,
        /// The value.
        given: String,
        /// A valid one.
        example: &'static str,
    },
    /// The API would be offered to other machines.
    #[error("{from}: {ip} is not a loopback address: the API serves only this machine, use 127.0.0.1 or [::1]")]
    NotLoopback {
        /// Its source.
        from: SettingSource,
        /// The value.
        ip: IpAddr,
    },
    /// Not a truth value.
    #[error("{from}: '{given}' is neither true nor false")]
    NotBool {
        /// Its source.
        from: SettingSource,
        /// The value.
        given: String,
    },
    /// Not a number of days.
    #[error("{from}: '{given}' is not a number of days: use 1 to {max}, or 0 to keep all texts", max = RetentionDays::MAX)]
    Days {
        /// Its source.
        from: SettingSource,
        /// The value.
        given: String,
    },
    /// Not a log filter.
    #[error(
        "{from}: '{given}' is not a log level: use error, warn, info, debug, trace, or directives like chatd=debug,iroh=warn"
    )]
    Log {
        /// Its source.
        from: SettingSource,
        /// The value.
        given: String,
    },
    /// A variable is not text.
    #[error("{0} is not text: set it to text, or unset it")]
    NotText(&'static str),
}

impl SettingsError {
    /// Whether the command line is at fault rather than a file or the environment.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Name { from, .. }
            | Self::Address { from, .. }
            | Self::NotLoopback { from, .. }
            | Self::NotBool { from, .. }
            | Self::Days { from, .. }
            | Self::Log { from, .. } => matches!(from, SettingSource::Flag(_)),
            Self::File(_) | Self::NotText(_) => false,
        }
    }
}

impl DaemonSettings {
    /// Collects and checks the settings.
    ///
    /// # Errors
    /// [`SettingsError`], for the first invalid value.
    pub(crate) fn collect(
        args: &StartArgs,
        variable: impl Fn(&str) -> Option<OsString>,
        config: &Path,
    ) -> Result<Self, SettingsError> {
        let file = config_file::read(config)?;
        check(from_flags(args).over(from_variables(variable)?).over(file))
    }
}

/// The settings of a text alone, as a fuzz target reads it.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_text(config: &Path, text: &str) -> Result<DaemonSettings, SettingsError> {
    check(config_file::parse(config, text)?)
}

/// The settings given on the command line.
fn from_flags(args: &StartArgs) -> SettingsLayer {
    let text =
        |value: &Option<String>, flag| value.clone().map(|value| Setting { value, source: SettingSource::Flag(flag) });
    let set = |given: bool, value, flag| given.then_some(Setting { value, source: SettingSource::Flag(flag) });
    SettingsLayer {
        name: text(&args.name, "--name"),
        room: text(&args.room, "--room"),
        open: set(args.open, true, "--open"),
        listen: text(&args.listen, "--listen"),
        api: text(&args.api, "--api"),
        // An address on the command line turns TCP on, whatever the file has.
        tcp: set(args.no_tcp, false, "--no-tcp").or_else(|| set(args.api.is_some(), true, "--api")),
        mdns: set(args.no_mdns, false, "--no-mdns"),
        retention_days: text(&args.retention_days, "--retention-days"),
        log: None,
        budget: None,
    }
}

/// The settings given in the environment.
fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<SettingsLayer, SettingsError> {
    let text = |name: &'static str| match variable(name).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => match value.into_string() {
            Ok(value) => Ok(Some(Setting { value, source: SettingSource::Variable(name) })),
            Err(_) => Err(SettingsError::NotText(name)),
        },
    };
    let yes_or_no = |name| text(name)?.map(read_bool).transpose();
    Ok(SettingsLayer {
        name: text("CHATD_NAME")?,
        room: text("CHATD_ROOM")?,
        open: yes_or_no("CHATD_OPEN")?,
        listen: text("CHATD_LISTEN")?,
        api: text("CHATD_API")?,
        tcp: yes_or_no("CHATD_TCP")?,
        mdns: yes_or_no("CHATD_MDNS")?,
        retention_days: text("CHATD_RETENTION_DAYS")?,
        log: text("CHATD_LOG")?.or(text("RUST_LOG")?),
        budget: None,
    })
}

/// Validates the merged layers.
fn check(layer: SettingsLayer) -> Result<DaemonSettings, SettingsError> {
    let on = |setting: &Option<Setting<bool>>, default| setting.as_ref().map_or(default, |setting| setting.value);
    let listen = layer.listen.map(|setting| read_address(setting, "192.0.2.7:24283")).transpose()?;
    let api = layer.api.map(read_loopback).transpose()?;
    Ok(DaemonSettings {
        name: layer.name.map(|setting| read_name("name", setting)).transpose()?,
        room: layer.room.map(|setting| read_name("name of the room", setting)).transpose()?,
        door: if on(&layer.open, false) { DoorPolicy::Open } else { DoorPolicy::Closed },
        listen: listen.unwrap_or_default(),
        api: on(&layer.tcp, true).then(|| api.unwrap_or_default()),
        mdns: if on(&layer.mdns, true) { Mdns::On } else { Mdns::Off },
        retention: layer.retention_days.map_or(Ok(None), read_days)?,
        log: layer.log.map_or_else(|| Ok("info".to_owned()), read_log)?,
        budget: layer.budget.unwrap_or_default(),
    })
}

/// `ADDR`, `ADDR:PORT`, `[ADDR]:PORT`, `:PORT` or `PORT`.
fn read_address(setting: Setting<String>, example: &'static str) -> Result<Listen, SettingsError> {
    let text = setting.value.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(addr) = text.parse::<SocketAddr>() {
        Ok(Listen { ip: Some(addr.ip()), port: Some(addr.port()) })
    } else if let Ok(ip) = bare.parse() {
        Ok(Listen { ip: Some(ip), port: None })
    } else if let Ok(port) = port.parse() {
        Ok(Listen { ip: None, port: Some(port) })
    } else {
        Err(SettingsError::Address { given: shown(text), from: setting.source, example })
    }
}

fn read_loopback(setting: Setting<String>) -> Result<Listen, SettingsError> {
    let from = setting.source.clone();
    let at = read_address(setting, "127.0.0.1:24284")?;
    match at.ip {
        Some(ip) if !ip.is_loopback() => Err(SettingsError::NotLoopback { from, ip }),
        Some(_) | None => Ok(at),
    }
}

fn read_name(what: &'static str, setting: Setting<String>) -> Result<String, SettingsError> {
    // A member keeps the name it has.
    match check_recorded_name(what, &setting.value) {
        Ok(()) => Ok(setting.value),
        Err(rule) => Err(SettingsError::Name { from: setting.source, rule }),
    }
}

fn read_bool(setting: Setting<String>) -> Result<Setting<bool>, SettingsError> {
    let value = match setting.value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => true,
        "false" | "0" | "no" | "off" => false,
        _ => return Err(SettingsError::NotBool { given: shown(&setting.value), from: setting.source }),
    };
    Ok(Setting { value, source: setting.source })
}

/// A number of days; none for zero.
fn read_days(setting: Setting<String>) -> Result<Option<RetentionDays>, SettingsError> {
    match setting.value.trim().parse() {
        Ok(0) => Ok(None),
        Ok(days) if days <= RetentionDays::MAX => Ok(Some(RetentionDays(days))),
        Ok(_) | Err(_) => Err(SettingsError::Days { given: shown(&setting.value), from: setting.source }),
    }
}

fn read_log(setting: Setting<String>) -> Result<String, SettingsError> {
    if logging::is_filter(&setting.value) {
        Ok(setting.value)
    } else {
        Err(SettingsError::Log { given: shown(&setting.value), from: setting.source })
    }
}

/// A value for an error message: short and without control characters.
fn shown(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests;
