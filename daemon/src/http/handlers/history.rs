//! `GET /v1/messages`: pages of history in the order that is the same at every peer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chat_proto::api::messages::MessagePage;
use chat_proto::id::MessageId;
use chat_proto::time::Timestamp;

use crate::http::api_state::Api;
use crate::http::extract::QueryParams;
use crate::http::handlers::messages::shown;
use crate::http::problem::Refusal;
use crate::store::tables::models::{Edge, HistoryFilter};

/// Messages in a page where nothing is said.
const LIMIT_DEFAULT: u32 = 100;

/// A page of history.
pub(crate) async fn history(State(api): State<Arc<Api>>, params: QueryParams) -> Result<Json<MessagePage>, Refusal> {
    let room = api.room()?;
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
    let messages = page.messages.into_iter().map(|row| shown(&roster, row)).collect();
    Ok(Json(MessagePage { messages, more: page.more }))
}

fn edge(params: &QueryParams, name: &str) -> Result<Option<Edge>, Refusal> {
    let Some(text) = params.text(name)? else { return Ok(None) };
    let message = text.parse::<MessageId>().map(Edge::Message).ok();
    let edge = message.or_else(|| text.parse::<Timestamp>().map(Edge::Time).ok());
    match edge {
        Some(edge) => Ok(Some(edge)),
        None => Err(Refusal::bad(format!("'{name}' is '{text}': expected a message id or a time"))
            .hint("a time is written like 2026-01-31T12:00:00Z, a message id like it stands in an answer")),
    }
}
