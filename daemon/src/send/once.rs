//! Sends under an idempotency key: one message per key, however often and however concurrently the request is repeated.
//!
//! A key is in one of three states. *Unknown*: the first request posts, in a task of its own, so that a caller that hangs
//! up does not leave the outcome open. *In progress*: further requests wait for that task. *Stored*: the key is in the
//! database, written in one transaction with its message, so that it is known after a restart. The task reads the database
//! after it has entered the map, and leaves the map after the key is stored: at any moment the key is in one of the two.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_core::input::Command;
use chat_core::output::{CommandError, Reply};
use chat_proto::api::messages::{SentMessage, Wait};
use chat_proto::event::Event;
use chat_proto::id::{MessageId, PeerId};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::node::handle::COMMANDS_MAX;
use crate::send::{PostedBy, RoomSender, SendError, Sent, ValidMessage, message_view};
use crate::store::tables::models::{Idempotency, KeyRecord, MessageRow, StoredEvent, StoredEventKind};

/// Maximum length of a key, in characters.
pub(super) const KEY_CHARS_MAX: usize = 255;

/// Context of the request's hash (BLAKE3 key derivation mode).
const HASH_CONTEXT: &str = "chatd 2026 idempotent send v1";

/// Maximum number of keyed sends in progress: as many as commands may wait for the room, and some times as many that are
/// being written.
const IN_PROGRESS_MAX: usize = 4 * COMMANDS_MAX;

/// First and longest pause between two questions which peers hold a message, if no event reports a delivery.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// The value of an `Idempotency-Key` header.
#[derive(Clone, Debug)]
pub(crate) struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Checks a key.
    ///
    /// # Errors
    /// [`SendError::InvalidKey`] if it is empty, too long or not printable ASCII.
    pub(crate) fn parse(text: &str) -> Result<Self, SendError> {
        let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
        let valid = printable && (1..=KEY_CHARS_MAX).contains(&text.len());
        if valid { Ok(Self(text.to_owned())) } else { Err(SendError::InvalidKey) }
    }
}

/// Keyed sends in progress, by key.
#[derive(Debug, Default)]
pub(super) struct SendsInProgress(Mutex<HashMap<String, SendInProgress>>);

#[derive(Debug)]
struct SendInProgress {
    /// Hash of the request.
    request: [u8; 32],
    outcome: OutcomeWatch,
}

type OutcomeWatch = watch::Receiver<Option<Result<SendOutcome, Arc<SendError>>>>;
type OutcomeReport = watch::Sender<Option<Result<SendOutcome, Arc<SendError>>>>;

/// How a keyed send succeeded.
#[derive(Clone, Debug)]
enum SendOutcome {
    /// Posted just now.
    Posted(Box<SentMessage>),
    /// Posted by an earlier request.
    Found(MessageId),
}

/// The part of a request among those with the same key.
enum Attempt {
    First(FirstAttempt, OutcomeWatch),
    Repeated(OutcomeWatch),
}

/// The request that posts, unless an earlier run did. Its key is in the map until this is dropped.
struct FirstAttempt {
    idempotency: Idempotency,
    report: OutcomeReport,
    _leave: LeaveOnDrop,
}

/// A keyed send of a stream: what was stored under its key before is known.
pub(crate) struct StreamedSend {
    message: ValidMessage,
    part: StreamedPart,
}

enum StreamedPart {
    First(FirstAttempt, OutcomeWatch, Result<Option<MessageId>, SendError>),
    Repeated(Idempotency, OutcomeWatch),
}

impl SendsInProgress {
    fn enter(self: &Arc<Self>, idempotency: &Idempotency) -> Result<Attempt, SendError> {
        let mut sends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = sends.len() >= IN_PROGRESS_MAX;
        let (idempotency, request) = (idempotency.clone(), idempotency.request);
        match sends.entry(idempotency.key.clone()) {
            Entry::Occupied(known) if known.get().request != request => Err(SendError::KeyReused),
            Entry::Occupied(known) => Ok(Attempt::Repeated(known.get().outcome.clone())),
            Entry::Vacant(_) if full => Err(CommandError::Busy.into()),
            Entry::Vacant(free) => {
                let (report, outcome) = watch::channel(None);
                free.insert(SendInProgress { request, outcome: outcome.clone() });
                let leave = LeaveOnDrop { in_progress: Arc::clone(self), key: idempotency.key.clone() };
                Ok(Attempt::First(FirstAttempt { idempotency, report, _leave: leave }, outcome))
            }
        }
    }

    fn leave(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Removes the key from the map however the task ends.
struct LeaveOnDrop {
    in_progress: Arc<SendsInProgress>,
    key: String,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.in_progress.leave(&self.key);
    }
}

impl RoomSender {
    /// Posts the message, or finds the one that was posted under the key; waits as long as the request asks for.
    pub(super) async fn send_once(
        &self,
        message: ValidMessage,
        IdempotencyKey(key): IdempotencyKey,
        tasks: &TaskTracker,
    ) -> Result<Sent, Arc<SendError>> {
        let idempotency = Idempotency { key, request: message.hash() };
        let deadline = Instant::now() + message.timeout;
        let found = match self.in_progress.enter(&idempotency)? {
            Attempt::First(first, outcome) => {
                let (sender, message) = (self.clone(), message.clone());
                let posting = async move {
                    let found = sender.find_key(&first.idempotency).await;
                    sender.post_first(&message, first, found).await;
                };
                tasks.spawn(posting.in_current_span());
                match ended(outcome).await? {
                    SendOutcome::Posted(sent) => return Ok(Sent { message: *sent, posted: PostedBy::ThisRequest }),
                    SendOutcome::Found(id) => id,
                }
            }
            Attempt::Repeated(outcome) => self.stored_by_first(&idempotency, outcome).await?,
        };
        Ok(Sent { message: self.replay(&message, found, deadline).await?, posted: PostedBy::EarlierRequest })
    }

    /// Begins keyed sends of a stream: what was stored under their keys before is looked up at once for all of them.
    pub(crate) async fn look_up(
        &self,
        sends: Vec<(ValidMessage, IdempotencyKey)>,
    ) -> Vec<Result<StreamedSend, Arc<SendError>>> {
        let enter = |(message, IdempotencyKey(key)): (ValidMessage, IdempotencyKey)| {
            let idempotency = Idempotency { key, request: message.hash() };
            let attempt = self.in_progress.enter(&idempotency);
            (message, idempotency, attempt)
        };
        let entered: Vec<_> = sends.into_iter().map(enter).collect();
        let is_first = |attempt: &Result<Attempt, SendError>| matches!(attempt, Ok(Attempt::First(..)));
        let asked = entered.iter().filter(|(_, _, attempt)| is_first(attempt));
        let keys = asked.map(|(_, idempotency, _)| idempotency.key.clone()).collect();
        let (mut found, failure) = match self.store.find_keys(keys).await {
            Ok(found) => (found.into_iter(), None),
            Err(error) => (Vec::new().into_iter(), Some(Arc::new(SendError::from(error)))),
        };
        let begin = |(message, idempotency, attempt): (ValidMessage, Idempotency, Result<Attempt, SendError>)| {
            let part = match attempt? {
                Attempt::First(first, outcome) => {
                    if let Some(failure) = &failure {
                        return Err(failure.clone());
                    }
                    let known = same_request(&idempotency, found.next().flatten());
                    StreamedPart::First(first, outcome, known)
                }
                Attempt::Repeated(outcome) => StreamedPart::Repeated(idempotency, outcome),
            };
            Ok(StreamedSend { message, part })
        };
        entered.into_iter().map(begin).collect()
    }

    /// Posts a message of a stream under its key, or finds the one that was posted; its first step hands the message to the
    /// room. The caller must run this to its end, also when its own caller has hung up.
    pub(crate) async fn send_looked_up(&self, send: StreamedSend) -> Result<Sent, Arc<SendError>> {
        let StreamedSend { message, part } = send;
        let deadline = Instant::now() + message.timeout;
        let found = match part {
            StreamedPart::First(first, outcome, known) => {
                self.post_first(&message, first, known).await;
                match ended(outcome).await? {
                    SendOutcome::Posted(sent) => return Ok(Sent { message: *sent, posted: PostedBy::ThisRequest }),
                    SendOutcome::Found(id) => id,
                }
            }
            StreamedPart::Repeated(idempotency, outcome) => self.stored_by_first(&idempotency, outcome).await?,
        };
        Ok(Sent { message: self.replay(&message, found, deadline).await?, posted: PostedBy::EarlierRequest })
    }

    /// Posts a message unless one is known under its key, and reports to all that wait for the key.
    async fn post_first(
        &self,
        message: &ValidMessage,
        first: FirstAttempt,
        known: Result<Option<MessageId>, SendError>,
    ) {
        let FirstAttempt { idempotency, report, _leave } = first;
        let result = match known {
            Ok(Some(id)) => Ok(SendOutcome::Found(id)),
            Ok(None) => self.post(message, Some(idempotency)).await.map(|sent| SendOutcome::Posted(Box::new(sent))),
            Err(error) => Err(error),
        };
        report.send_replace(Some(result.map_err(Arc::new)));
    }

    async fn find_key(&self, idempotency: &Idempotency) -> Result<Option<MessageId>, SendError> {
        let known = self.store.find_keys(vec![idempotency.key.clone()]).await?;
        same_request(idempotency, known.into_iter().next().flatten())
    }

    /// The message of the first request as soon as it is stored: that request may wait for more.
    async fn stored_by_first(
        &self,
        idempotency: &Idempotency,
        outcome: OutcomeWatch,
    ) -> Result<MessageId, Arc<SendError>> {
        let mut events = self.store.subscribe();
        loop {
            // The key is written in one transaction with its message, whose event follows.
            if let Some(id) = self.find_key(idempotency).await? {
                return Ok(id);
            }
            let own_message = |event: &StoredEvent| match &event.kind {
                StoredEventKind::Message(row) => row.log.author == self.me,
                StoredEventKind::Other(_) => false,
            };
            tokio::select! {
                ended = ended(outcome.clone()) => return Ok(match ended? {
                    SendOutcome::Posted(sent) => sent.message.id,
                    SendOutcome::Found(id) => id,
                }),
                () = next_event(&mut events, own_message) => {}
            }
        }
    }

    /// The answer for a message that was posted before, after the wait of this request.
    async fn replay(&self, message: &ValidMessage, id: MessageId, deadline: Instant) -> Result<SentMessage, SendError> {
        let mut events = self.store.subscribe();
        let row = self.row(id).await?;
        let (mut pause, longest) = PAUSES;
        loop {
            let holders = self.holders(&row).await?;
            let complete = self.is_complete(message, &row, &holders).await?;
            let now = Instant::now();
            if complete || now >= deadline {
                let state = self.state(&holders, complete);
                return Ok(SentMessage { message: message_view(&self.node.roster(), row), state });
            }
            let delivery = next_event(
                &mut events,
                |event| matches!(&event.kind, StoredEventKind::Other(Event::Delivery { message, .. }) if *message == id),
            );
            // A timeout is not an error: the question is asked again.
            let _ = timeout_at(deadline.min(now + pause), delivery).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn is_complete(
        &self,
        message: &ValidMessage,
        row: &MessageRow,
        holders: &[PeerId],
    ) -> Result<bool, SendError> {
        match message.wait {
            Wait::Stored => Ok(true),
            Wait::Replicated => Ok(holders.len() >= usize::try_from(message.copies).unwrap_or(usize::MAX)),
            Wait::Delivered if !row.to.is_empty() => {
                Ok(row.to.iter().all(|peer| *peer == self.me || holders.contains(peer)))
            }
            Wait::Delivered => {
                let Reply::Peers(list) = self.node.command(Command::Peers).await? else {
                    return Err(SendError::UnexpectedReply);
                };
                Ok(list.peers.iter().all(|view| view.me || !view.online || holders.contains(&view.peer.id)))
            }
        }
    }

    /// Number of keyed sends in progress.
    #[cfg(test)]
    pub(crate) fn in_progress(&self) -> usize {
        self.in_progress.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The message that was posted under a key.
///
/// # Errors
/// [`SendError::KeyReused`] if another request posted it.
fn same_request(idempotency: &Idempotency, known: Option<KeyRecord>) -> Result<Option<MessageId>, SendError> {
    match known {
        None => Ok(None),
        Some(known) if known.request == idempotency.request => Ok(Some(known.message)),
        Some(_) => Err(SendError::KeyReused),
    }
}

/// The outcome of the first request. Its task ends without one only when it panics or the daemon stops.
async fn ended(mut outcome: OutcomeWatch) -> Result<SendOutcome, Arc<SendError>> {
    let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
    ended.unwrap_or_else(|| Err(Arc::new(CommandError::Busy.into())))
}

/// Waits for an event that matches, or that events were missed.
async fn next_event(events: &mut broadcast::Receiver<Arc<StoredEvent>>, matches: impl Fn(&StoredEvent) -> bool) {
    loop {
        match events.recv().await {
            Ok(event) if matches(&event) => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl ValidMessage {
    /// Hash of what must be the same in a repeated request: the text, the recipients and what it answers, not the wait.
    fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(HASH_CONTEXT);
        for part in std::iter::once(&self.text).chain(&self.to) {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        // No part is that long. What answers nothing has the hash that earlier versions stored.
        if let Some(answered) = &self.reply_to {
            hasher.update(&u64::MAX.to_be_bytes()).update(answered.to_string().as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}
