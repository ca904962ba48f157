//! Checks on names and message texts, and display of untrusted text in a terminal.

use crate::{NAME_CHARS_MAX, TEXT_BYTES_MAX};

/// Why a text cannot be a name or a message. Nothing was changed; retry with another text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Empty, or only white space.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// Longer than [`TEXT_BYTES_MAX`].
    #[error("the message has {bytes} bytes, the maximum is {max}: send it in parts, or as a link to a file", max = TEXT_BYTES_MAX)]
    TextTooLong {
        /// Length of the given text.
        bytes: usize,
    },
    /// Longer than [`NAME_CHARS_MAX`].
    #[error("the {what} has {chars} characters, the maximum is {max}", max = NAME_CHARS_MAX)]
    NameTooLong {
        /// What the name is for.
        what: &'static str,
        /// Length of the given name.
        chars: usize,
    },
    /// A word that means other members in the commands and on the screen.
    #[error("the name '{name}' is reserved, choose another one")]
    NameReserved {
        /// The given name.
        name: String,
    },
    /// A character that is not allowed in names.
    #[error("the {what} contains {character:?}: use letters, digits, '-', '_' or '.', without spaces")]
    NameCharacter {
        /// What the name is for.
        what: &'static str,
        /// The first such character.
        character: char,
    },
}

/// Words that are no member's name, in lower case: the commands and the screen use them for others.
const RESERVED_NAMES: [&str; 6] = ["you", "me", "all", "here", "everyone", "system"];

/// Checks a new name of a member: as [`check_name`], and not a reserved word. Members that bear such a name keep it.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_member_name(name: &str) -> Result<(), TextError> {
    check_name("name", name)?;
    let reserved = RESERVED_NAMES.contains(&name.to_lowercase().as_str());
    if reserved { Err(TextError::NameReserved { name: name.into() }) } else { Ok(()) }
}

/// Checks a new name of a peer, a room or a token: 1 to [`NAME_CHARS_MAX`] visible letters or digits of any script, `-`, `_`
/// and `.`.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_name(what: &'static str, name: &str) -> Result<(), TextError> {
    check_recorded_name(what, name)?;
    match name.chars().find(|c| is_hidden(*c)) {
        Some(character) => Err(TextError::NameCharacter { what, character }),
        None => Ok(()),
    }
}

/// Checks a name as version 0.1 did: what is in the log, or in a configuration, stays valid.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_recorded_name(what: &'static str, name: &str) -> Result<(), TextError> {
    if name.is_empty() {
        return Err(TextError::Empty(what));
    }
    let chars = name.chars().count();
    if chars > NAME_CHARS_MAX {
        return Err(TextError::NameTooLong { what, chars });
    }
    match name.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        Some(character) => Err(TextError::NameCharacter { what, character }),
        None => Ok(()),
    }
}

/// Checks a message's text: not blank, at most [`TEXT_BYTES_MAX`] bytes.
///
/// # Errors
/// The rule that the text breaks.
pub fn check_text(text: &str) -> Result<(), TextError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(TextError::TextTooLong { bytes: text.len() });
    }
    if text.trim().is_empty() { Err(TextError::Empty("message")) } else { Ok(()) }
}

/// Makes untrusted text safe for a terminal: drops whole escape sequences, such as the colours of a compiler, and replaces
/// other control characters and the characters that reorder text or are not visible ([`is_hidden`]) by `\u{FFFD}`. Line feeds
/// and tabs are kept, and the variation selectors that choose between the forms of an emoji.
/// A sequence that does not end hides nothing: only its first character is replaced.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = escape_sequence(c, after).unwrap_or(after);
        match c {
            '\n' | '\t' => shown.push(c),
            '\x1b' | '\u{80}'..='\u{9f}' if rest.len() < after.len() => {}
            EMOJI_FORM_FIRST..=EMOJI_FORM_LAST => shown.push(c),
            // Terminals show the parts of a joined emoji side by side at best.
            '\u{200D}' if after.chars().next().is_some_and(is_pictograph) => {}
            c if c.is_control() || is_hidden(c) => shown.push('\u{FFFD}'),
            c => shown.push(c),
        }
    }
    shown
}

/// What follows the escape sequence (ECMA-48) that begins with `first` and goes on with `after`, if it is one that ends.
fn escape_sequence(first: char, after: &str) -> Option<&str> {
    let (kind, body) = match first {
        '\x1b' => (after.chars().next()?, after.get(1..)?),
        // The same in one character.
        '\u{90}' | '\u{98}' | '\u{9b}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => {
            (char::from_u32(u32::from(first) - 0x40)?, after)
        }
        _ => return None,
    };
    match kind {
        '[' => {
            let body = body
                .trim_start_matches(|c: char| matches!(c, '0'..='?'))
                .trim_start_matches(|c: char| matches!(c, ' '..='/'));
            body.strip_prefix(|c: char| matches!(c, '@'..='~'))
        }
        // Strings: a window title, a link. They end with BEL or the string terminator.
        ']' | 'P' | 'X' | '^' | '_' => {
            let (at, end) = body.char_indices().find(|(_, c)| c.is_control())?;
            let body = &body[at + end.len_utf8()..];
            match end {
                '\x07' | '\u{9c}' => Some(body),
                '\x1b' => body.strip_prefix('\\'),
                _ => None,
            }
        }
        // The choice of a character set, as in the reset of tput: ESC ( B.
        ' '..='/' => {
            body.trim_start_matches(|c: char| matches!(c, ' '..='/')).strip_prefix(|c: char| matches!(c, '0'..='~'))
        }
        '0'..='~' => Some(body),
        _ => None,
    }
}

/// Variation selectors 15 and 16: the text and the emoji form of the character before them.
const EMOJI_FORM_FIRST: char = '\u{FE0E}';
const EMOJI_FORM_LAST: char = '\u{FE0F}';

/// Characters that reorder text or are not visible: first and last of each range. Bidirectional controls, separators
/// (Unicode TR 36, section 3.1), blank letters, and everything that is ignored by default (`Default_Ignorable_Code_Point`).
/// This table decides what reaches a terminal or `--json`, and what a new name may contain.
const HIDDEN: [(char, char); 21] = [
    ('\u{00AD}', '\u{00AD}'),
    ('\u{034F}', '\u{034F}'),
    ('\u{061C}', '\u{061C}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{2028}', '\u{2029}'),
    ('\u{202A}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFFB}'),
    ('\u{13430}', '\u{1343F}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D159}', '\u{1D159}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{E0000}', '\u{E0FFF}'),
];

/// Whether a character reorders the text around it or is not visible.
pub fn is_hidden(c: char) -> bool {
    HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

fn is_pictograph(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2BFF}' | '\u{1F000}'..='\u{1FAFF}')
}

/// First and last characters of the blocks whose letters are written from right to left.
const RIGHT_TO_LEFT: [(char, char); 5] = [
    ('\u{0590}', '\u{08FF}'),
    ('\u{FB1D}', '\u{FDFF}'),
    ('\u{FE70}', '\u{FEFE}'),
    ('\u{10800}', '\u{10FFF}'),
    ('\u{1E800}', '\u{1EFFF}'),
];

/// A shown name, between isolates (Unicode UAX 9) if it is written from right to left, so that it does not reorder what
/// stands around it.
pub fn isolated(name: String) -> String {
    let right_to_left = |c: char| RIGHT_TO_LEFT.iter().any(|(first, last)| (*first..=*last).contains(&c));
    if name.chars().any(right_to_left) { format!("\u{2068}{name}\u{2069}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_has_no_escape_sequences() {
        assert_eq!(printable("a\x1b[2Jb\r\u{202E}c\nd\t"), "ab\u{FFFD}\u{FFFD}c\nd\t");
        for (text, shown) in [
            ("\x1b[1;31merror\x1b[0m: no", "error: no"),
            ("\x1b[38;5;208mx\x1b(B\x1b[m", "x"),
            ("\x1b]8;;http://a/\x1b\\link\x1b]8;;\x07.", "link."),
            ("\u{9b}31mred\u{9b}m", "red"),
            ("\x1bP1$q\x1b\\dcs \x1bcreset", "dcs reset"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn escape_sequence_that_does_not_end_hides_no_text() {
        for (text, shown) in [
            ("\x1b]0;title and all that follows", "\u{FFFD}]0;title and all that follows"),
            ("\x1b]0;title\nnext line\x07", "\u{FFFD}]0;title\nnext line\u{FFFD}"),
            ("\x1b[31\nred", "\u{FFFD}[31\nred"),
            ("end\x1b", "end\u{FFFD}"),
            ("\x1bü\u{9b}", "\u{FFFD}ü\u{FFFD}"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn name_with_spaces_or_controls_is_rejected() {
        for good in ["bob", "Zoë", "lab-3.rack_2", "李"] {
            assert_eq!(check_name("name", good), Ok(()));
        }
        for bad in ["", "a b", "@bob", "a\x1b", "a\u{202E}b", &"x".repeat(33)] {
            assert!(check_name("name", bad).is_err(), "{bad:?} must be rejected");
        }
    }

    /// Characters that look like nothing, or change what is around them.
    const UNSEEN: [char; 16] = [
        '\u{3164}',
        '\u{FFA0}',
        '\u{115F}',
        '\u{061C}',
        '\u{200C}',
        '\u{200D}',
        '\u{2061}',
        '\u{2064}',
        '\u{FFF9}',
        '\u{FFFB}',
        '\u{E0041}',
        '\u{00AD}',
        '\u{202E}',
        '\u{2066}',
        '\u{FEFF}',
        '\u{2800}',
    ];

    #[test]
    fn characters_that_are_not_visible_reach_no_terminal_and_no_new_name() {
        for c in UNSEEN {
            assert_eq!(printable(&format!("a{c}b")), "a\u{FFFD}b", "{c:?}");
            assert!(check_name("name", &format!("a{c}b")).is_err(), "{c:?}");
        }
        assert_eq!(check_recorded_name("name", "\u{3164}"), Ok(()), "what is in the log stays valid");
        assert_eq!(printable("\u{2764}\u{FE0F}"), "\u{2764}\u{FE0F}", "an emoji keeps its form");
        assert_eq!(printable("\u{1F469}\u{200D}\u{1F4BB}"), "\u{1F469}\u{1F4BB}", "its parts are shown");
        assert!(HIDDEN.windows(2).all(|pair| pair[0].1 < pair[1].0), "the table is in order");
    }

    #[test]
    fn reserved_words_are_no_new_names_of_members() {
        for name in ["you", "Me", "ALL", "here", "everyone", "system"] {
            assert_eq!(check_member_name(name), Err(TextError::NameReserved { name: name.into() }));
            assert_eq!(check_name("room", name), Ok(()));
        }
        assert_eq!(check_member_name("allan"), Ok(()));
    }

    #[test]
    fn name_from_right_to_left_is_isolated() {
        assert_eq!(isolated("\u{05D3}\u{05D5}\u{05D3}".into()), "\u{2068}\u{05D3}\u{05D5}\u{05D3}\u{2069}");
        assert_eq!(isolated("bob".into()), "bob");
    }

    #[test]
    fn text_over_the_maximum_or_blank_is_rejected() {
        assert_eq!(check_text(&"x".repeat(TEXT_BYTES_MAX)), Ok(()));
        assert_eq!(
            check_text(&"x".repeat(TEXT_BYTES_MAX + 1)),
            Err(TextError::TextTooLong { bytes: TEXT_BYTES_MAX + 1 })
        );
        assert_eq!(check_text(" \n"), Err(TextError::Empty("message")));
    }
}
