//! The plaintext of a sealed message: the text, bound to room, sender and recipients, and what it answers.
//!
//! Version 1 has no field for what a message answers, and builds that read it refuse what follows its fields. So an answer
//! names the answered message where others have a nonce, which no build reads: the ratchet makes equal texts different.

use chat_core::log::entry::SealedBox;
use chat_proto::id::{MessageId, PeerId, RoomId};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

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
        Self { version: VERSION, room, sender, to, text, mark: ReplyMark::of(reply_to).0 }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    /// The text and its mark, if this sender sealed it in this room for exactly these recipients.
    pub(super) fn open(
        raw: &[u8],
        room: RoomId,
        sender: PeerId,
        boxes: &[SealedBox],
    ) -> Result<(String, ReplyMark), BindingError> {
        let (inside, rest) = postcard::take_from_bytes::<Self>(raw).map_err(|_| BindingError::Malformed)?;
        if !rest.is_empty() || inside.version != VERSION {
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
        let raw = Plaintext::new(ROOM, ANN, vec![BOB], "psst".into(), None).encode().expect("encodes");
        let open = |room, sender, to: &[PeerId]| Plaintext::open(&raw, room, sender, &boxes(to)).map(|(text, _)| text);
        assert_eq!(open(ROOM, ANN, &[BOB]), Ok("psst".into()));
        assert_eq!(open(RoomId::from_bytes([9; 32]), ANN, &[BOB]), Err(BindingError::Room));
        assert_eq!(open(ROOM, BOB, &[BOB]), Err(BindingError::Sender));
        assert_eq!(open(ROOM, ANN, &[ANN]), Err(BindingError::Recipients));
        assert_eq!(open(ROOM, ANN, &[BOB, ANN]), Err(BindingError::Recipients));
        let blank = Plaintext::new(ROOM, ANN, vec![BOB], " ".into(), None).encode().expect("encodes");
        assert_eq!(Plaintext::open(&blank, ROOM, ANN, &boxes(&[BOB])), Err(BindingError::Text));
    }

    #[test]
    fn answer_carries_the_mark_of_what_it_answers() {
        let answered = MessageId { entry: chat_proto::id::EntryHash::from_bytes([7; 32]), index: 300 };
        let raw = Plaintext::new(ROOM, ANN, vec![BOB], "yes".into(), Some(answered)).encode().expect("encodes");
        let (text, mark) = Plaintext::open(&raw, ROOM, ANN, &boxes(&[BOB])).expect("it opens");
        let (first, last) = mark.hashes();
        assert_eq!((text.as_str(), mark.index()), ("yes", 300));
        assert!(first < [7; 32] && [7; 32] < last && first[..MARK_HASH_BYTES] == last[..MARK_HASH_BYTES]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(raw: Vec<u8>) {
            prop_assert!(Plaintext::open(&raw, ROOM, ANN, &boxes(&[BOB])).is_err());
        }
    }
}
