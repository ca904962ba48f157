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
    /// A character that is not allowed in names.
    #[error("the {what} contains {character:?}: use letters, digits, '-', '_' or '.', without spaces")]
    NameCharacter {
        /// What the name is for.
        what: &'static str,
        /// The first such character.
        character: char,
    },
}

/// Checks a peer's or a room's name: 1 to [`NAME_CHARS_MAX`] letters or digits of any script, `-`, `_` and `.`.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_name(what: &'static str, name: &str) -> Result<(), TextError> {
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
/// other control characters and the Unicode marks that reorder or hide text by `\u{FFFD}`. Line feeds and tabs are kept.
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
            c if c.is_control() || reorders(c) => shown.push('\u{FFFD}'),
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

/// Bidirectional controls and invisible separators (Unicode TR 36, section 3.1).
fn reorders(c: char) -> bool {
    matches!(c, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{2028}' | '\u{2029}')
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
