//! Colours: what each part of the screen looks like in each theme.

use ratatui::style::{Color, Modifier, Style};

/// A set of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    /// 256 colours on a dark background.
    Dark,
    /// 256 colours on a light background.
    Light,
    /// The 16 colours that the terminal's own palette has.
    Ansi,
    /// No colours: bold, reverse and underline only.
    None,
}

/// A part of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThemePart {
    /// Ordinary text.
    Text,
    /// Times, rules and other things beside the text.
    Quiet,
    /// The name of an author; the number selects one of a few colours.
    Author(u8),
    /// The own name.
    Me,
    /// A message that names this peer or has a keyword.
    Mention,
    /// The names around a direct message.
    Direct,
    /// The start of the message that another one answers.
    Quote,
    /// Where the unread messages begin.
    Unread,
    /// A knock that waits, and what else asks for an answer.
    Question,
    /// How far an own message has come.
    Mark,
    /// What went wrong.
    Failure,
    /// The status line.
    Status,
    /// A warning in the status line.
    Warning,
    /// The holder of the rendezvous role.
    Holder,
    /// The frame of a window.
    Frame,
    /// The selected line of a list.
    Selected,
}

/// Colours of authors: distinct, and readable on the theme's background.
const AUTHORS_DARK: [u8; 8] = [75, 114, 179, 174, 140, 80, 215, 150];
const AUTHORS_LIGHT: [u8; 8] = [25, 28, 94, 124, 90, 30, 130, 58];
const AUTHORS_ANSI: [Color; 5] = [Color::Cyan, Color::Green, Color::Yellow, Color::Magenta, Color::Blue];

impl Theme {
    /// The theme that suits a terminal whose background is not known, by its environment.
    pub(crate) fn guess(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if set("NO_COLOR").is_some() {
            return Self::None;
        }
        let term = set("TERM").unwrap_or_default();
        if !term.contains("256") && !term.contains("direct") && !term.contains("kitty") && set("COLORTERM").is_none() {
            return Self::Ansi;
        }
        // rxvt and its kin say `FOREGROUND;BACKGROUND`, numbers of the palette.
        match set("COLORFGBG").as_deref().and_then(|colours| colours.rsplit(';').next()) {
            Some("7" | "15") => Self::Light,
            Some(_) | None => Self::Dark,
        }
    }

    /// The style of a part.
    pub(crate) fn style(self, part: ThemePart) -> Style {
        match self {
            Self::Dark => coloured(part, &AUTHORS_DARK, &DARK),
            Self::Light => coloured(part, &AUTHORS_LIGHT, &LIGHT),
            Self::Ansi => ansi(part),
            Self::None => plain(part),
        }
    }
}

/// The 256-colour numbers of a theme.
struct Palette {
    quiet: u8,
    me: u8,
    mention: (u8, u8),
    direct: u8,
    quote: u8,
    unread: u8,
    question: u8,
    mark: u8,
    failure: u8,
    status: (u8, u8),
    warning: u8,
    selected: (u8, u8),
}

const DARK: Palette = Palette {
    quiet: 244,
    me: 255,
    mention: (229, 58),
    direct: 213,
    quote: 247,
    unread: 203,
    question: 221,
    mark: 108,
    failure: 203,
    status: (252, 236),
    warning: 215,
    selected: (255, 24),
};

const LIGHT: Palette = Palette {
    quiet: 243,
    me: 16,
    mention: (52, 229),
    direct: 127,
    quote: 240,
    unread: 160,
    question: 130,
    mark: 28,
    failure: 160,
    status: (236, 253),
    warning: 130,
    selected: (16, 153),
};

fn coloured(part: ThemePart, authors: &[u8], palette: &Palette) -> Style {
    let fg = |number: u8| Style::new().fg(Color::Indexed(number));
    let both = |(front, back): (u8, u8)| fg(front).bg(Color::Indexed(back));
    match part {
        ThemePart::Text => Style::new(),
        ThemePart::Quiet | ThemePart::Frame => fg(palette.quiet),
        ThemePart::Author(number) => fg(authors[usize::from(number) % authors.len()]),
        ThemePart::Me => fg(palette.me).add_modifier(Modifier::BOLD),
        ThemePart::Mention => both(palette.mention),
        ThemePart::Direct => fg(palette.direct),
        ThemePart::Quote => fg(palette.quote).add_modifier(Modifier::ITALIC),
        ThemePart::Unread => fg(palette.unread),
        ThemePart::Question => fg(palette.question).add_modifier(Modifier::BOLD),
        ThemePart::Mark => fg(palette.mark),
        ThemePart::Failure => fg(palette.failure).add_modifier(Modifier::BOLD),
        ThemePart::Status => both(palette.status),
        ThemePart::Warning => both((palette.warning, palette.status.1)).add_modifier(Modifier::BOLD),
        ThemePart::Holder => fg(palette.question),
        ThemePart::Selected => both(palette.selected),
    }
}

fn ansi(part: ThemePart) -> Style {
    let fg = |colour: Color| Style::new().fg(colour);
    match part {
        ThemePart::Text => Style::new(),
        ThemePart::Quiet | ThemePart::Frame => Style::new().add_modifier(Modifier::DIM),
        ThemePart::Author(number) => fg(AUTHORS_ANSI[usize::from(number) % AUTHORS_ANSI.len()]),
        ThemePart::Me => Style::new().add_modifier(Modifier::BOLD),
        ThemePart::Mention => fg(Color::Yellow).add_modifier(Modifier::BOLD),
        ThemePart::Direct => fg(Color::Magenta),
        ThemePart::Quote => Style::new().add_modifier(Modifier::DIM),
        ThemePart::Unread => fg(Color::Red),
        ThemePart::Question | ThemePart::Holder => fg(Color::Yellow).add_modifier(Modifier::BOLD),
        ThemePart::Mark => fg(Color::Green),
        ThemePart::Failure => fg(Color::Red).add_modifier(Modifier::BOLD),
        ThemePart::Status | ThemePart::Selected => Style::new().add_modifier(Modifier::REVERSED),
        ThemePart::Warning => fg(Color::Red).add_modifier(Modifier::REVERSED | Modifier::BOLD),
    }
}

fn plain(part: ThemePart) -> Style {
    let with = |modifier: Modifier| Style::new().add_modifier(modifier);
    match part {
        ThemePart::Text | ThemePart::Author(_) | ThemePart::Mark | ThemePart::Frame => Style::new(),
        ThemePart::Quiet | ThemePart::Quote => with(Modifier::DIM),
        ThemePart::Me
        | ThemePart::Mention
        | ThemePart::Direct
        | ThemePart::Unread
        | ThemePart::Question
        | ThemePart::Holder => with(Modifier::BOLD),
        ThemePart::Failure => with(Modifier::BOLD | Modifier::UNDERLINED),
        ThemePart::Status | ThemePart::Selected => with(Modifier::REVERSED),
        ThemePart::Warning => with(Modifier::REVERSED | Modifier::BOLD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(variables: &[(&str, &str)]) -> Theme {
        Theme::guess(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn theme_follows_the_environment() {
        assert_eq!(guess(&[("TERM", "xterm")]), Theme::Ansi);
        assert_eq!(guess(&[("TERM", "xterm-256color")]), Theme::Dark);
        assert_eq!(guess(&[("TERM", "screen-256color"), ("COLORFGBG", "0;15")]), Theme::Light);
        assert_eq!(guess(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]), Theme::None);
        assert_eq!(guess(&[("TERM", "xterm-256color"), ("NO_COLOR", "")]), Theme::Dark);
    }

    #[test]
    fn theme_without_colours_sets_none() {
        for part in [
            ThemePart::Mention,
            ThemePart::Author(3),
            ThemePart::Status,
            ThemePart::Warning,
            ThemePart::Failure,
            ThemePart::Selected,
        ] {
            let style = Theme::None.style(part);
            assert_eq!((style.fg, style.bg), (None, None), "{part:?}");
        }
    }
}
