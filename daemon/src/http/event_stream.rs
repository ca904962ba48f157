//! `GET /v1/events`: the event stream, as SSE or as lines of JSON, resumable at any cursor.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chat_proto::error::ErrorCode;
use futures_util::stream;

use crate::http::api_state::{Api, READERS_MAX};
use crate::http::auth::CallerConnection;
use crate::http::event_stream::encode::StreamFormat;
use crate::http::event_stream::event_filter::EventFilter;
use crate::http::event_stream::start_point::StartPoint;
use crate::http::event_stream::stream_reader::StreamReader;
use crate::http::extract::QueryParams;
use crate::http::problem::Refusal;

mod encode;
mod event_filter;
mod start_point;
mod stream_reader;

/// Opens an event stream. The socket pulls it: a client that does not read holds one page of events and nothing that
/// grows.
pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    Extension(connection): Extension<CallerConnection>,
    headers: HeaderMap,
    params: QueryParams,
) -> Result<Response, Refusal> {
    let room = api.room().await?;
    let start = StartPoint::of(&headers, &params)?;
    let filter = EventFilter::of(&params, &room.node.roster())?;
    let format = StreamFormat::of(&headers);
    let place = Arc::clone(&api.readers).try_acquire_owned().map_err(|_| {
        Refusal::new(ErrorCode::Busy, format!("{READERS_MAX} event streams are open, the maximum"))
            .hint("close one that is not needed, or share one stream between the readers")
    })?;
    let opening = start.open(&room.store).await?;
    let reader = StreamReader::new(room, opening, filter, format, &connection, place);
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next_chunk().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    let headers = [(header::CONTENT_TYPE, format.media_type())];
    Ok((headers, Body::from_stream(chunks)).into_response())
}
