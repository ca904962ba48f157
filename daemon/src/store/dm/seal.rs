//! Seals a text: once per recipient with its session, and keeps the sender's copy until the entry is written.
//!
//! For each recipient the session that was used last with its published identity key advances by one message; if there
//! is none, a new one is opened from the published keys. The sender cannot decrypt what it sealed, so the text waits in
//! `dm_outbox` under a hash of the sealed body; when the entry with that body is inserted, [`take_own`] moves the text
//! into the message's row. A text whose entry never comes is pruned after a day.
//!
//! Invariants: the body is returned only after the advanced sessions are committed, so that no message key is used
//! twice; an error changes nothing; a recipient is sealed for once, and never the sender.
//!
//! Called by the writer: [`seal`] for [`Store::seal`](crate::store::Store::seal), [`take_own`] when an own message is
//! inserted.

use std::time::Duration;

use chat_core::config::ENTRY_BYTES_MAX;
use chat_core::log::entry::{MessageBody, SealedBox};
use chat_proto::RECIPIENTS_MAX;
use chat_proto::id::{MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use vodozemac::Curve25519PublicKey;

use super::plaintext::Plaintext;
use super::sessions::{self, PeerSession, SessionUse};
use super::unseal::OpenedMessage;
use super::{account, lost_state};
use crate::store::error::SealError;
use crate::store::tables::messages::{id_bytes, id_of_bytes};
use crate::store::tables::models::DmKeys;
use crate::store::tables::row_ids::peer_row;
use crate::store::tables::sql_types::counted;
use crate::store::types::Secret;

/// How long the text of a sealed message waits for its entry: far longer than posting takes.
const WAITS: Duration = Duration::from_secs(24 * 60 * 60);

/// A direct message to seal.
#[derive(Clone, Debug)]
pub(in crate::store) struct SealRequest {
    pub(in crate::store) to: Vec<(PeerId, DmKeys)>,
    pub(in crate::store) text: String,
    /// The message that it answers.
    pub(in crate::store) reply_to: Option<MessageId>,
}

/// Seals a text. The outer error is one of the database; the inner one refuses the request and changes nothing.
pub(in crate::store) fn seal(
    connection: &Connection,
    secret: &Secret,
    me: PeerId,
    room: Option<RoomId>,
    request: &SealRequest,
    now: Timestamp,
) -> rusqlite::Result<Result<MessageBody, SealError>> {
    let (to, room) = match check(me, room, request) {
        Ok(checked) => checked,
        Err(error) => return Ok(Err(error)),
    };
    let recipients = to.iter().map(|(peer, _)| *peer).collect();
    let inside = Plaintext::new(room, me, recipients, request.text.clone(), request.reply_to);

    let (mut boxes, mut advanced) = (Vec::new(), Vec::new());
    for (to, keys) in to {
        let peer = peer_row(connection, &to)?;
        let Ok(inside) = inside.encode(keys.sealing) else { return Ok(Err(SealError::TooLong)) };
        let held = match sessions::sendable(connection, secret, peer, &keys)? {
            Some(held) => Some(held),
            None => open_session(connection, secret, &keys)?,
        };
        let sealed = held.and_then(|mut held| held.session.encrypt(&inside).ok().map(|message| (held, message)));
        let Some((held, message)) = sealed else { return Ok(Err(SealError::BadKeys(to))) };
        let (kind, ciphertext) = message.to_parts();
        boxes.push(SealedBox { to, kind: u8::try_from(kind).unwrap_or(u8::MAX), ciphertext });
        advanced.push((peer, held));
    }
    let body = MessageBody::Sealed(boxes);
    let Some(name) = name(&body) else { return Ok(Err(SealError::TooLong)) };
    for (peer, held) in &advanced {
        sessions::save(connection, secret, *peer, held, SessionUse::Sealed)?;
    }
    let sql = "INSERT INTO dm_outbox (body, at, text, reply) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let reply = request.reply_to.map(id_bytes);
    connection.prepare_cached(sql)?.execute(params![name, counted(now.as_ms()), request.text, reply])?;
    Ok(Ok(body))
}

type Recipients = Vec<(PeerId, DmKeys)>;

fn check(me: PeerId, room: Option<RoomId>, request: &SealRequest) -> Result<(Recipients, RoomId), SealError> {
    chat_proto::text::check_text(&request.text)?;
    let mut to = Recipients::new();
    for (peer, keys) in &request.to {
        if *peer != me && !to.iter().any(|(known, _)| known == peer) {
            to.push((*peer, *keys));
        }
    }
    if !(1..=RECIPIENTS_MAX).contains(&to.len()) {
        return Err(SealError::Recipients);
    }
    Ok((to, room.ok_or(SealError::NoRoom)?))
}

fn open_session(connection: &Connection, secret: &Secret, keys: &DmKeys) -> rusqlite::Result<Option<PeerSession>> {
    let Some(account) = account::load(connection, secret)? else { return Ok(None) };
    let identity = Curve25519PublicKey::from_bytes(keys.identity);
    let fallback = Curve25519PublicKey::from_bytes(keys.fallback);
    let opened = account
        .create_outbound_session(sessions::config(keys.sealing), identity, fallback)
        .inspect_err(|error| lost_state("published keys", error));
    Ok(opened.ok().map(|session| PeerSession { session, identity: keys.identity }))
}

/// Hash that names a sealed body until its entry is written; `None` if it does not fit into an entry.
fn name(body: &MessageBody) -> Option<[u8; 32]> {
    let raw = postcard::to_stdvec(body).ok().filter(|raw| raw.len() <= ENTRY_BYTES_MAX)?;
    Some(blake3::derive_key("chatd 2026 sealed body v1", &raw))
}

/// Takes the text of a message that this peer sealed out of the outbox.
pub(in crate::store) fn take_own(
    connection: &Connection,
    body: &MessageBody,
) -> rusqlite::Result<Option<OpenedMessage>> {
    let Some(name) = name(body) else { return Ok(None) };
    let opened = |row: &Row<'_>| {
        let reply: Option<Vec<u8>> = row.get(1)?;
        Ok(OpenedMessage { text: row.get(0)?, reply_to: reply.and_then(|raw| id_of_bytes(&raw)) })
    };
    connection
        .prepare_cached("DELETE FROM dm_outbox WHERE body = ? RETURNING text, reply")?
        .query_row([name], opened)
        .optional()
}

/// Deletes texts whose entries never came.
pub(in crate::store) fn prune_outbox(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let too_old = counted(now.before(WAITS).as_ms());
    connection.execute("DELETE FROM dm_outbox WHERE at < ?", [too_old])?;
    Ok(())
}
