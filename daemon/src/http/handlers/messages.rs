//! `POST /v1/messages` and `GET /v1/messages/{id}`: saying something, and how far it has come.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chat_core::input::Command;
use chat_core::membership::roster::Roster;
use chat_core::output::Reply;
use chat_proto::api::messages::{Message, MessageState, SendRequest, SentMessage};
use chat_proto::error::ErrorCode;
use chat_proto::id::{MessageId, PeerId};

use crate::http::api_state::{Api, RoomHandle};
use crate::http::extract::{JsonBody, PathSegment};
use crate::http::handlers::messages::send::Send;
use crate::http::problem::Refusal;
use crate::store::error::ReadError;
use crate::store::tables::models::MessageRow;

mod retry;
mod send;

pub(crate) use retry::Posts;

/// Says something: 201 with the message when what was to be waited for has come, 202 when the wait ran out, 200 when a
/// request with the same key has posted it before.
pub(crate) async fn post(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<SendRequest>,
) -> Result<Response, Refusal> {
    let key = retry::key(&headers)?;
    let send = Send::check(request)?;
    let room = api.room()?;
    let (status, sent) = match key {
        None => (StatusCode::CREATED, send.carry_out(api.me, &room, None).await?),
        Some(key) => retry::post_once(&api, room, send, key).await?,
    };
    let status = if sent.state.complete { status } else { StatusCode::ACCEPTED };
    let location = format!("/v1/messages/{}", sent.message.id);
    Ok((status, [(header::LOCATION, location)], Json(sent)).into_response())
}

/// A message and who holds it.
pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    PathSegment(id): PathSegment,
) -> Result<Json<SentMessage>, Refusal> {
    let id: MessageId = id.parse()?;
    let room = api.room()?;
    let row = held(&room, id).await?;
    let holders = holders(&room, api.me, &row).await?;
    let state = state(&room, &holders, true);
    Ok(Json(SentMessage { message: shown(&room.node.roster(), row), state }))
}

/// The message of this id.
async fn held(room: &RoomHandle, id: MessageId) -> Result<MessageRow, Refusal> {
    let row = room.store.message(id).await?;
    row.ok_or_else(|| ReadError::UnknownMessage(id).into())
}

/// Other peers that are known to hold a message on disk.
async fn holders(room: &RoomHandle, me: PeerId, row: &MessageRow) -> Result<Vec<PeerId>, Refusal> {
    let Reply::Holders(mut peers) = room.node.command(Command::Holders(row.log, row.seq)).await? else {
        return Err(Refusal::strange_reply());
    };
    peers.retain(|peer| *peer != me);
    Ok(peers)
}

/// How far a message has come that these peers hold.
fn state(room: &RoomHandle, holders: &[PeerId], complete: bool) -> MessageState {
    let roster = room.node.roster();
    MessageState {
        stored: true,
        copies: u32::try_from(holders.len()).unwrap_or(u32::MAX),
        held_by: holders.iter().map(|peer| roster.peer_ref(peer)).collect(),
        complete,
    }
}

/// A message as it is shown, with the names its people have now.
pub(crate) fn shown(roster: &Roster, row: MessageRow) -> Message {
    Message {
        id: row.id,
        time: row.time.wall(),
        from: roster.peer_ref(&row.log.author),
        to: row.to.iter().map(|peer| roster.peer_ref(peer)).collect(),
        text: row.text,
    }
}

/// A key that was used for something else before.
fn key_reused() -> Refusal {
    Refusal::new(ErrorCode::KeyReused, "this Idempotency-Key was used with another text or other recipients")
        .hint("use a new key for each message, and the same key only to retry")
}
