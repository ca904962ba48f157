//! Reads messages from standard input, at most as much as fits. Bytes that are not UTF-8 are replaced, and that is said: one
//! Latin-1 byte in a build log is no reason to send nothing.

use std::io::{self, BufRead, Read};
use std::thread;

use chat_proto::TEXT_BYTES_MAX;
use chat_proto::ticket::Ticket;
use tokio::sync::mpsc::{Receiver, channel};

use crate::error::CliError;
use crate::text::ui;

/// A line end of two bytes may follow a text of full length.
const READ_BYTES_MAX: usize = TEXT_BYTES_MAX + 2;

/// Maximum number of texts that are read before they are sent.
const TEXTS_AHEAD: usize = 64;

/// Bytes read at once for [`Parts`].
const CHUNK_BYTES: u64 = 4096;

/// All of `input` as one text, without the line ends at its end.
///
/// # Errors
/// When it is too long or cannot be read.
pub(crate) fn whole(input: impl Read) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    input.take(READ_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(CliError::Input)?;
    text(bytes, "standard input")
}

/// A ticket or an address; on a terminal it ends with an empty line, or when the ticket is complete.
///
/// # Errors
/// When it is too long or cannot be read.
pub(crate) fn target(mut input: impl BufRead) -> Result<String, CliError> {
    if !ui::can_ask() {
        return whole(input);
    }
    ui::say("paste the ticket, then press Enter twice:");
    let mut target = String::new();
    while let Some(line) = line(&mut input, 1)?.filter(|line| !line.trim().is_empty()) {
        target += line.trim();
        if target.parse::<Ticket>().is_ok() {
            break;
        }
    }
    Ok(target)
}

/// The last part of `input` that fits one message: whole lines, unless the last line is longer.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn tail(mut input: impl Read) -> Result<String, CliError> {
    let mut kept = Vec::new();
    let mut cut = false;
    loop {
        cut |= kept.len() > READ_BYTES_MAX;
        kept.drain(..kept.len().saturating_sub(READ_BYTES_MAX));
        if input.by_ref().take(READ_BYTES_MAX as u64).read_to_end(&mut kept).map_err(CliError::Input)? == 0 {
            break;
        }
    }
    // The first character may have lost its first bytes.
    let lost = if cut { kept.iter().take_while(|byte| **byte & 0xC0 == 0x80).count().min(3) } else { 0 };
    let text = decode(&kept[lost..], "standard input");
    let text = text.trim_end_matches(['\n', '\r']);
    let start = text.ceil_char_boundary(text.len().saturating_sub(TEXT_BYTES_MAX));
    let part = &text[start..];
    let line = if cut || start > 0 { part.find('\n').map_or(0, |end| end + 1) } else { 0 };
    Ok(part[line..].to_owned())
}

/// The next line of `input`, without its end; nothing at the end of the input. `number` is that of the line.
///
/// # Errors
/// When it is too long or cannot be read.
pub(crate) fn line(input: &mut impl BufRead, number: u64) -> Result<Option<String>, CliError> {
    let mut bytes = Vec::new();
    let limit = READ_BYTES_MAX as u64 + 1;
    match io::Read::take(input, limit).read_until(b'\n', &mut bytes).map_err(CliError::Input)? {
        0 => Ok(None),
        _ => text(bytes, &format!("line {number}")).map(Some),
    }
}

/// Reads texts on a thread of its own, so that those that were read are sent while the next one is waited for. `begin` runs on
/// that thread and gives what reads the next text; the last one is that which cannot be read, if there is one.
pub(crate) fn read_ahead<N: FnMut() -> Result<Option<String>, CliError>>(
    begin: impl FnOnce() -> N + Send + 'static,
) -> Receiver<Result<String, CliError>> {
    let (texts, receiver) = channel(TEXTS_AHEAD);
    thread::spawn(move || {
        let mut next = begin();
        while let Some(text) = next().transpose() {
            let last = text.is_err();
            if texts.blocking_send(text).is_err() || last {
                break;
            }
        }
    });
    receiver
}

/// Splits an input into texts that fit one message each: at line ends, unless a line is longer.
pub(crate) struct Parts<R> {
    input: R,
    /// Bytes that may begin a character.
    begun: Vec<u8>,
    read: String,
}

impl<R: BufRead> Parts<R> {
    /// The parts of `input`, which is read as they are asked for.
    pub(crate) fn new(input: R) -> Self {
        Self { input, begun: Vec::new(), read: String::new() }
    }

    /// The next part without the line ends at its end; nothing at the end of the input. Blank parts are skipped.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<String>, CliError> {
        loop {
            let ended = self.read.len() <= TEXT_BYTES_MAX && !self.fill().map_err(CliError::Input)?;
            if !ended && self.read.len() <= TEXT_BYTES_MAX {
                continue;
            }
            let fits = self.read.floor_char_boundary(TEXT_BYTES_MAX);
            let end = if ended { fits } else { self.read[..fits].rfind('\n').map_or(fits, |end| end + 1) };
            let rest = self.read.split_off(end);
            let part = std::mem::replace(&mut self.read, rest);
            let part = part.trim_end_matches(['\n', '\r']);
            if !part.trim().is_empty() {
                return Ok(Some(part.to_owned()));
            }
            if ended {
                return Ok(None);
            }
        }
    }

    /// Reads on; returns false at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = std::mem::take(&mut self.begun);
        let read = self.input.by_ref().take(CHUNK_BYTES).read_until(b'\n', &mut bytes)?;
        if read > 0
            && let Some(chunk) = bytes.utf8_chunks().last()
            && chunk.invalid().len() < 4
            && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none())
        {
            self.begun = bytes.split_off(bytes.len() - chunk.invalid().len());
        }
        self.read += &decode(&bytes, "standard input");
        Ok(read > 0)
    }
}

fn text(bytes: Vec<u8>, place: &str) -> Result<String, CliError> {
    if bytes.len() > READ_BYTES_MAX {
        return Err(CliError::InputTooLong);
    }
    let mut text = decode(&bytes, place);
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    if text.len() > TEXT_BYTES_MAX { Err(CliError::InputTooLong) } else { Ok(text) }
}

fn decode(bytes: &[u8], place: &str) -> String {
    let replaced = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
    if replaced > 0 {
        ui::say(&format!("chat: {place} is not all UTF-8: what is not was replaced by '\u{FFFD}'"));
    }
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(input: &[u8]) -> Vec<String> {
        let mut parts = Parts::new(input);
        std::iter::from_fn(|| parts.next().expect("readable")).collect()
    }

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
        assert!(matches!(whole(&full[..]), Err(CliError::InputTooLong)));
        assert!(matches!(whole("ü".repeat(TEXT_BYTES_MAX).as_bytes()), Err(CliError::InputTooLong)));
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        assert_eq!(whole(&b"gr\xfcn"[..]).ok().as_deref(), Some("gr\u{FFFD}n"));
        assert_eq!(line(&mut &b"gr\xfcn\nb"[..], 1).ok().flatten().as_deref(), Some("gr\u{FFFD}n"));
        assert_eq!(tail(&b"gr\xfcn"[..]).ok().as_deref(), Some("gr\u{FFFD}n"));
        assert_eq!(parts(b"gr\xfcn\xe2"), ["gr\u{FFFD}n\u{FFFD}"]);
        assert!(matches!(whole(&vec![0xFF; TEXT_BYTES_MAX][..]), Err(CliError::InputTooLong)));
    }

    #[test]
    fn line_is_read_one_at_a_time() {
        let mut input = &b"one\r\n\ntwo"[..];
        let mut next = || line(&mut input, 1).ok().flatten();
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("two"));
        assert_eq!(next(), None);
    }

    #[test]
    fn tail_and_parts_are_whole_lines_where_lines_fit() {
        let lines: String = (0..5_000).map(|number| format!("line {number}\n")).collect();
        let last = tail(lines.as_bytes()).expect("readable");
        assert!(last.len() > TEXT_BYTES_MAX - 20 && last.starts_with("line ") && last.ends_with("line 4999"));
        assert_eq!(parts(lines.as_bytes()).join("\n") + "\n", lines);
        assert_eq!(tail(&b"short\n"[..]).ok().as_deref(), Some("short"));
        assert!(parts(b" \n\n").is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn parts_have_all_of_a_text_and_tail_its_end(line in "[aü\u{20AC}\u{1F600}\n ]{0,50}", times in 0_usize..2_000) {
            let text = format!("{}.", line.repeat(times));
            let parts = parts(text.as_bytes());
            prop_assert!(parts.iter().all(|part| part.len() <= TEXT_BYTES_MAX));
            let bare = |text: &str| text.replace('\n', "");
            let blank = |text: &str| text.replace(['\n', ' '], "");
            prop_assert_eq!(blank(&parts.concat()), blank(&text));
            if !text.contains(' ') {
                prop_assert_eq!(bare(&parts.concat()), bare(&text));
            }
            let last = tail(text.as_bytes()).expect("readable");
            prop_assert!(last.len() <= TEXT_BYTES_MAX && text.ends_with(&last));
        }
    }
}
