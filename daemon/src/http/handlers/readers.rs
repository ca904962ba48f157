//! `GET` and `PUT /v1/readers/{name}`: where clients left off reading.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chat_proto::api::readers::ReadMark;
use chat_proto::error::ErrorCode;
use chat_proto::id::RoomId;
use chat_proto::text::check_recorded_name;

use crate::http::api_state::Api;
use crate::http::extract::{JsonBody, PathSegment};
use crate::http::handlers::status::node_status;
use crate::http::problem::Refusal;

/// The last message that a reader has read.
pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    PathSegment(name): PathSegment,
) -> Result<Json<ReadMark>, Refusal> {
    let room = room_of(&api, &name).await?;
    Ok(Json(ReadMark { message: api.marks.get(room, &name) }))
}

/// Notes the last message that a reader has read.
pub(crate) async fn put(
    State(api): State<Arc<Api>>,
    PathSegment(name): PathSegment,
    JsonBody(mark): JsonBody<ReadMark>,
) -> Result<StatusCode, Refusal> {
    let room = room_of(&api, &name).await?;
    let kept = tokio::task::spawn_blocking(move || api.marks.set(room, &name, mark.message)).await;
    match kept {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(error)) if error.kind() == io::ErrorKind::StorageFull => {
            Err(Refusal::new(ErrorCode::DiskFull, "the disk is full: the mark is not kept"))
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot keep the marks of readers");
            Err(Refusal::new(ErrorCode::Internal, "the mark cannot be kept"))
        }
        Err(_) => Err(Refusal::new(ErrorCode::Internal, "the mark cannot be kept")),
    }
}

async fn room_of(api: &Api, name: &str) -> Result<RoomId, Refusal> {
    check_recorded_name("reader", name).map_err(|error| Refusal::bad(error.to_string()))?;
    Ok(node_status(&*api.room().await?).await?.room.id)
}
