//! `chat revoke`: ends an invite before its time.

use chat_client::Client;
use chat_proto::id::InviteId;
use clap::Args;

use crate::error::CommandError;
use crate::text::ui;

/// Arguments of `chat revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The invite's id, or a prefix of it that is unique
    #[arg(value_name = "ID")]
    id: String,
}

/// Revokes the invite.
///
/// # Errors
/// Says how the call failed, or that no single invite has that id.
pub(crate) async fn run(args: RevokeArgs, client: &Client) -> Result<(), CommandError> {
    let id = match args.id.parse::<InviteId>() {
        Ok(id) => id,
        Err(_) => {
            let invites = client.invites().await?;
            one(invites.iter().map(|invite| invite.id), &args.id)?
        }
    };
    client.revoke(id).await?;
    ui::say(&format!("revoked {}: its ticket no longer admits anyone", id.short()));
    Ok(())
}

fn one(ids: impl Iterator<Item = InviteId>, prefix: &str) -> Result<InviteId, CommandError> {
    let lower = prefix.to_ascii_lowercase();
    let mut found = ids.filter(|id| !lower.is_empty() && id.to_string().starts_with(&lower));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(CommandError::UnknownInvite(prefix.to_owned())),
        (Some(_), Some(_)) => Err(CommandError::AmbiguousInvite(prefix.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_selects_one_invite_or_none() {
        let ids = [InviteId::from_bytes([0x11; 32]), InviteId::from_bytes([0x12; 32])];
        assert_eq!(one(ids.into_iter(), "12").ok(), Some(ids[1]));
        assert!(matches!(one(ids.into_iter(), "1"), Err(CommandError::AmbiguousInvite(_))));
        assert!(matches!(one(ids.into_iter(), ""), Err(CommandError::UnknownInvite(_))));
        assert!(matches!(one(ids.into_iter(), "x"), Err(CommandError::UnknownInvite(_))));
    }
}
