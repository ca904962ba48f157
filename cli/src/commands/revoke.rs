//! `chat revoke`: ends an invite before its time.

use chat_proto::api::invites::InviteList;
use chat_proto::id::InviteId;
use clap::Args;

use crate::client::{Call, Client};
use crate::error::CommandError;
use crate::text::ui;

/// Arguments of `chat revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The invite's id, or as much of its beginning as no other shares
    #[arg(value_name = "ID")]
    id: String,
}

/// Revokes the invite.
///
/// # Errors
/// Says how the call failed, or that the id does not name one invite.
pub(crate) async fn run(args: RevokeArgs, client: &mut Client) -> Result<(), CommandError> {
    let id = match args.id.parse::<InviteId>() {
        Ok(id) => id,
        Err(_) => {
            let invites = client.get::<InviteList>("/v1/invites").await?.invites;
            one(invites.iter().map(|invite| invite.id), &args.id)?
        }
    };
    client.call(&Call::delete(format!("/v1/invites/{id}"))).await?;
    ui::say(&format!("revoked {}: its ticket lets nobody in any more", id.short()));
    Ok(())
}

fn one(ids: impl Iterator<Item = InviteId>, beginning: &str) -> Result<InviteId, CommandError> {
    let lower = beginning.to_ascii_lowercase();
    let mut meant = ids.filter(|id| !lower.is_empty() && id.to_string().starts_with(&lower));
    match (meant.next(), meant.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(CommandError::UnknownInvite(beginning.to_owned())),
        (Some(_), Some(_)) => Err(CommandError::AmbiguousInvite(beginning.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_names_one_invite_or_none() {
        let ids = [InviteId::from_bytes([0x11; 32]), InviteId::from_bytes([0x12; 32])];
        assert_eq!(one(ids.into_iter(), "12").ok(), Some(ids[1]));
        assert!(matches!(one(ids.into_iter(), "1"), Err(CommandError::AmbiguousInvite(_))));
        assert!(matches!(one(ids.into_iter(), ""), Err(CommandError::UnknownInvite(_))));
        assert!(matches!(one(ids.into_iter(), "x"), Err(CommandError::UnknownInvite(_))));
    }
}
