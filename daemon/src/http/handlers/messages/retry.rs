//! Posts under a key once, however often and however concurrently the request comes.
//!
//! A key is in one of three states. *Unknown*: the first request posts, in a task of its own, so that a caller that hangs
//! up leaves no doubt behind. *Under way*: further requests wait for that task. *Stored*: the key stands in the database,
//! written in one transaction with its message, so that it is known after a restart, too. The task looks into the
//! database after it has entered the map, and leaves the map after the key is stored: no moment is without one of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use chat_core::input::Command;
use chat_core::output::{CommandError, Reply};
use chat_proto::api::messages::{SentMessage, Wait};
use chat_proto::error::Problem;
use chat_proto::event::Event;
use chat_proto::id::{MessageId, PeerId};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use crate::http::api_state::{Api, RoomHandle};
use crate::http::extract::header_text;
use crate::http::handlers::messages::send::Send;
use crate::http::handlers::messages::{held, holders, key_reused, shown, state};
use crate::http::problem::Refusal;
use crate::node::handle::COMMANDS_MAX;
use crate::store::tables::models::Idempotency;
use crate::store::tables::models::{MessageRow, StoredEvent, StoredEventKind};

/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 255;

/// Context of the request's hash (BLAKE3 key derivation mode).
const HASH_CONTEXT: &str = "chatd 2026 idempotent send v1";

/// Most keyed posts that are under way: no more commands wait for the room either.
const UNDER_WAY_MAX: usize = COMMANDS_MAX;

/// How often a retry looks into the database while the first request still waits for more than the disk.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// First and longest pause between two questions who holds a message, where no event tells that it was delivered.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// The `Idempotency-Key` of a request.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(key) = header_text(headers, "idempotency-key")? else { return Ok(None) };
    let printable = key.bytes().all(|b| (b' '..=b'~').contains(&b));
    if key.is_empty() || key.len() > KEY_CHARS_MAX || !printable {
        let detail = format!("the Idempotency-Key must have 1 to {KEY_CHARS_MAX} printable ASCII characters");
        return Err(Refusal::bad(detail).hint("a random UUID is a good key"));
    }
    Ok(Some(key.to_owned()))
}

/// Keyed posts that are under way.
#[derive(Debug, Default)]
pub(crate) struct Posts(Mutex<HashMap<String, UnderWay>>);

#[derive(Debug)]
struct UnderWay {
    request: [u8; 32],
    outcome: watch::Receiver<Option<Outcome>>,
}

/// How a keyed post ended.
#[derive(Clone, Debug)]
enum Outcome {
    /// Posted just now.
    Posted(Box<SentMessage>),
    /// Posted by an earlier request.
    Found(MessageId),
    /// Not posted.
    Refused(Box<Problem>),
}

enum Turn {
    First(watch::Sender<Option<Outcome>>, watch::Receiver<Option<Outcome>>),
    Again(watch::Receiver<Option<Outcome>>),
}

impl Posts {
    fn enter(&self, key: &str, request: [u8; 32]) -> Result<Turn, Refusal> {
        let mut posts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = posts.len() >= UNDER_WAY_MAX;
        match posts.entry(key.to_owned()) {
            Entry::Occupied(known) if known.get().request != request => Err(key_reused()),
            Entry::Occupied(known) => Ok(Turn::Again(known.get().outcome.clone())),
            Entry::Vacant(_) if full => Err(CommandError::Busy.into()),
            Entry::Vacant(free) => {
                let (sender, outcome) = watch::channel(None);
                free.insert(UnderWay { request, outcome: outcome.clone() });
                Ok(Turn::First(sender, outcome))
            }
        }
    }

    /// How many are under way.
    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn leave(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Leaves the map whatever ends the task.
struct Leaving {
    room: Arc<RoomHandle>,
    key: String,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.room.posts.leave(&self.key);
    }
}

/// Posts, or finds what was posted under the key; waits for what is to be waited for.
pub(super) async fn post_once(
    api: &Api,
    room: Arc<RoomHandle>,
    send: Send,
    key: String,
) -> Result<(StatusCode, SentMessage), Refusal> {
    let me = api.me;
    let idempotency = Idempotency { key, request: send.hash() };
    let deadline = Instant::now() + send.timeout;
    let found = match room.posts.enter(&idempotency.key, idempotency.request)? {
        Turn::First(sender, outcome) => {
            api.tasks.spawn(first(me, Arc::clone(&room), send.clone(), idempotency, sender).in_current_span());
            match ended(outcome).await? {
                Outcome::Posted(sent) => return Ok((StatusCode::CREATED, *sent)),
                Outcome::Found(id) => id,
                Outcome::Refused(problem) => return Err(Refusal::from_problem(*problem)),
            }
        }
        Turn::Again(outcome) => again(&room, &idempotency, outcome).await?,
    };
    let sent = replay(me, &room, &send, found, deadline).await?;
    Ok((StatusCode::OK, sent))
}

async fn first(
    me: PeerId,
    room: Arc<RoomHandle>,
    send: Send,
    idempotency: Idempotency,
    outcome: watch::Sender<Option<Outcome>>,
) {
    let leaving = Leaving { room, key: idempotency.key.clone() };
    let room = &leaving.room;
    let result = match find(room, &idempotency).await {
        Ok(Some(id)) => Ok(Outcome::Found(id)),
        Ok(None) => send.carry_out(me, room, Some(idempotency)).await.map(|sent| Outcome::Posted(Box::new(sent))),
        Err(refusal) => Err(refusal),
    };
    let result = result.unwrap_or_else(|refusal| Outcome::Refused(Box::new(refusal.problem().clone())));
    outcome.send_replace(Some(result));
}

async fn find(room: &RoomHandle, idempotency: &Idempotency) -> Result<Option<MessageId>, Refusal> {
    match room.store.find_key(&idempotency.key).await? {
        None => Ok(None),
        Some(known) if known.request == idempotency.request => Ok(Some(known.message)),
        Some(_) => Err(key_reused()),
    }
}

async fn ended(mut outcome: watch::Receiver<Option<Outcome>>) -> Result<Outcome, Refusal> {
    let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
    ended.ok_or_else(|| CommandError::Busy.into())
}

/// The message of the request under way, as soon as it is stored: the first request may wait for more.
async fn again(
    room: &RoomHandle,
    idempotency: &Idempotency,
    outcome: watch::Receiver<Option<Outcome>>,
) -> Result<MessageId, Refusal> {
    loop {
        match timeout(LOOK_AGAIN, ended(outcome.clone())).await {
            Ok(ended) => match ended? {
                Outcome::Posted(sent) => return Ok(sent.message.id),
                Outcome::Found(id) => return Ok(id),
                Outcome::Refused(problem) => return Err(Refusal::from_problem(*problem)),
            },
            Err(_) => {
                if let Some(id) = find(room, idempotency).await? {
                    return Ok(id);
                }
            }
        }
    }
}

/// The answer for a message that was posted before, after what this request waits for.
async fn replay(
    me: PeerId,
    room: &RoomHandle,
    send: &Send,
    id: MessageId,
    deadline: Instant,
) -> Result<SentMessage, Refusal> {
    let mut events = room.store.subscribe();
    let row = held(room, id).await?;
    let (mut pause, longest) = PAUSES;
    loop {
        let holders = holders(room, me, &row).await?;
        let complete = complete(me, room, send, &row, &holders).await?;
        let now = Instant::now();
        if complete || now >= deadline {
            let state = state(room, &holders, complete);
            return Ok(SentMessage { message: shown(&room.node.roster(), row), state });
        }
        // That it ran out is no error: the question is asked again.
        let _ = timeout_at(deadline.min(now + pause), delivery(&mut events, id)).await;
        pause = (pause * 2).min(longest);
    }
}

async fn complete(
    me: PeerId,
    room: &RoomHandle,
    send: &Send,
    row: &MessageRow,
    holders: &[PeerId],
) -> Result<bool, Refusal> {
    match send.wait {
        Wait::Stored => Ok(true),
        Wait::Replicated => Ok(holders.len() >= usize::try_from(send.copies).unwrap_or(usize::MAX)),
        Wait::Delivered if !row.to.is_empty() => Ok(row.to.iter().all(|peer| *peer == me || holders.contains(peer))),
        Wait::Delivered => {
            let Reply::Peers(peers) = room.node.command(Command::Peers).await? else {
                return Err(Refusal::strange_reply());
            };
            Ok(peers.iter().all(|view| view.me || !view.online || holders.contains(&view.peer.id)))
        }
    }
}

/// Returns when an event says that the message has come further, or may have.
async fn delivery(events: &mut broadcast::Receiver<Arc<StoredEvent>>, id: MessageId) {
    loop {
        match events.recv().await {
            Ok(event) => {
                if let StoredEventKind::Other(Event::Delivery { message, .. }) = &event.kind
                    && *message == id
                {
                    return;
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Send {
    /// What must be the same in a retry: the text and the recipients, not how long it is waited.
    fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(HASH_CONTEXT);
        for part in std::iter::once(&self.text).chain(&self.to) {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}
