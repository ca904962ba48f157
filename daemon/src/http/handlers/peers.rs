//! `GET /v1/peers` and `GET /v1/rendezvous`: the members, and the holder of the rendezvous role.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chat_core::input::Command;
use chat_core::output::Reply;
use chat_proto::api::peers::PeerList;
use chat_proto::api::rendezvous::RendezvousView;

use crate::http::api_state::Api;
use crate::http::problem::Refusal;

/// Every member, this peer first, then by name.
pub(crate) async fn peers(State(api): State<Arc<Api>>) -> Result<Json<PeerList>, Refusal> {
    let Reply::Peers(list) = api.room().await?.node.command(Command::Peers).await? else {
        return Err(Refusal::strange_reply());
    };
    Ok(Json(list))
}

/// The rendezvous role as this peer knows it.
pub(crate) async fn rendezvous(State(api): State<Arc<Api>>) -> Result<Json<RendezvousView>, Refusal> {
    let Reply::Rendezvous(rendezvous) = api.room().await?.node.command(Command::Rendezvous).await? else {
        return Err(Refusal::strange_reply());
    };
    Ok(Json(*rendezvous))
}
