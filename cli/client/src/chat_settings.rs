//! The table `[chat]` of `config.toml`: how `chat` looks and calls for attention. The daemon checks it with the rest of the
//! file and takes nothing from it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Maximum number of keywords.
pub const KEYWORDS_MAX: usize = 50;

/// The keys of `[chat]`. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChatSettings {
    /// Colours: `auto`, `dark`, `light`, `16` or `none`. Default: `auto`. `NO_COLOR` turns them off.
    pub theme: ThemeName,
    /// Whether a mention or a direct message rings the terminal's bell. Default: `true`.
    pub bell: OnOff,
    /// Whether the terminal's title has the room and the number of unread messages. Default: `true`.
    pub title: OnOff,
    /// Whether and how a mention or a direct message notifies the desktop: `osc9`, `osc777` or `off`. Default: `osc9`.
    pub notify: Notify,
    /// Whether the mouse wheel scrolls the history; selecting text with the mouse then takes Shift. Default: `false`.
    pub mouse: OnOff,
    /// Whether a wide screen has a column of members. Default: `true`.
    pub members: OnOff,
    /// Words that are highlighted like the own name, at most [`KEYWORDS_MAX`].
    #[serde(deserialize_with = "keywords")]
    pub keywords: Vec<String>,
}

/// A theme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThemeName {
    /// What suits the terminal.
    #[default]
    Auto,
    /// For a dark background.
    Dark,
    /// For a light background.
    Light,
    /// The terminal's own 16 colours.
    #[serde(rename = "16")]
    Ansi,
    /// No colours.
    None,
}

/// How the desktop is notified: the escape sequence that the terminal knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// iTerm2, kitty, WezTerm, Windows Terminal, foot, ghostty.
    #[default]
    Osc9,
    /// rxvt-unicode and its kin, and foot.
    Osc777,
    /// Not at all.
    Off,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOff {
    /// It is.
    On,
    /// It is not.
    Off,
}

impl Default for ChatSettings {
    fn default() -> Self {
        Self {
            theme: ThemeName::Auto,
            bell: OnOff::On,
            title: OnOff::On,
            notify: Notify::Osc9,
            mouse: OnOff::Off,
            members: OnOff::On,
            keywords: Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for OnOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(if bool::deserialize(deserializer)? { Self::On } else { Self::Off })
    }
}

fn keywords<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    if words.len() > KEYWORDS_MAX {
        return Err(serde::de::Error::custom(format!("at most {KEYWORDS_MAX} keywords are possible")));
    }
    Ok(words)
}

/// Why the settings cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChatSettingsError {
    /// The file exists and cannot be read as text.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, or `[chat]` has an unknown key or value.
    #[error("{path}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, in one line.
        reason: String,
    },
}

/// The settings of a file; the defaults where there is none.
///
/// # Errors
/// Says what is wrong with it.
pub fn read(path: &Path) -> Result<ChatSettings, ChatSettingsError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct File {
        chat: ChatSettings,
    }
    let mut text = String::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    match opened {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ChatSettings::default()),
        Err(source) => return Err(ChatSettingsError::Read { path: path.to_owned(), source }),
    }
    let read: Result<File, toml::de::Error> = toml::from_str(&text);
    let syntax = |error: toml::de::Error| ChatSettingsError::Syntax {
        path: path.to_owned(),
        reason: error.message().replace('\n', " "),
    };
    read.map(|file| file.chat).map_err(syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ChatSettings, ChatSettingsError> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        std::fs::write(&path, text).expect("it can be written");
        read(&path)
    }

    #[test]
    fn settings_are_read_beside_those_of_the_daemon() {
        let text = "name = \"ann\"\n[chat]\ntheme = \"16\"\nbell = false\nnotify = \"off\"\nmouse = true\nkeywords = [\"deploy\"]\n";
        let settings = parse(text).expect("valid");
        assert_eq!(settings.theme, ThemeName::Ansi);
        assert_eq!((settings.bell, settings.title, settings.mouse), (OnOff::Off, OnOff::On, OnOff::On));
        assert_eq!((settings.notify, settings.keywords), (Notify::Off, vec!["deploy".to_owned()]));
    }

    #[test]
    fn file_without_the_table_or_no_file_gives_the_defaults() {
        assert_eq!(parse("").expect("valid"), ChatSettings::default());
        assert_eq!(read(Path::new("/nonexistent/config.toml")).expect("none"), ChatSettings::default());
        assert_eq!(parse("[chat]\n").expect("valid").mouse, OnOff::Off);
    }

    #[test]
    fn unknown_key_or_value_is_an_error() {
        for text in ["[chat]\nbel = true", "[chat]\ntheme = \"pink\"", "[chat]\nbell = 3"] {
            assert!(matches!(parse(text), Err(ChatSettingsError::Syntax { .. })), "{text}");
        }
    }
}
