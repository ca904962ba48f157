//! Sending a message: the use case behind `POST /v1/messages`.
//!
//! The life of a send, in the order of this file:
//!
//! 1. **Validate** ([`ValidMessage::validate`]): everything that can be checked without the room.
//! 2. **Once** ([`RoomSender::send`]): with an idempotency key, a repeated request finds the message of the first one
//!    (`send/once.rs`); without one, every request posts.
//! 3. **Resolve** the recipients of a direct message to members and their published keys. A name that another member bears
//!    than the one last written to under it is refused (`send/name_pins.rs`).
//! 4. **Seal** the text for each recipient. The store advances the sessions and flushes them before anything is sent.
//! 5. **Post**: the room's task signs the entry, stores it and sends it to other peers.
//! 6. **Wait**: the room answers when the requested copies exist, or when the time is over.
//!
//! Invariants: nothing is sealed for a peer that is not a member, a failed send has stored no message, and a message that
//! was stored is delivered whether or not the caller still waits. Called by the handlers in `http`; knows the node and the
//! store, and nothing of HTTP.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chat_core::input::Command;
use chat_core::log::entry::MessageBody;
use chat_core::membership::roster::{ResolveError, Roster, SealingKeys};
use chat_core::output::{CommandError, Reply};
use chat_proto::RECIPIENTS_MAX;
use chat_proto::api::messages::{
    Message, MessageState, QUOTE_CHARS_MAX, Quote, SEND_COPIES, SEND_TIMEOUT_MS, SendRequest, SentMessage, Wait,
};
use chat_proto::api::peers::PeerRef;
use chat_proto::api::{RangeError, in_range};
use chat_proto::id::{MessageId, PeerId};
use chat_proto::text::{TextError, check_text};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::node::handle::NodeHandle;
use crate::send::name_pins::NamePins;
use crate::send::once::SendsInProgress;
use crate::send::places::StreamPlaces;
use crate::store::Store;
use crate::store::error::{ReadError, SealError};
use crate::store::tables::models::{DmKeys, Idempotency, MessageRow};

mod name_pins;
mod once;
mod places;

pub(crate) use name_pins::NameMoved;
pub(crate) use once::{IdempotencyKey, StreamedSend};
pub(crate) use places::StreamPlace;

/// Longest wait in milliseconds if the request names none.
const TIMEOUT_DEFAULT_MS: u64 = 10_000;

/// Longest wait for the keys of a new member: they arrive within milliseconds, or not before it is online again.
const KEYS_WAIT_MAX: Duration = Duration::from_secs(1);

/// A message to send, valid as far as that can be checked without the room.
#[derive(Clone, Debug)]
pub(crate) struct ValidMessage {
    text: String,
    /// Recipients as the caller named them; empty for the whole room.
    to: Vec<String>,
    /// The message that it answers.
    reply_to: Option<MessageId>,
    wait: Wait,
    copies: u32,
    timeout: Duration,
}

impl ValidMessage {
    /// Checks a request.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn validate(request: SendRequest) -> Result<Self, SendError> {
        let SendRequest { text, to, reply_to, wait, copies, timeout_ms } = request;
        check_text(&text)?;
        if to.len() > RECIPIENTS_MAX {
            return Err(SendError::TooManyRecipients(to.len()));
        }
        if copies.is_some() && wait != Wait::Replicated {
            return Err(SendError::CopiesWithoutReplicated);
        }
        let copies = in_range("copies", copies, SEND_COPIES, 1)?;
        let timeout_ms = in_range("timeout_ms", timeout_ms, SEND_TIMEOUT_MS, TIMEOUT_DEFAULT_MS)?;
        Ok(Self { text, to, reply_to, wait, copies, timeout: Duration::from_millis(timeout_ms) })
    }

    /// Whether something is read or sealed before it is handed to the room: a later message could be handed over first.
    pub(crate) fn may_be_overtaken(&self) -> bool {
        !self.to.is_empty() || self.reply_to.is_some()
    }
}

/// A message that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The message and where it is stored.
    pub(crate) message: SentMessage,
    /// The request that posted it.
    pub(crate) posted: PostedBy,
}

/// The request that posted a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostedBy {
    /// This one.
    ThisRequest,
    /// An earlier one with the same key.
    EarlierRequest,
}

/// Sends the messages of one room. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RoomSender {
    me: PeerId,
    node: NodeHandle,
    store: Store,
    in_progress: Arc<SendsInProgress>,
    places: Arc<StreamPlaces>,
    pins: Arc<NamePins>,
}

impl RoomSender {
    /// Reads the pinned names in `home`.
    pub(crate) fn new(me: PeerId, node: NodeHandle, store: Store, home: &Path) -> Self {
        let pins = Arc::new(NamePins::load(home));
        Self { me, node, store, in_progress: Arc::default(), places: Arc::default(), pins }
    }

    /// Sends a message, once per key. With a key, the message is posted by a task of its own in `tasks`: a caller that
    /// hangs up does not interrupt it.
    ///
    /// # Errors
    /// [`SendError`]; no message was stored then. A request with a key may be repeated with the same key.
    pub(crate) async fn send(
        &self,
        message: ValidMessage,
        key: Option<IdempotencyKey>,
        tasks: &TaskTracker,
    ) -> Result<Sent, Arc<SendError>> {
        match key {
            None => Ok(Sent { message: self.post(&message, None).await?, posted: PostedBy::ThisRequest }),
            Some(key) => self.send_once(message, key, tasks).await,
        }
    }

    /// Waits until messages that arrived together in a stream may be posted. Cancel safe.
    pub(crate) async fn places(&self, messages: usize) -> Vec<StreamPlace> {
        self.places.take(messages).await
    }

    /// Posts a message and waits as long as it asks for.
    async fn post(&self, message: &ValidMessage, idempotency: Option<Idempotency>) -> Result<SentMessage, SendError> {
        // Resolve: the members and the keys to seal for.
        let (roster, recipients) = self.recipients(message).await?;
        let to = recipients.iter().map(|(peer, _)| roster.peer_ref(peer)).collect();
        self.pin(&roster, recipients.iter().map(|(peer, _)| *peer)).await?;
        // What is answered must be readable here; members that do not have it yet read the answer without it.
        let answered = match message.reply_to {
            Some(id) => Some(self.row(id).await?),
            None => None,
        };
        let reply_to = message.reply_to;

        // Seal: the sessions are on disk when this returns.
        let text = message.text.clone();
        let (body, reply_to_of_all) = match message.to.is_empty() {
            true => (MessageBody::Text(text), reply_to),
            false => (self.store.seal(recipients, text, reply_to).await?, None),
        };

        // Post and wait: the room answers when the message is stored and the wait is complete or over.
        let ValidMessage { wait, copies, timeout, .. } = *message;
        let post = Command::Post { body, reply_to: reply_to_of_all, wait, copies, timeout };
        let reply = self.node.request(post, idempotency).await?;
        let Reply::Posted { id, time, mut held_by, complete, clock_off_ms } = reply else {
            return Err(SendError::UnexpectedReply);
        };
        held_by.retain(|peer| *peer != self.me);
        let from = roster.peer_ref(&self.me);
        let quote = answered.map(|row| Quote { from: roster.peer_ref(&row.log.author), text: quoted(&row.text) });
        let message =
            Message { id, time, from, to, reply_to, quote, text: message.text.clone(), dropped: false, clock_off_ms };
        Ok(SentMessage { message, state: self.state(&held_by, complete) })
    }

    /// Resolves the recipients, and the roster that names them. A member is visible a moment before its first entries,
    /// which hold its keys, have arrived: missing keys are waited for until the roster that has them is published.
    async fn recipients(&self, message: &ValidMessage) -> Result<(Arc<Roster>, Vec<(PeerId, DmKeys)>), SendError> {
        let deadline = Instant::now() + message.timeout.min(KEYS_WAIT_MAX);
        let mut rosters = self.node.watch_roster();
        loop {
            let roster = rosters.borrow_and_update().clone();
            let found = resolve(&roster, &self.pins, self.me, &message.to);
            let wait = matches!(found, Err(SendError::NoKeys(_)));
            if !wait || !matches!(timeout_at(deadline, rosters.changed()).await, Ok(Ok(()))) {
                return found.map(|recipients| (roster, recipients));
            }
        }
    }

    /// Accepts the member that bears a name now, or that a tag or key means: it is written to under its name from now on.
    ///
    /// # Errors
    /// Whether no member, a former member or several match, or the pin could not be kept.
    pub(crate) async fn trust(&self, name: &str) -> Result<PeerRef, SendError> {
        let roster = self.node.roster();
        let peer = roster.resolve(name)?;
        self.pin(&roster, [peer].into_iter()).await?;
        Ok(roster.peer_ref(&peer))
    }

    /// Pins the names of these members to them.
    async fn pin(&self, roster: &Roster, peers: impl Iterator<Item = PeerId>) -> Result<(), SendError> {
        let changes = self.pins.changes(roster, peers);
        if changes.is_empty() {
            return Ok(());
        }
        let (pins, room) = (Arc::clone(&self.pins), roster.room);
        let kept = tokio::task::spawn_blocking(move || pins.pin(room, changes)).await;
        kept.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(SendError::Pins)
    }

    /// A stored message and the peers that hold it.
    ///
    /// # Errors
    /// [`ReadError::UnknownMessage`] if it is not stored here.
    pub(crate) async fn find(&self, id: MessageId) -> Result<SentMessage, SendError> {
        let row = self.row(id).await?;
        let holders = self.holders(&row).await?;
        Ok(SentMessage { message: message_view(&self.node.roster(), row), state: self.state(&holders, true) })
    }

    async fn row(&self, id: MessageId) -> Result<MessageRow, SendError> {
        let row = self.store.message(id).await?;
        row.ok_or_else(|| ReadError::UnknownMessage(id).into())
    }

    /// Other peers that are known to hold a message on disk.
    async fn holders(&self, row: &MessageRow) -> Result<Vec<PeerId>, SendError> {
        let Reply::Holders(mut peers) = self.node.command(Command::Holders(row.log, row.seq)).await? else {
            return Err(SendError::UnexpectedReply);
        };
        peers.retain(|peer| *peer != self.me);
        Ok(peers)
    }

    fn state(&self, holders: &[PeerId], complete: bool) -> MessageState {
        let roster = self.node.roster();
        MessageState {
            stored: true,
            copies: u32::try_from(holders.len()).unwrap_or(u32::MAX),
            held_by: holders.iter().map(|peer| roster.peer_ref(peer)).collect(),
            complete,
        }
    }
}

/// Resolves the names of recipients to members and their keys. The sender is left out: it can read the message anyway.
fn resolve(roster: &Roster, pins: &NamePins, me: PeerId, names: &[String]) -> Result<Vec<(PeerId, DmKeys)>, SendError> {
    // A post of a peer that is not a member fails; checked before a session is advanced in vain.
    if !roster.is_member(&me) {
        return Err(CommandError::NotMember.into());
    }
    let mut found: Vec<(PeerId, DmKeys)> = Vec::new();
    for name in names {
        let peer = roster.resolve(name)?;
        pins.check(roster, name, peer)?;
        if peer == me || found.iter().any(|(known, _)| *known == peer) {
            continue;
        }
        let keys = roster.people.get(&peer).and_then(|person| person.keys);
        let keys = keys.ok_or_else(|| SendError::NoKeys(roster.peer_ref(&peer).name))?;
        let SealingKeys { identity, fallback, sealing } = keys;
        found.push((peer, DmKeys { identity, fallback, sealing }));
    }
    if found.is_empty() && !names.is_empty() { Err(SealError::Recipients.into()) } else { Ok(found) }
}

/// A stored message with the current names of its author and recipients.
pub(crate) fn message_view(roster: &Roster, row: MessageRow) -> Message {
    Message {
        id: row.id,
        time: row.time.wall(),
        from: roster.peer_ref(&row.log.author),
        to: row.to.iter().map(|peer| roster.peer_ref(peer)).collect(),
        reply_to: row.reply_to.as_ref().map(|answered| answered.id),
        quote: row
            .reply_to
            .and_then(|answered| answered.start)
            .map(|(from, text)| Quote { from: roster.peer_ref(&from), text }),
        text: row.text,
        dropped: row.dropped,
        clock_off_ms: row.clock_off_ms,
    }
}

/// The start of a text, as an answer to it quotes it.
fn quoted(text: &str) -> String {
    text.chars().take(QUOTE_CHARS_MAX).collect()
}

/// Why a message was not sent. No message was stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The text breaks a rule.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A number is out of range.
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error("{0} recipients are given, the maximum is {max}", max = RECIPIENTS_MAX)]
    TooManyRecipients(usize),
    #[error("'copies' requires \"wait\": \"replicated\"")]
    CopiesWithoutReplicated,
    #[error("the Idempotency-Key must have 1 to {max} printable ASCII characters", max = once::KEY_CHARS_MAX)]
    InvalidKey,
    /// Retry with another key.
    #[error("this Idempotency-Key was used with another text or other recipients")]
    KeyReused,
    /// A recipient is not a member, or several members match.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A recipient's name is borne by another member than the one last written to under it.
    #[error(transparent)]
    NameMoved(#[from] Box<NameMoved>),
    /// The names of recipients could not be pinned.
    #[error("the names of the recipients cannot be kept")]
    Pins(#[source] io::Error),
    /// Retry when the recipient has been online.
    #[error("'{0}' has not published keys for direct messages yet")]
    NoKeys(String),
    /// The text could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The room did not accept the message.
    #[error(transparent)]
    Room(#[from] CommandError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the room answered another question than the one that was asked")]
    UnexpectedReply,
}
