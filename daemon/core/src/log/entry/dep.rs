//! Dependencies of an entry, and what travels in their place: a dependency with the sequence number zero names no entry, since
//! sequence numbers begin at 1. Builds that do not know what such a one carries take it for an entry that is held, so that a
//! new fact about an entry needs no new version of its format.

use chat_proto::id::{EntryHash, MessageId, PeerId};
use serde::{Deserialize, Serialize};

use super::{Hlc, Incarnation, LogId, Seq};

/// An entry that another author's entry builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dep {
    /// The log.
    pub log: LogId,
    /// The sequence number in it.
    pub seq: Seq,
}

impl Dep {
    /// Carries the order time of an entry of `author` that is not its label. Sequence numbers begin at 1, so builds that do
    /// not know it take it for a dependency that is held.
    pub fn order(author: PeerId, order: Hlc) -> Self {
        Self { log: LogId { author, incarnation: Incarnation(order.0) }, seq: Seq::ZERO }
    }

    /// Carries that the message with this index in the entry answers `answered`. Builds that do not know it read the
    /// message without what it answers: the answered entry's hash is no author, and both indexes together are a time
    /// before every label.
    pub fn reply(index: u16, answered: MessageId) -> Self {
        let author = PeerId::from_bytes(*answered.entry.as_bytes());
        let indexes = u64::from(index) << 16 | u64::from(answered.index);
        Self { log: LogId { author, incarnation: Incarnation(indexes) }, seq: Seq::ZERO }
    }

    /// The index of a message in an entry of `author`, and what it answers; none if this carries something else.
    pub(super) fn as_reply(&self, author: PeerId) -> Option<(usize, MessageId)> {
        let indexes = u32::try_from(self.log.incarnation.0).ok()?;
        let carries = self.seq == Seq::ZERO && self.log.author != author;
        let entry = EntryHash::from_bytes(*self.log.author.as_bytes());
        let index = |half: u32| u16::try_from(half & 0xFFFF).ok();
        let answered = MessageId { entry, index: index(indexes)? };
        carries.then_some((usize::from(index(indexes >> 16)?), answered))
    }
}
