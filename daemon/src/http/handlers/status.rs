//! `GET /healthz`, `GET /v1/status`, `POST /v1/shutdown`: state of the daemon, and its shutdown.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chat_core::input::Command;
use chat_core::output::{NodeStatus, Reply};
use chat_proto::api::status::{Reachability, Status};

use crate::http::api_state::{Api, RoomHandle};
use crate::http::problem::Refusal;

/// Liveness check. Reveals nothing else: every user of the machine can call it.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// State of the daemon, its peer and its room.
pub(crate) async fn status(State(api): State<Arc<Api>>) -> Result<Json<Status>, Refusal> {
    let room = api.room().await?;
    let node = node_status(&room).await?;
    let network = api.process.network();
    let roster = room.node.roster();
    Ok(Json(Status {
        peer: roster.peer_ref(&api.me),
        removed: roster.is_former_member(&api.me),
        room: node.room,
        role: node.role,
        rendezvous: node.rendezvous,
        members: node.members,
        members_online: node.online,
        messages: room.store.messages_count(),
        damaged_entries: room.store.damaged_count(),
        missing_entries: node.missing_entries,
        reachability: Reachability {
            port: network.port,
            addrs: network.addrs,
            observed: node.observed,
            inbound: node.inbound,
        },
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        started_at: api.started_at,
        home: api.home.to_string_lossy().into_owned(),
        clock_off_ms: node.clock_off_ms,
    }))
}

/// The node's part of the status: room and role.
pub(crate) async fn node_status(room: &RoomHandle) -> Result<NodeStatus, Refusal> {
    let Reply::Status(status) = room.node.command(Command::Status).await? else {
        return Err(Refusal::strange_reply());
    };
    Ok(status)
}

/// Starts the orderly shutdown.
pub(crate) async fn shutdown(State(api): State<Arc<Api>>) -> StatusCode {
    tracing::info!("a caller of the local API requested the shutdown");
    api.process.shutdown();
    StatusCode::ACCEPTED
}
