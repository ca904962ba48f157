//! `GET /v1/events`: what happens, as SSE or as lines of JSON, from any place on, none missed and none twice.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chat_proto::error::ErrorCode;
use futures_util::stream;

use crate::http::auth::Connection;
use crate::http::events::encode::Format;
use crate::http::events::filter::Filter;
use crate::http::events::reader::Reader;
use crate::http::events::start::Start;
use crate::http::extract::Params;
use crate::http::problem::Refusal;
use crate::http::state::{Api, READERS_MAX};

mod encode;
mod filter;
mod reader;
mod start;

/// Opens a stream of events. It is pulled by the socket: a reader that does not read holds a page of events and nothing
/// that grows.
pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    let room = api.room()?;
    let start = Start::of(&headers, &params)?;
    let filter = Filter::of(&params, &room.node.roster())?;
    let format = Format::of(&headers);
    let place = Arc::clone(&api.readers).try_acquire_owned().map_err(|_| {
        Refusal::new(ErrorCode::Busy, format!("{READERS_MAX} event streams are open, and no more are allowed"))
            .hint("end one that is not needed, or read it through one stream and hand it on")
    })?;
    let opening = start.open(&room.store).await?;
    let reader = Reader::new(room, opening, filter, format, connection.ending, place);
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next_chunk().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    let headers = [(header::CONTENT_TYPE, format.media_type())];
    Ok((headers, Body::from_stream(chunks)).into_response())
}
