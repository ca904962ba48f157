//! Decodes `text/event-stream` (the server-sent events of the HTML standard) from chunks of bytes.
//!
//! Pure: bytes in, blocks out, whatever the chunk boundaries. Two departures from the browser's rules, both agreed with
//! the daemon: a block that holds only an `id` is a block too (it has the start of the stream), and lengths are bounded.

use std::collections::VecDeque;
use std::mem;

/// Maximum length of a line in bytes: a message of 16 KiB whose every byte is escaped in JSON, its recipients, and room to spare.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

/// Maximum data of one block in bytes; several `data` lines add up.
pub const DATA_BYTES_MAX: usize = 512 * 1024;

/// One block of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseBlock {
    /// The block's `id`.
    pub id: Option<String>,
    /// The block's `event`.
    pub event: Option<String>,
    /// The block's `data` lines, joined by line feeds.
    pub data: Option<String>,
}

/// The stream breaks a bound. Reading the same bytes again fails again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("a line of the event stream is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// Longer than [`DATA_BYTES_MAX`].
    #[error("an event of the stream has more than {DATA_BYTES_MAX} bytes of data")]
    DataTooLong,
}

/// What has been read of the stream so far and is not a block yet.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    block: SseBlock,
    after_cr: bool,
    begun: bool,
}

impl Decoder {
    /// Takes the next bytes of the stream and appends the blocks that they complete.
    ///
    /// # Errors
    /// When a bound is broken; the decoder is of no further use then.
    pub fn push(&mut self, mut bytes: &[u8], blocks: &mut VecDeque<SseBlock>) -> Result<(), SseError> {
        while let Some(&first) = bytes.first() {
            if mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > LINE_BYTES_MAX {
                return Err(SseError::LineTooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_of_line(blocks)?;
        }
        Ok(())
    }

    fn end_of_line(&mut self, blocks: &mut VecDeque<SseBlock>) -> Result<(), SseError> {
        let bytes = mem::take(&mut self.line);
        let mut line = String::from_utf8_lossy(&bytes);
        if !mem::replace(&mut self.begun, true)
            && let Some(rest) = line.strip_prefix('\u{FEFF}')
        {
            line = rest.to_owned().into();
        }
        if line.is_empty() {
            let block = mem::take(&mut self.block);
            if block != SseBlock::default() {
                blocks.push_back(block);
            }
        } else if let Some((field, value)) = split_field(&line) {
            self.field(field, value)?;
        }
        self.line = bytes;
        self.line.clear();
        Ok(())
    }

    fn field(&mut self, field: &str, value: &str) -> Result<(), SseError> {
        match field {
            "id" if !value.contains('\0') => self.block.id = Some(value.to_owned()),
            "event" => self.block.event = Some(value.to_owned()),
            "data" => {
                let held = self.block.data.as_ref().map_or(0, |data| data.len() + 1);
                if held + value.len() > DATA_BYTES_MAX {
                    return Err(SseError::DataTooLong);
                }
                match &mut self.block.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    empty @ None => *empty = Some(value.to_owned()),
                }
            }
            // `retry` and fields of newer daemons: nothing here depends on them.
            _ => {}
        }
        Ok(())
    }
}

/// `field: value`, `field:value` or `field`; nothing for a comment.
fn split_field(line: &str) -> Option<(&str, &str)> {
    match line.split_once(':') {
        Some(("", _)) => None,
        Some((field, value)) => Some((field, value.strip_prefix(' ').unwrap_or(value))),
        None => Some((line, "")),
    }
}

#[cfg(test)]
mod tests;
