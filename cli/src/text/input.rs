//! Reads messages from standard input, at most as much as fits.

use std::io::{self, BufRead, Read};

use chat_proto::TEXT_BYTES_MAX;

use crate::error::CommandError;

/// A line end of two bytes may follow a text of full length.
const READ_BYTES_MAX: usize = TEXT_BYTES_MAX + 2;

/// All of `input` as one text, without the line ends at its end.
///
/// # Errors
/// When it is too long, not UTF-8, or cannot be read.
pub(crate) fn whole(input: impl Read) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    input.take(READ_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(CommandError::Input)?;
    text(bytes)
}

/// The next line of `input`, without its end; nothing at the end of the input.
///
/// # Errors
/// When it is too long, not UTF-8, or cannot be read.
pub(crate) fn line(input: &mut impl BufRead) -> Result<Option<String>, CommandError> {
    let mut bytes = Vec::new();
    let limit = READ_BYTES_MAX as u64 + 1;
    match io::Read::take(input, limit).read_until(b'\n', &mut bytes).map_err(CommandError::Input)? {
        0 => Ok(None),
        _ => text(bytes).map(Some),
    }
}

fn text(bytes: Vec<u8>) -> Result<String, CommandError> {
    let cut = bytes.len() > READ_BYTES_MAX;
    let mut text = String::from_utf8(bytes)
        .map_err(|_| if cut { CommandError::InputTooLong } else { CommandError::InputNotText })?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    if cut || text.len() > TEXT_BYTES_MAX { Err(CommandError::InputTooLong) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_all_but_its_last_line_ends() {
        assert_eq!(whole(&b"  a\n\n b\r\n\n"[..]).ok().as_deref(), Some("  a\n\n b"));
        assert_eq!(whole(&b""[..]).ok().as_deref(), Some(""));
    }

    #[test]
    fn text_that_is_too_long_is_refused_and_not_cut() {
        let mut full = vec![b'x'; TEXT_BYTES_MAX];
        assert_eq!(whole(&full[..]).ok().map(|text| text.len()), Some(TEXT_BYTES_MAX));
        full.extend_from_slice(b"\r\n");
        assert_eq!(whole(&full[..]).ok().map(|text| text.len()), Some(TEXT_BYTES_MAX));
        full.truncate(TEXT_BYTES_MAX);
        full.push(b'x');
        assert!(matches!(whole(&full[..]), Err(CommandError::InputTooLong)));
        assert!(matches!(whole("ü".repeat(TEXT_BYTES_MAX).as_bytes()), Err(CommandError::InputTooLong)));
        assert!(matches!(whole(&b"\xff"[..]), Err(CommandError::InputNotText)));
    }

    #[test]
    fn line_is_read_one_at_a_time() {
        let mut input = &b"one\r\n\ntwo"[..];
        let mut next = || line(&mut input).ok().flatten();
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("two"));
        assert_eq!(next(), None);
    }
}
