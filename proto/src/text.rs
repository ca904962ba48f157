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

/// Makes untrusted text safe for a terminal: replaces control characters (including escape sequences) and the Unicode
/// marks that reorder or hide text by `\u{FFFD}`. Line feeds and tabs are kept.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() || reorders(c) => '\u{FFFD}',
            c => c,
        })
        .collect()
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
        assert_eq!(printable("a\x1b[2Jb\r\u{202E}c\nd\t"), "a\u{FFFD}[2Jb\u{FFFD}\u{FFFD}c\nd\t");
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
