//! Remembers which messages were shown, so that each is shown once whichever way it comes.

use std::collections::{HashSet, VecDeque};

use chat_proto::id::MessageId;

/// Maximum number of remembered messages; repeats come close together, except after a gap in the stream.
const SEEN_MAX: usize = 20_000;

/// The last [`SEEN_MAX`] messages that were shown.
#[derive(Debug, Default)]
pub(crate) struct SeenMessages {
    known: HashSet<MessageId>,
    order: VecDeque<MessageId>,
}

impl SeenMessages {
    /// Remembers a message; returns whether it is new.
    pub(crate) fn is_new(&mut self, id: MessageId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::id::EntryHash;

    use super::*;

    #[test]
    fn message_is_new_once_and_memory_is_bounded() {
        let id = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            MessageId { entry: EntryHash::from_bytes(bytes), index: 0 }
        };
        let mut shown = SeenMessages::default();
        for number in 0..=SEEN_MAX {
            assert!(shown.is_new(id(number)));
            assert!(!shown.is_new(id(number)));
        }
        assert_eq!((shown.known.len(), shown.order.len()), (SEEN_MAX, SEEN_MAX));
        assert!(shown.is_new(id(0)), "the oldest was forgotten");
    }
}
