//! The plaintext of a sealed message: the text, bound to room, sender and recipients.

use chat_core::log::entry::SealedBox;
use chat_proto::id::{PeerId, RoomId};
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
    /// Makes equal texts different.
    nonce: [u8; 16],
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
    pub(super) fn new(room: RoomId, sender: PeerId, to: Vec<PeerId>, text: String) -> Self {
        Self { version: VERSION, room, sender, to, text, nonce: rand::random() }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    /// The text, if this sender sealed it in this room for exactly these recipients.
    pub(super) fn open(raw: &[u8], room: RoomId, sender: PeerId, boxes: &[SealedBox]) -> Result<String, BindingError> {
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
        Ok(inside.text)
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
        let raw = Plaintext::new(ROOM, ANN, vec![BOB], "psst".into()).encode().expect("encodes");
        let open = |room, sender, to: &[PeerId]| Plaintext::open(&raw, room, sender, &boxes(to));
        assert_eq!(open(ROOM, ANN, &[BOB]), Ok("psst".into()));
        assert_eq!(open(RoomId::from_bytes([9; 32]), ANN, &[BOB]), Err(BindingError::Room));
        assert_eq!(open(ROOM, BOB, &[BOB]), Err(BindingError::Sender));
        assert_eq!(open(ROOM, ANN, &[ANN]), Err(BindingError::Recipients));
        assert_eq!(open(ROOM, ANN, &[BOB, ANN]), Err(BindingError::Recipients));
        let blank = Plaintext::new(ROOM, ANN, vec![BOB], " ".into()).encode().expect("encodes");
        assert_eq!(Plaintext::open(&blank, ROOM, ANN, &boxes(&[BOB])), Err(BindingError::Text));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(raw: Vec<u8>) {
            prop_assert!(Plaintext::open(&raw, ROOM, ANN, &boxes(&[BOB])).is_err());
        }
    }
}
