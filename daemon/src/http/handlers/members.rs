//! Membership: knocks, removal, roles, name, join, leave, nearby rooms.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chat_core::input::{Command, Verdict};
use chat_core::output::Reply;
use chat_proto::api::members::{JoinRequest, Joined, KnockAnswer, KnockList, MemberRoleRequest, NameRequest, RoomList};
use chat_proto::api::peers::{MemberRole, PeerRef};
use chat_proto::error::ErrorCode;
use chat_proto::id::KnockId;
use chat_proto::text::check_member_name;

use crate::http::api_state::Api;
use crate::http::daemon_control::AdminSuccession;
use crate::http::extract::{JsonBody, PathSegment, QueryParams};
use crate::http::problem::Refusal;
use crate::net::JoinTarget;

/// Peers that ask to be admitted, oldest first.
pub(crate) async fn knocks(State(api): State<Arc<Api>>) -> Result<Json<KnockList>, Refusal> {
    let Reply::Knocks(mut knocks) = api.room().await?.node.command(Command::Knocks).await? else {
        return Err(Refusal::strange_reply());
    };
    knocks.sort_by_key(|knock| (knock.since, knock.id));
    Ok(Json(KnockList { knocks }))
}

/// Admits or denies a peer.
pub(crate) async fn answer_knock(
    State(api): State<Arc<Api>>,
    PathSegment(id): PathSegment,
    JsonBody(answer): JsonBody<KnockAnswer>,
) -> Result<StatusCode, Refusal> {
    let id: KnockId = id.parse()?;
    let verdict = if answer.admit { Verdict::Yes } else { Verdict::No };
    api.room().await?.node.command(Command::AnswerKnock(id, verdict)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The member or former member that a name, tag or key means.
pub(crate) async fn get(State(api): State<Arc<Api>>, PathSegment(name): PathSegment) -> Result<Json<PeerRef>, Refusal> {
    let roster = api.room().await?.node.roster();
    Ok(Json(roster.peer_ref(&roster.resolve_ever(&name)?)))
}

/// Removes a member, given by name, tag or key.
pub(crate) async fn remove(State(api): State<Arc<Api>>, PathSegment(who): PathSegment) -> Result<StatusCode, Refusal> {
    let room = api.room().await?;
    let peer = room.node.roster().resolve(&who)?;
    if peer == api.me {
        return Err(Refusal::new(ErrorCode::LeaveInstead, "a member cannot remove itself")
            .hint("'chat leave' leaves the room for good"));
    }
    room.node.command(Command::Remove(peer)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accepts the member that bears a name now, where the name has moved to it.
pub(crate) async fn trust(
    State(api): State<Arc<Api>>,
    PathSegment(name): PathSegment,
) -> Result<Json<PeerRef>, Refusal> {
    Ok(Json(api.room().await?.sender.trust(&name).await?))
}

/// Grants or revokes admin rights of a member, given by name, tag or key.
pub(crate) async fn set_role(
    State(api): State<Arc<Api>>,
    PathSegment(who): PathSegment,
    JsonBody(request): JsonBody<MemberRoleRequest>,
) -> Result<StatusCode, Refusal> {
    let admin = match request.role {
        MemberRole::Admin => Verdict::Yes,
        MemberRole::Member => Verdict::No,
    };
    let room = api.room().await?;
    let roster = room.node.roster();
    let peer = roster.resolve(&who)?;
    if admin == Verdict::No && peer == api.me && roster.is_last_admin(&peer) {
        return Err(Refusal::last_admin(
            "you are the only admin: without you no member could remove others or appoint admins",
        ));
    }
    room.node.command(Command::SetAdmin(peer, admin)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes this peer's name.
pub(crate) async fn rename(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<NameRequest>,
) -> Result<StatusCode, Refusal> {
    check_member_name(&request.name)?;
    api.room().await?.node.command(Command::Rename(request.name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Moves a daemon that is alone in its room to another room. A daemon without a room may join, too.
pub(crate) async fn join(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<JoinRequest>,
) -> Result<Json<Joined>, Refusal> {
    let target = JoinTarget::parse(&request.target)?;
    if let Some(name) = &request.name {
        check_member_name(name)?;
    }
    Ok(Json(api.process.join(target, request.name).await?))
}

/// Leaves the room for good.
pub(crate) async fn leave(State(api): State<Arc<Api>>, query: QueryParams) -> Result<StatusCode, Refusal> {
    let succession = match query.text("force")? {
        Some("true") => AdminSuccession::Waived,
        None | Some("false") => AdminSuccession::Required,
        Some(_) => return Err(Refusal::bad("'force' is neither true nor false")),
    };
    api.process.leave(succession).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rooms found on the local network, by name.
pub(crate) async fn rooms(State(api): State<Arc<Api>>) -> Json<RoomList> {
    let mut rooms = api.process.rooms();
    rooms.sort_by_cached_key(|near| (near.room.name.to_lowercase(), near.room.id, near.peer));
    Json(RoomList { rooms })
}
