//! Messages that were typed and are not posted yet. They are posted one after the other, in the order in which they were
//! typed, each under a key of its own, so that it is posted once however often the daemon goes away.

use std::collections::VecDeque;

use chat_client::OutgoingMessage;
use chat_proto::api::messages::SendRequest;
use chat_proto::id::MessageId;

use crate::screen::timeline::entry::TypedMessage;

/// Maximum number of messages that wait; further ones stay in the input line.
pub(crate) const WAITING_MAX: usize = 1_000;

/// Maximum number of posted messages whose spread is asked for, and number of times that it is.
const UNCONFIRMED_MAX: usize = 20;
const ASKED_MAX: u8 = 10;

/// The messages that wait.
#[derive(Debug, Default)]
pub(crate) struct PostQueue {
    queue: VecDeque<WaitingMessage>,
    tickets: u64,
    state: PostState,
    /// Posted messages that not every member that is online is known to hold, and how often was asked.
    posted: VecDeque<(MessageId, u8)>,
}

/// A message that waits.
#[derive(Debug)]
struct WaitingMessage {
    ticket: u64,
    message: OutgoingMessage,
    /// The start of what it answers.
    quote: Option<String>,
}

/// What happens to the first message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PostState {
    /// Nothing yet.
    #[default]
    Idle,
    /// It is being posted.
    Posting,
    /// The daemon did not take it; it waits.
    Held,
    /// It is to be tried again.
    Again,
}

/// Which attempt to post a message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostAttempt {
    /// The first one.
    First,
    /// A later one: the daemon may have posted it.
    Again,
}

impl PostQueue {
    /// Whether there is room for another message.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() < WAITING_MAX
    }

    /// Number of messages that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Adds a message; returns its number.
    pub(crate) fn add(&mut self, request: SendRequest, quote: Option<String>) -> u64 {
        self.tickets += 1;
        self.queue.push_back(WaitingMessage { ticket: self.tickets, message: request.into(), quote });
        self.tickets
    }

    /// The next message to post, unless one is being posted or held, and which attempt it is.
    pub(crate) fn next(&mut self) -> Option<(u64, OutgoingMessage, PostAttempt)> {
        let attempt = match self.state {
            PostState::Posting | PostState::Held => return None,
            PostState::Idle => PostAttempt::First,
            PostState::Again => PostAttempt::Again,
        };
        let WaitingMessage { ticket, message, .. } = self.queue.front()?;
        let (ticket, message) = (*ticket, message.clone());
        self.state = PostState::Posting;
        Some((ticket, message, attempt))
    }

    /// The first message was posted or refused.
    pub(crate) fn done(&mut self, ticket: u64) {
        if self.queue.front().is_some_and(|first| first.ticket == ticket) {
            self.queue.pop_front();
        }
        self.state = PostState::Idle;
    }

    /// The daemon is away: the first message waits.
    pub(crate) fn hold(&mut self) {
        self.state = PostState::Held;
    }

    /// Whether it waits for the daemon.
    pub(crate) fn is_held(&self) -> bool {
        self.state == PostState::Held
    }

    /// Tries again.
    pub(crate) fn resume(&mut self) {
        if self.state == PostState::Held {
            self.state = PostState::Again;
        }
    }

    /// A message was posted: how far it spreads is asked for.
    pub(crate) fn posted(&mut self, id: MessageId) {
        if self.posted.len() == UNCONFIRMED_MAX {
            self.posted.pop_front();
        }
        self.posted.push_back((id, 0));
    }

    /// Every member that is online is known to hold the message.
    pub(crate) fn confirmed(&mut self, id: MessageId) {
        self.posted.retain(|(posted, _)| *posted != id);
    }

    /// Whether the spread of a message is to be asked for.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        !self.posted.is_empty()
    }

    /// The messages whose spread is to be asked for now; each a few times at most.
    pub(crate) fn unconfirmed(&mut self) -> Vec<MessageId> {
        self.posted.retain(|(_, asked)| *asked < ASKED_MAX);
        for (_, asked) in &mut self.posted {
            *asked += 1;
        }
        self.posted.iter().map(|(id, _)| *id).collect()
    }

    /// What waits, in order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = TypedMessage> {
        self.queue.iter().map(|WaitingMessage { ticket, message, quote }| TypedMessage {
            ticket: *ticket,
            to: message.request.to.clone(),
            quote: quote.clone(),
            text: message.request.text.clone(),
            refused: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> SendRequest {
        SendRequest { text: text.into(), ..SendRequest::default() }
    }

    #[test]
    fn messages_are_posted_one_by_one_with_the_same_key() {
        let mut outbox = PostQueue::default();
        let one = outbox.add(request("one"), None);
        outbox.add(request("two"), None);
        let (ticket, message, attempt) = outbox.next().expect("the first");
        assert_eq!((ticket, message.request.text.as_str(), attempt), (one, "one", PostAttempt::First));
        assert!(outbox.next().is_none(), "one is being posted");
        outbox.hold();
        assert!(outbox.next().is_none() && outbox.is_held());
        outbox.resume();
        assert_eq!(
            outbox.next().map(|(_, again, attempt)| (again.key, attempt)),
            Some((message.key, PostAttempt::Again))
        );
        outbox.done(ticket);
        assert_eq!(outbox.next().map(|(_, next, _)| next.request.text).as_deref(), Some("two"));
        assert_eq!(outbox.len(), 1);
    }
}
