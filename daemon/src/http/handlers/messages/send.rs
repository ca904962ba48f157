//! Carries out a send: checks it, seals a direct message, hands it to the room.

use std::sync::Arc;
use std::time::Duration;

use chat_core::input::Command;
use chat_core::log::entry::MessageBody;
use chat_core::membership::roster::Roster;
use chat_core::output::{CommandError, Reply};
use chat_proto::RECIPIENTS_MAX;
use chat_proto::api::in_range;
use chat_proto::api::messages::{Message, SEND_COPIES, SEND_TIMEOUT_MS, SendRequest, SentMessage, Wait};
use chat_proto::error::ErrorCode;
use chat_proto::id::PeerId;
use chat_proto::text::check_text;
use tokio::time::{Instant, sleep};

use crate::http::api_state::RoomHandle;
use crate::http::handlers::messages::state;
use crate::http::problem::Refusal;
use crate::store::error::SealError;
use crate::store::tables::models::DmKeys;
use crate::store::tables::models::Idempotency;

/// Wait where nothing is said, in milliseconds.
const TIMEOUT_DEFAULT_MS: u64 = 10_000;

/// How long the keys of a new member are waited for: they come in milliseconds, or not before it is online again.
const KEYS_MAX: Duration = Duration::from_secs(1);

/// Pause between two looks for them.
const KEYS_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Something to say, checked as far as that goes without the room.
#[derive(Clone, Debug)]
pub(crate) struct Send {
    pub(super) text: String,
    pub(super) to: Vec<String>,
    pub(super) wait: Wait,
    pub(super) copies: u32,
    pub(super) timeout: Duration,
}

impl Send {
    /// Checks what can be checked without the room.
    pub(crate) fn check(request: SendRequest) -> Result<Self, Refusal> {
        let SendRequest { text, to, wait, copies, timeout_ms } = request;
        check_text(&text)?;
        if to.len() > RECIPIENTS_MAX {
            let detail = format!("{} recipients are given and at most {RECIPIENTS_MAX} fit", to.len());
            return Err(Refusal::new(ErrorCode::TooLong, detail).hint("leave 'to' out to reach the whole room"));
        }
        if copies.is_some() && wait != Wait::Replicated {
            return Err(Refusal::bad("'copies' goes with \"wait\": \"replicated\""));
        }
        let copies = in_range("copies", copies, SEND_COPIES, 1)?;
        let timeout_ms = in_range("timeout_ms", timeout_ms, SEND_TIMEOUT_MS, TIMEOUT_DEFAULT_MS)?;
        Ok(Self { text, to, wait, copies, timeout: Duration::from_millis(timeout_ms) })
    }

    /// Posts it and waits for what is to be waited for.
    pub(crate) async fn carry_out(
        &self,
        me: PeerId,
        room: &RoomHandle,
        idempotency: Option<Idempotency>,
    ) -> Result<SentMessage, Refusal> {
        let (roster, recipients) = self.recipients(me, room).await?;
        let to = recipients.iter().map(|(peer, _)| roster.peer_ref(peer)).collect();
        let body = if self.to.is_empty() {
            MessageBody::Text(self.text.clone())
        } else {
            room.store.seal(recipients, self.text.clone()).await?
        };
        let post = Command::Post { body, wait: self.wait, copies: self.copies, timeout: self.timeout };
        let Reply::Posted { id, time, mut held_by, complete } = room.node.request(post, idempotency).await? else {
            return Err(Refusal::strange_reply());
        };
        held_by.retain(|peer| *peer != me);
        let message = Message { id, time, from: roster.peer_ref(&me), to, text: self.text.clone() };
        Ok(SentMessage { message, state: state(room, &held_by, complete) })
    }

    /// Who shall be able to read. Keys that are on their way are waited for a little: a member is seen a moment before its
    /// first entries, which hold them, have arrived.
    async fn recipients(&self, me: PeerId, room: &RoomHandle) -> Result<(Arc<Roster>, Vec<(PeerId, DmKeys)>), Refusal> {
        let deadline = Instant::now() + self.timeout.min(KEYS_MAX);
        loop {
            let roster = room.node.roster();
            match recipients(&roster, me, &self.to) {
                Ok(found) => return Ok((roster, found)),
                Err(refusal) if refusal.problem().code == ErrorCode::NoKeys && Instant::now() < deadline => {
                    sleep(KEYS_LOOK_EVERY).await;
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }
}

/// Who shall be able to read, with the keys to seal for them. The sender is left out: it can read anyway.
fn recipients(roster: &Roster, me: PeerId, names: &[String]) -> Result<Vec<(PeerId, DmKeys)>, Refusal> {
    // Before a session is advanced for nothing.
    if !roster.is_member(&me) {
        return Err(CommandError::NotMember.into());
    }
    let mut found: Vec<(PeerId, DmKeys)> = Vec::new();
    for name in names {
        let peer = roster.resolve(name)?;
        if peer == me || found.iter().any(|(known, _)| *known == peer) {
            continue;
        }
        let keys = roster.people.get(&peer).and_then(|person| person.keys);
        let (identity, fallback) = keys.ok_or_else(|| {
            let shown = roster.peer_ref(&peer).name;
            Refusal::new(ErrorCode::NoKeys, format!("'{shown}' has not published keys for direct messages yet"))
                .hint("its keys come with its first entries: try again when it has been online")
        })?;
        found.push((peer, DmKeys { identity, fallback }));
    }
    if found.is_empty() && !names.is_empty() { Err(SealError::Recipients.into()) } else { Ok(found) }
}
