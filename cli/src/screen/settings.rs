//! The settings of the screen: the table `[chat]` of `config.toml` in the home of the daemon.

use std::path::Path;

use chat_client::chat_settings::{self, ChatSettings, Notify, OnOff, ThemeName};

use super::theme::Theme;
use crate::error::CliError;

/// Validated settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Colours.
    pub(crate) theme: Theme,
    /// Rings the terminal's bell on a mention or a direct message.
    pub(crate) bell: OnOff,
    /// Sets the title of the terminal.
    pub(crate) title: OnOff,
    /// How the desktop is notified of a mention or a direct message.
    pub(crate) notify: Notify,
    /// Whether the mouse wheel scrolls the history.
    pub(crate) mouse: OnOff,
    /// Whether the members have a column.
    pub(crate) members: OnOff,
    /// Words that are highlighted like the own name.
    pub(crate) keywords: Vec<String>,
}

impl Settings {
    /// The settings of a home; without one, the defaults.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub(crate) fn load(home: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        let read = home.map(|home| chat_settings::read(&home.join("config.toml"))).transpose()?;
        Ok(Self::from_file(read.unwrap_or_default(), variable))
    }

    /// What the file has, completed by the environment and the defaults.
    pub(crate) fn from_file(file: ChatSettings, variable: impl Fn(&str) -> Option<String>) -> Self {
        let no_colour = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let theme = match file.theme {
            _ if no_colour => Theme::None,
            ThemeName::Auto => Theme::guess(variable),
            ThemeName::Dark => Theme::Dark,
            ThemeName::Light => Theme::Light,
            ThemeName::Ansi => Theme::Ansi,
            ThemeName::None => Theme::None,
        };
        Self {
            theme,
            bell: file.bell,
            title: file.title,
            notify: file.notify,
            mouse: file.mouse,
            members: file.members,
            keywords: file.keywords,
        }
    }
}
