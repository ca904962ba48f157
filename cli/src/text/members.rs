//! Finds the member that somebody typed a name, tag or key for.

use chat_proto::api::peers::{PeerList, PeerRef, PeerView};

use crate::client::Client;
use crate::error::CommandError;

/// Every member of the room.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn list(client: &mut Client) -> Result<Vec<PeerView>, CommandError> {
    Ok(client.get::<PeerList>("/v1/peers").await?.peers)
}

/// The member that is meant.
///
/// # Errors
/// When there is none, or several could be meant.
pub(crate) async fn find(client: &mut Client, typed: &str) -> Result<PeerRef, CommandError> {
    let peers = list(client).await?;
    let mut meant = peers.into_iter().map(|view| view.peer).filter(|peer| is_meant(peer, typed));
    match (meant.next(), meant.next()) {
        (Some(peer), None) => Ok(peer),
        (None, _) => Err(CommandError::UnknownMember(typed.to_owned())),
        (Some(_), Some(_)) => Err(CommandError::AmbiguousMember(typed.to_owned())),
    }
}

fn is_meant(peer: &PeerRef, typed: &str) -> bool {
    let typed = typed.strip_prefix('@').unwrap_or(typed).to_lowercase();
    let name = peer.name.to_lowercase();
    let tag = peer.tag.to_string();
    typed == name || typed == tag || typed == format!("{name}~{tag}") || typed == peer.id.to_string()
}

#[cfg(test)]
mod tests {
    use chat_proto::id::PeerId;

    use super::*;

    #[test]
    fn a_member_has_a_name_a_tag_and_a_key() {
        let id = PeerId::from_bytes([7; 32]);
        let peer = PeerRef { id, name: "Bob".into(), tag: id.tag() };
        for typed in ["bob", "@Bob", &id.tag().to_string(), &format!("bob~{}", id.tag()), &id.to_string()] {
            assert!(is_meant(&peer, typed), "{typed}");
        }
        for typed in ["", "@", "bobby", "~", &id.tag().to_string()[..7]] {
            assert!(!is_meant(&peer, typed), "{typed}");
        }
    }
}
