//! `POST /v1/messages`, `GET /v1/messages/{id}` and `GET /v1/messages`: sending, one message, pages of history.

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chat_proto::api::messages::{MessagePage, SEND_LINE_MAX, SendRequest, SentMessage};
use chat_proto::id::MessageId;
use chat_proto::time::Timestamp;

use crate::http::api_state::Api;
use crate::http::auth::CallerConnection;
use crate::http::extract::{JsonBody, LINES, PathSegment, QueryParams, header_text, media_type};
use crate::http::handlers::message_lines;
use crate::http::problem::Refusal;
use crate::send::{IdempotencyKey, PostedBy, Sent, ValidMessage, message_view};
use crate::store::tables::models::{Edge, HistoryFilter};

/// Number of messages in a page if the query names none.
const LIMIT_DEFAULT: u32 = 100;

/// Sends a message, or, from a body of lines, any number of them.
pub(crate) async fn post(
    State(api): State<Arc<Api>>,
    Extension(connection): Extension<CallerConnection>,
    request: Request,
) -> Result<Response, Refusal> {
    let key = header_text(request.headers(), "idempotency-key")?;
    let line = QueryParams::of(request.uri())?.number("line", 1, u64::from(SEND_LINE_MAX))?;
    if media_type(request.headers()) == LINES {
        let lines = (key.map(str::to_owned), line.unwrap_or(1));
        return message_lines::post(&api, &connection, lines, request.into_body()).await;
    }
    if line.is_some() {
        return Err(Refusal::bad("'line' is the number of the first of several lines")
            .hint("send 'Content-Type: application/x-ndjson', or leave 'line' out"));
    }
    let key = key.map(IdempotencyKey::parse).transpose()?;
    let JsonBody(request) = JsonBody::<SendRequest>::from_request(request, &()).await?;
    let message = ValidMessage::validate(request)?;
    let sent = api.room().await?.sender.send(message, key, &api.tasks).await?;
    let status = status_of(&sent);
    let location = format!("/v1/messages/{}", sent.message.message.id);
    Ok((status, [(header::LOCATION, location)], Json(sent.message)).into_response())
}

/// 201 if the wait is complete, 202 if it timed out, 200 if a request with the same key had posted it.
pub(crate) fn status_of(sent: &Sent) -> StatusCode {
    match sent.posted {
        _ if !sent.message.state.complete => StatusCode::ACCEPTED,
        PostedBy::ThisRequest => StatusCode::CREATED,
        PostedBy::EarlierRequest => StatusCode::OK,
    }
}

/// A message and the peers that store it.
pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    PathSegment(id): PathSegment,
) -> Result<Json<SentMessage>, Refusal> {
    let id: MessageId = id.parse()?;
    Ok(Json(api.room().await?.sender.find(id).await?))
}

/// A page of history, in the order that is the same at every peer.
pub(crate) async fn history(State(api): State<Arc<Api>>, params: QueryParams) -> Result<Json<MessagePage>, Refusal> {
    let room = api.room().await?;
    let roster = room.node.roster();
    let who =
        |name| -> Result<_, Refusal> { Ok(params.text(name)?.map(|text| roster.resolve_ever(text)).transpose()?) };
    let filter = HistoryFilter {
        before: edge(&params, "before")?,
        after: edge(&params, "after")?,
        limit: params.number("limit", 1, HistoryFilter::LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT),
        from: who("from")?,
        with: who("with")?,
        words: params.text("q")?.map(str::to_owned),
    };
    let page = room.store.history(filter).await?;
    let cursors = page.messages.iter().map(|row| room.store.cursor(row.event)).collect();
    let messages = page.messages.into_iter().map(|row| message_view(&roster, row)).collect();
    Ok(Json(MessagePage { messages, cursors, more: page.more }))
}

fn edge(params: &QueryParams, name: &str) -> Result<Option<Edge>, Refusal> {
    let Some(text) = params.text(name)? else { return Ok(None) };
    let message = text.parse::<MessageId>().map(Edge::Message).ok();
    let edge = message.or_else(|| text.parse::<Timestamp>().map(Edge::Time).ok());
    match edge {
        Some(edge) => Ok(Some(edge)),
        None => Err(Refusal::bad(format!("'{name}' is '{text}': expected a message id or a time"))
            .hint("a time is written like 2026-01-31T12:00:00Z, a message id as in an answer")),
    }
}
