//! `POST`, `GET` and `DELETE /v1/invites`: tickets that admit peers.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use chat_core::input::Command;
use chat_core::output::{CommandError, Reply};
use chat_proto::api::in_range;
use chat_proto::api::invites::{INVITE_EXPIRES_MS, INVITE_USES, Invite, InviteList, InviteRequest, NewInvite};
use chat_proto::id::InviteId;
use chat_proto::time::Timestamp;

use crate::clock::wall_clock;
use crate::http::api_state::{Api, RoomHandle};
use crate::http::extract::{OptionalJsonBody, PathSegment};
use crate::http::problem::Refusal;

/// Validity of an invite if the request names none: 7 days.
const EXPIRES_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Number of peers that an invite admits if the request names none.
const USES_DEFAULT: u32 = 1_000;

/// Minimum number of digits that identify an invite: fewer are more likely a mistake.
const PREFIX_CHARS_MIN: usize = 4;

/// Creates an invite and shows its ticket, only this once.
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    OptionalJsonBody(request): OptionalJsonBody<InviteRequest>,
) -> Result<impl IntoResponse, Refusal> {
    let default = u64::try_from(EXPIRES_DEFAULT.as_millis()).unwrap_or(u64::MAX);
    let expires_ms = in_range("expires_ms", request.expires_ms, INVITE_EXPIRES_MS, default)?;
    let uses = in_range("uses", request.uses, INVITE_USES, USES_DEFAULT)?;
    let expires = Timestamp::from_ms(wall_clock().as_ms().saturating_add(expires_ms));
    let Reply::Invited(invite, ticket) = api.room().await?.node.command(Command::Invite { expires, uses }).await?
    else {
        return Err(Refusal::strange_reply());
    };
    let location = format!("/v1/invites/{}", invite.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(NewInvite { invite, ticket: ticket.to_string() })))
}

/// Every invite to the room, newest first.
pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Json<InviteList>, Refusal> {
    Ok(Json(InviteList { invites: invites(&*api.room().await?).await? }))
}

/// Revokes an invite, identified by its id or the first digits of it.
pub(crate) async fn revoke(
    State(api): State<Arc<Api>>,
    PathSegment(given): PathSegment,
) -> Result<StatusCode, Refusal> {
    let room = api.room().await?;
    let id = find(&invites(&room).await?, &given)?;
    room.node.command(Command::Revoke(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn invites(room: &RoomHandle) -> Result<Vec<Invite>, Refusal> {
    let Reply::Invites(invites) = room.node.command(Command::Invites).await? else {
        return Err(Refusal::strange_reply());
    };
    Ok(invites)
}

/// The invite with these first digits. One that is not revoked takes precedence.
fn find(invites: &[Invite], given: &str) -> Result<InviteId, Refusal> {
    let given = given.to_ascii_lowercase();
    if given.len() < PREFIX_CHARS_MIN || !given.bytes().all(|b| b.is_ascii_hexdigit()) {
        let detail =
            format!("'{given}' is not an invite: give at least {PREFIX_CHARS_MIN} hexadecimal digits of its id");
        return Err(Refusal::bad(detail).hint("'chat invites' lists the invites"));
    }
    let found: Vec<&Invite> = invites.iter().filter(|invite| invite.id.to_string().starts_with(&given)).collect();
    let lasting: Vec<&Invite> = found.iter().copied().filter(|invite| !invite.revoked).collect();
    match (lasting.as_slice(), found.as_slice()) {
        ([one], _) | ([], [one]) => Ok(one.id),
        ([], []) => Err(CommandError::UnknownInvite.into()),
        (_, _) => Err(Refusal::bad(format!("'{given}' matches {} invites", lasting.len().max(found.len())))
            .hint("give more digits of the id")),
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::api::peers::PeerRef;
    use chat_proto::error::ErrorCode;
    use chat_proto::id::PeerId;

    use super::*;

    fn invite(id: [u8; 2], revoked: bool) -> Invite {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&id);
        let by = PeerId::from_bytes([1; 32]);
        let time = Timestamp::from_ms(1);
        Invite {
            id: InviteId::from_bytes(bytes),
            by: PeerRef { id: by, name: "ann".into(), tag: by.tag() },
            created: time,
            expires: time,
            uses: 1,
            used: 0,
            revoked,
        }
    }

    #[test]
    fn invite_is_found_by_the_first_digits_of_its_id() {
        let all = [invite([0xab, 0xcd], false), invite([0xab, 0xce], false), invite([0xff, 0xff], true)];
        assert_eq!(find(&all, "abcd").map_err(|r| r.problem().code), Ok(all[0].id));
        assert_eq!(find(&all, &all[1].id.to_string().to_uppercase()).map_err(|r| r.problem().code), Ok(all[1].id));
        assert_eq!(find(&all, "ffff").map_err(|r| r.problem().code), Ok(all[2].id));
        for (given, code) in [
            ("0000", ErrorCode::NotFound),
            ("abc", ErrorCode::BadRequest),
            ("xyzw", ErrorCode::BadRequest),
            ("", ErrorCode::BadRequest),
        ] {
            assert_eq!(find(&all, given).map_err(|r| r.problem().code), Err(code), "{given:?}");
        }
    }

    #[test]
    fn ambiguous_invite_is_rejected_unless_one_is_revoked() {
        let mut all = [invite([0xab, 0xcd], false), invite([0xab, 0xcd], false)];
        all[1].id = InviteId::from_bytes([&[0xab, 0xcd][..], &[9; 30]].concat().try_into().expect("32 bytes"));
        assert_eq!(find(&all, "abcd").map_err(|r| r.problem().code), Err(ErrorCode::BadRequest));
        all[1].revoked = true;
        assert_eq!(find(&all, "abcd").map_err(|r| r.problem().code), Ok(all[0].id));
    }
}
