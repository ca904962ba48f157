//! Resolves a typed name, tag or key to a member.

use chat_client::Client;
use chat_proto::api::peers::PeerRef;

use crate::error::CommandError;

/// The member with this name, `name~tag`, tag or key.
///
/// # Errors
/// When there is none, or there are several.
pub(crate) async fn find(client: &Client, typed: &str) -> Result<PeerRef, CommandError> {
    let peers = client.peers().await?;
    let mut found = peers.into_iter().map(|view| view.peer).filter(|peer| matches_typed(peer, typed));
    match (found.next(), found.next()) {
        (Some(peer), None) => Ok(peer),
        (None, _) => Err(CommandError::UnknownMember(typed.to_owned())),
        (Some(_), Some(_)) => Err(CommandError::AmbiguousMember(typed.to_owned())),
    }
}

fn matches_typed(peer: &PeerRef, typed: &str) -> bool {
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
    fn member_is_found_by_name_tag_and_key() {
        let id = PeerId::from_bytes([7; 32]);
        let peer = PeerRef { id, name: "Bob".into(), tag: id.tag() };
        for typed in ["bob", "@Bob", &id.tag().to_string(), &format!("bob~{}", id.tag()), &id.to_string()] {
            assert!(matches_typed(&peer, typed), "{typed}");
        }
        for typed in ["", "@", "bobby", "~", &id.tag().to_string()[..7]] {
            assert!(!matches_typed(&peer, typed), "{typed}");
        }
    }
}
