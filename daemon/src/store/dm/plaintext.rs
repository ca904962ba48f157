//! The plaintext of a sealed message: the text, bound to room, sender and recipients, and what it answers.
//!
//! Version 1 has no field for what a message answers, and builds that read it refuse what follows its fields. So an answer
//! names the answered message where others have a nonce, which no build reads: the ratchet makes equal texts different.
//!
//! Version 2 has the same fields and zeros behind them, so that the length of a text does not show: texts of up to some 130
//! bytes to one recipient are all as long, longer ones by an eighth longer at most than they need (Padmé, from Nikitin et al.,
//! *Reducing Metadata Leakage from Encrypted Files and Communication with PURBs*, 2019). It goes to peers that publish that they
//! read it.

use chat_core::log::entry::SealedBox;
use chat_core::membership::roster::Sealing;
use chat_proto::id::{MessageId, PeerId, RoomId};
use serde::{Deserialize, Serialize};

/// Without padding.
const PLAIN: u8 = 1;

/// With padding.
const PADDED: u8 = 2;

/// Minimum length of a padded plaintext, in bytes.
const PADDED_BYTES_MIN: usize = 256;

/// The length to which a plaintext is padded.
fn padded(bytes: usize) -> usize {
    let bytes = bytes.max(PADDED_BYTES_MIN);
    let exponent = bytes.ilog2();
    bytes.next_multiple_of(1 << (exponent - exponent.ilog2() - 1))
}

/// The plaintext of a sealed message. The signature of the entry covers the ciphertext only, so a member could copy a
/// box into an entry of its own: the plaintext names the sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plaintext {
    version: u8,
    room: RoomId,
    sender: PeerId,
    to: Vec<PeerId>,
    text: String,
    /// Random, or of an answer the mark of the answered message.
    mark: [u8; 16],
}

/// What names the answered message in an answer: the start of its entry's hash and its index in the entry. Random marks name
/// no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyMark([u8; 16]);

/// Bytes of an entry's hash in a mark.
pub(super) const MARK_HASH_BYTES: usize = 14;

impl ReplyMark {
    fn of(answered: Option<MessageId>) -> Self {
        let mut mark: [u8; 16] = rand::random();
        if let Some(MessageId { entry, index }) = answered {
            mark[..MARK_HASH_BYTES].copy_from_slice(&entry.as_bytes()[..MARK_HASH_BYTES]);
            mark[MARK_HASH_BYTES..].copy_from_slice(&index.to_be_bytes());
        }
        Self(mark)
    }

    /// The first and the last hash that an entry of this mark may have.
    pub(super) fn hashes(&self) -> ([u8; 32], [u8; 32]) {
        let (mut first, mut last) = ([0; 32], [u8::MAX; 32]);
        first[..MARK_HASH_BYTES].copy_from_slice(&self.0[..MARK_HASH_BYTES]);
        last[..MARK_HASH_BYTES].copy_from_slice(&self.0[..MARK_HASH_BYTES]);
        (first, last)
    }

    /// The index in the entry.
    pub(super) fn index(&self) -> u16 {
        u16::from_be_bytes([self.0[MARK_HASH_BYTES], self.0[MARK_HASH_BYTES + 1]])
    }
}

/// Why a decrypted text is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BindingError {
    #[error("it cannot be decoded")]
    Malformed,
    #[error("it was sealed for another room")]
    Room,
    #[error("another peer sealed it")]
    Sender,
    #[error("it was sealed for other recipients")]
    Recipients,
    #[error("its text is empty or too long")]
    Text,
}

impl Plaintext {
    pub(super) fn new(
        room: RoomId,
        sender: PeerId,
        to: Vec<PeerId>,
        text: String,
        reply_to: Option<MessageId>,
    ) -> Self {
        Self { version: PLAIN, room, sender, to, text, mark: ReplyMark::of(reply_to).0 }
    }

    /// The bytes that are sealed for a recipient.
    pub(super) fn encode(&self, sealing: Sealing) -> Result<Vec<u8>, postcard::Error> {
        let mut raw = postcard::to_stdvec(self)?;
        if sealing == Sealing::Padded
            && let Some(version) = raw.first_mut()
        {
            *version = PADDED;
            raw.resize(padded(raw.len()), 0);
        }
        Ok(raw)
    }

    /// The text and its mark, if this sender sealed it in this room for exactly these recipients.
    pub(super) fn open(
        raw: &[u8],
        room: RoomId,
        sender: PeerId,
        boxes: &[SealedBox],
    ) -> Result<(String, ReplyMark), BindingError> {
        let (inside, rest) = postcard::take_from_bytes::<Self>(raw).map_err(|_| BindingError::Malformed)?;
        let fits = match inside.version {
            PLAIN => rest.is_empty(),
            PADDED => rest.iter().all(|byte| *byte == 0),
            _ => false,
        };
        if !fits {
            return Err(BindingError::Malformed);
        }
        if inside.room != room {
            return Err(BindingError::Room);
        }
        if inside.sender != sender {
            return Err(BindingError::Sender);
        }
        if !inside.to.iter().eq(boxes.iter().map(|sealed| &sealed.to)) {
            return Err(BindingError::Recipients);
        }
        chat_proto::text::check_text(&inside.text).map_err(|_| BindingError::Text)?;
        Ok((inside.text, ReplyMark(inside.mark)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOM: RoomId = RoomId::from_bytes([1; 32]);
    const ANN: PeerId = PeerId::from_bytes([2; 32]);
    const BOB: PeerId = PeerId::from_bytes([3; 32]);

    fn boxes(to: &[PeerId]) -> Vec<SealedBox> {
        to.iter().map(|to| SealedBox { to: *to, kind: 0, ciphertext: Vec::new() }).collect()
    }

    #[test]
    fn text_opens_only_with_its_room_sender_and_recipients() {
        let raw = Plaintext::new(ROOM, ANN, vec![BOB], "psst".into(), None).encode(Sealing::Plain).expect("encodes");
        let open = |room, sender, to: &[PeerId]| Plaintext::open(&raw, room, sender, &boxes(to)).map(|(text, _)| text);
        assert_eq!(open(ROOM, ANN, &[BOB]), Ok("psst".into()));
        assert_eq!(open(RoomId::from_bytes([9; 32]), ANN, &[BOB]), Err(BindingError::Room));
        assert_eq!(open(ROOM, BOB, &[BOB]), Err(BindingError::Sender));
        assert_eq!(open(ROOM, ANN, &[ANN]), Err(BindingError::Recipients));
        assert_eq!(open(ROOM, ANN, &[BOB, ANN]), Err(BindingError::Recipients));
        let blank = Plaintext::new(ROOM, ANN, vec![BOB], " ".into(), None).encode(Sealing::Plain).expect("encodes");
        assert_eq!(Plaintext::open(&blank, ROOM, ANN, &boxes(&[BOB])), Err(BindingError::Text));
    }

    #[test]
    fn answer_carries_the_mark_of_what_it_answers() {
        let answered = MessageId { entry: chat_proto::id::EntryHash::from_bytes([7; 32]), index: 300 };
        let raw =
            Plaintext::new(ROOM, ANN, vec![BOB], "yes".into(), Some(answered)).encode(Sealing::Plain).expect("encodes");
        let (text, mark) = Plaintext::open(&raw, ROOM, ANN, &boxes(&[BOB])).expect("it opens");
        let (first, last) = mark.hashes();
        assert_eq!((text.as_str(), mark.index()), ("yes", 300));
        assert!(first < [7; 32] && [7; 32] < last && first[..MARK_HASH_BYTES] == last[..MARK_HASH_BYTES]);
    }

    #[test]
    fn padded_text_opens_and_does_not_show_its_length() {
        let sealed = |text: &str| {
            let inside = Plaintext::new(ROOM, ANN, vec![BOB], text.into(), None);
            let raw = inside.encode(Sealing::Padded).expect("encodes");
            let opened = Plaintext::open(&raw, ROOM, ANN, &boxes(&[BOB])).map(|(text, _)| text);
            assert_eq!(opened.as_deref(), Ok(text));
            let plain = inside.encode(Sealing::Plain).expect("encodes").len();
            assert!(raw.len() <= PADDED_BYTES_MIN || raw.len() <= plain + plain / 8, "{plain} became {}", raw.len());
            raw
        };
        assert_eq!(sealed("y").len(), sealed(&"y".repeat(130)).len());
        assert_eq!(sealed(&"y".repeat(1000)).len(), sealed(&"y".repeat(1010)).len());
        assert!(sealed(&"y".repeat(chat_proto::TEXT_BYTES_MAX)).len() < chat_proto::TEXT_BYTES_MAX + 2048);
        let mut changed = sealed("y");
        *changed.last_mut().expect("bytes") = 1;
        assert_eq!(Plaintext::open(&changed, ROOM, ANN, &boxes(&[BOB])), Err(BindingError::Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(raw: Vec<u8>) {
            prop_assert!(Plaintext::open(&raw, ROOM, ANN, &boxes(&[BOB])).is_err());
        }
    }
}
