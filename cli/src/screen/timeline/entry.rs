//! What the history shows: messages, and what happened between them.

use chat_proto::api::messages::Message;
use chat_proto::id::{KnockId, MessageId};
use chat_proto::time::Timestamp;

/// Number of an entry. Neighbours have neighbouring numbers; older entries have smaller ones, which may be negative.
pub(crate) type Serial = i64;

/// One entry of the history.
#[derive(Clone, Debug)]
pub(crate) struct TimelineEntry {
    /// When it happened.
    pub(crate) at: Timestamp,
    /// What it is.
    pub(crate) kind: TimelineKind,
}

/// What an entry is.
#[derive(Clone, Debug)]
pub(crate) enum TimelineKind {
    /// A message of the room.
    Message(Shown),
    /// A message typed here that the daemon has not taken yet.
    Typed(TypedMessage),
    /// Members that joined, left, came or went; neighbours are folded into one.
    Quiet(Vec<(String, QuietChange)>),
    /// The rendezvous role moved, a name or a role changed: one line.
    Note(String),
    /// What a command answered.
    Answer(String),
    /// What went wrong.
    Failure(String),
    /// A newcomer that waits to be admitted.
    Knock(KnockLine),
}

/// A message and what is known of it here.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// The message.
    pub(crate) message: Box<Message>,
    /// How far it has come; of own messages only.
    pub(crate) delivery: Option<DeliveryReport>,
}

/// How far an own message has come, as far as this peer knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeliveryReport {
    /// Number of other peers that hold it on disk.
    pub(crate) copies: u32,
    /// Number of recipients of a direct message that hold it.
    pub(crate) delivered: u32,
}

/// A message that was typed here.
#[derive(Clone, Debug)]
pub(crate) struct TypedMessage {
    /// Number of it in the outbox.
    pub(crate) ticket: u64,
    /// Recipients as typed; empty for the room.
    pub(crate) to: Vec<String>,
    /// The author and the start of what it answers.
    pub(crate) quote: Option<String>,
    /// The text.
    pub(crate) text: String,
    /// Why it was refused; nothing while it waits.
    pub(crate) refused: Option<String>,
}

/// A quiet change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuietChange {
    /// Was admitted.
    Joined,
    /// Left for good.
    Left,
    /// Is online.
    Here,
    /// Is offline.
    Away,
}

/// A knock.
#[derive(Clone, Debug)]
pub(crate) struct KnockLine {
    /// Number to answer it by.
    pub(crate) id: KnockId,
    /// The name that the newcomer asks for.
    pub(crate) name: String,
    /// Words that both sides see.
    pub(crate) words: String,
    /// How it ended; nothing while it waits.
    pub(crate) ended: Option<&'static str>,
}

impl TimelineEntry {
    /// The id of its message, if it is one.
    pub(crate) fn message_id(&self) -> Option<MessageId> {
        self.message().map(|message| message.id)
    }

    /// Its message, if it is one.
    pub(crate) fn message(&self) -> Option<&Message> {
        match &self.kind {
            TimelineKind::Message(shown) => Some(&shown.message),
            TimelineKind::Typed(_)
            | TimelineKind::Quiet(_)
            | TimelineKind::Note(_)
            | TimelineKind::Answer(_)
            | TimelineKind::Failure(_)
            | TimelineKind::Knock(_) => None,
        }
    }

    /// Bytes of text that it keeps in memory.
    pub(crate) fn text_bytes(&self) -> usize {
        match &self.kind {
            TimelineKind::Message(shown) => shown.message.text.len(),
            TimelineKind::Typed(typed) => typed.text.len(),
            TimelineKind::Quiet(changes) => changes.iter().map(|(name, _)| name.len()).sum(),
            TimelineKind::Note(text) | TimelineKind::Answer(text) | TimelineKind::Failure(text) => text.len(),
            TimelineKind::Knock(knock) => knock.name.len() + knock.words.len(),
        }
    }
}

/// The quiet changes in words: `bob, carol are here; dave left the room`.
pub(crate) fn quiet_words(changes: &[(String, QuietChange)]) -> String {
    let group = |change: QuietChange, one: &str, many: &str| {
        let names: Vec<&str> =
            changes.iter().filter(|(_, what)| *what == change).map(|(name, _)| name.as_str()).collect();
        match names.as_slice() {
            [] => None,
            [name] => Some(format!("{name} {one}")),
            names => Some(format!("{} {many}", names.join(", "))),
        }
    };
    let groups = [
        group(QuietChange::Joined, "joined", "joined"),
        group(QuietChange::Left, "left the room", "left the room"),
        group(QuietChange::Here, "is here", "are here"),
        group(QuietChange::Away, "is away", "are away"),
    ];
    groups.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Adds a change to those before it: of one member only the last of its comings and goings is kept.
pub(crate) fn fold(changes: &mut Vec<(String, QuietChange)>, name: String, change: QuietChange) {
    let presence = |change: QuietChange| matches!(change, QuietChange::Here | QuietChange::Away);
    changes.retain(|(known, what)| *known != name || (*what != change && !(presence(*what) && presence(change))));
    changes.push((name, change));
}
