//! Hides messages that were typed here when the event stream delivers them.
//!
//! The stream may deliver a message before the call that posted it has answered with its id. So while a call is open,
//! messages of this peer are held back; its answer identifies the one that was typed here, and the others, sent from
//! elsewhere under the same name, are shown.

use std::collections::VecDeque;

use chat_proto::api::messages::Message;
use chat_proto::id::MessageId;

/// Maximum number of ids that are waited for; the stream delivers each soon after its answer.
const TYPED_MAX: usize = 1_000;

/// Maximum number of messages held back; further ones are shown at once, at worst twice.
const HELD_MAX: usize = 1_000;

/// The own messages that are on the screen already.
#[derive(Debug, Default)]
pub(crate) struct EchoFilter {
    open: usize,
    typed: VecDeque<MessageId>,
    held: Vec<Message>,
}

impl EchoFilter {
    /// A call that posts what was typed begins.
    pub(crate) fn begin(&mut self) {
        self.open += 1;
    }

    /// The call has ended, with the message's id when it was posted. Returns the messages that are to be shown now.
    pub(crate) fn end(&mut self, id: Option<MessageId>) -> Vec<Message> {
        self.open = self.open.saturating_sub(1);
        if let Some(id) = id {
            let held = self.held.len();
            self.held.retain(|message| message.id != id);
            if self.held.len() == held {
                self.typed.push_back(id);
                if self.typed.len() > TYPED_MAX {
                    self.typed.pop_front();
                }
            }
        }
        if self.open == 0 { std::mem::take(&mut self.held) } else { Vec::new() }
    }

    /// The stream delivers a message of this peer. Returns it if it is to be shown now.
    pub(crate) fn arrive(&mut self, message: Message) -> Option<Message> {
        if let Some(index) = self.typed.iter().position(|id| *id == message.id) {
            self.typed.remove(index);
            None
        } else if self.open > 0 && self.held.len() < HELD_MAX {
            self.held.push(message);
            None
        } else {
            Some(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::api::peers::PeerRef;
    use chat_proto::id::{EntryHash, PeerId};
    use chat_proto::time::Timestamp;

    use super::*;

    fn message(number: u8) -> Message {
        let peer = PeerId::from_bytes([1; 32]);
        Message {
            id: MessageId { entry: EntryHash::from_bytes([number; 32]), index: 0 },
            time: Timestamp::from_ms(0),
            from: PeerRef { id: peer, name: "alice".into(), tag: peer.tag() },
            to: Vec::new(),
            reply_to: None,
            quote: None,
            text: number.to_string(),
            dropped: false,
            clock_off_ms: None,
        }
    }

    #[test]
    fn typed_message_is_not_shown_again() {
        let mut own = EchoFilter::default();
        own.begin();
        assert_eq!(own.arrive(message(1)), None, "held back: it may be the one");
        assert_eq!(own.end(Some(message(1).id)), vec![]);
        own.begin();
        assert_eq!(own.end(Some(message(2).id)), vec![]);
        assert_eq!(own.arrive(message(2)), None, "the answer came first");
        assert_eq!(own.arrive(message(2)), Some(message(2)), "an id is used up");
    }

    #[test]
    fn message_sent_elsewhere_is_shown() {
        let mut own = EchoFilter::default();
        assert_eq!(own.arrive(message(1)), Some(message(1)));
        own.begin();
        own.begin();
        assert_eq!(own.arrive(message(2)), None);
        assert_eq!(own.end(Some(message(3).id)), vec![], "another call is open");
        assert_eq!(own.end(None), vec![message(2)], "it was none of the typed ones");
        assert_eq!(own.arrive(message(3)), None);
    }
}
