//! Whether an entry carries messages or a control item, as its header alone says it.
//!
//! A member may drop the bodies of messages, never those of control items: from them follows who is a member. A peer that
//! receives a header without its body must be able to tell one from the other, and cannot take the sender's word for it. So the
//! author signs it: the last field of a header is the length of the body, and in a header of messages this number has one byte
//! more than it needs, a zero at the end. Every version reads that as the same number, and hashes and signatures
//! cover the bytes as they are.
//!
//! Entries of messages that were written by version 0.1 have no such mark: their bodies are kept. A control item under
//! a header of messages has no effect, so that it is the same for peers that hold it and for those that do not.

use super::{Body, Control, Entry};

/// In a number of several bytes, all but the last have this bit.
const CONTINUES: u8 = 0x80;

/// Marks an encoded header as one of messages.
pub(super) fn mark_messages(header: &mut Vec<u8>) {
    if let Some(last) = header.last_mut() {
        *last |= CONTINUES;
        header.push(0);
    }
}

/// Whether an encoded header is marked as one of messages.
pub(super) fn is_marked(header: &[u8]) -> bool {
    header.last() == Some(&0)
}

/// How the body of published keys begins: a control item, and the number of [`Control::Keys`] with a byte more than it needs.
/// Every version reads it as the same number. It says that the author reads padded direct messages.
const READS_PADDED: [u8; 3] = [1, 8 | CONTINUES, 0];

/// Encodes a body; that of published keys says that this version reads padded direct messages.
pub(super) fn encode_body(body: &Body) -> Result<Vec<u8>, postcard::Error> {
    let raw = postcard::to_stdvec(body)?;
    match body {
        Body::Control(Control::Keys { .. }) => Ok([&READS_PADDED, raw.get(2..).unwrap_or_default()].concat()),
        Body::Control(_) | Body::Messages(_) => Ok(raw),
    }
}

impl Entry {
    /// Whether it publishes keys of a peer that reads padded direct messages. `false` for those of version 0.1.
    pub fn reads_padded(&self) -> bool {
        self.signed.body.as_ref().is_some_and(|raw| raw.starts_with(&READS_PADDED))
    }

    /// Whether its header says that it carries messages: its body may be dropped. `false` for entries of version 0.1.
    pub fn is_of_messages(&self) -> bool {
        is_marked(&self.signed.header)
    }

    /// Whether its body is not there.
    pub fn lacks_body(&self) -> bool {
        self.signed.body.is_none()
    }

    /// The same entry without its body.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.body = None;
        self.signed.body = None;
        self
    }
}
