//! `chat remove`: removes a member from the room, and those that it let in.

use std::collections::BTreeSet;

use chat_client::Client;
use chat_proto::api::peers::{PeerRef, PeerView};
use chat_proto::id::PeerId;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::completions;
use crate::error::CliError;
use crate::text::render::label;
use crate::text::ui;

/// Arguments of `chat remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The member: name, tag or key
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), add = completions::members())]
    name: String,
    /// Remove everyone that it let in, too, and whom those let in
    #[arg(long)]
    with_guests: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Removes the member.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: RemoveArgs, client: &Client) -> Result<(), CliError> {
    let peer = client.member(&args.name).await?;
    let guests = guests(peer.id, &client.peers().await?);
    let names: Vec<String> = guests.iter().map(|guest| label(&guest.name)).collect();
    let (name, names) = (label(&args.name), names.join(", "));
    let too = if args.with_guests && !guests.is_empty() { format!(" and {names}") } else { String::new() };
    if !args.yes && ui::can_ask() {
        ui::confirm(&format!("Remove {name}{too} from the room?"))?;
    }
    client.remove(&args.name).await?;
    if args.with_guests {
        for guest in &guests {
            client.remove(&guest.id.to_string()).await?;
        }
    }
    ui::say(&format!("removed {name}{too}: takes effect at each member once the removal has reached it"));
    if !args.with_guests && !guests.is_empty() {
        ui::say(&format!("{name} let in {names}: who is not to stay has to be removed, too"));
    }
    Ok(())
}

/// The members that a member let in, directly or through others, by name. This daemon's own peer is none of them.
fn guests(host: PeerId, peers: &[PeerView]) -> Vec<PeerRef> {
    let mut hosts = BTreeSet::from([host]);
    let mut found: Vec<PeerRef> = Vec::new();
    loop {
        let is_guest = |peer: &&PeerView| peer.let_in_by.as_ref().is_some_and(|by| hosts.contains(&by.id));
        let new: Vec<PeerRef> = peers
            .iter()
            .filter(is_guest)
            .filter(|peer| !peer.me && !hosts.contains(&peer.peer.id))
            .map(|peer| peer.peer.clone())
            .collect();
        if new.is_empty() {
            found.sort_by(|one, other| one.name.cmp(&other.name));
            return found;
        }
        hosts.extend(new.iter().map(|peer| peer.id));
        found.extend(new);
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::api::peers::{MemberRole, PathView, RoleView};

    use super::*;

    fn view(number: u8, name: &str, host: u8) -> PeerView {
        let peer = |number: u8, name: &str| {
            let id = PeerId::from_bytes([number; 32]);
            PeerRef { id, name: name.into(), tag: id.tag() }
        };
        PeerView {
            peer: peer(number, name),
            me: name == "me",
            online: false,
            path: PathView::None,
            rtt_ms: None,
            last_seen: None,
            role: RoleView::Member,
            rank: None,
            member: MemberRole::Member,
            clock_off_ms: None,
            let_in_by: Some(peer(host, "its host")),
            used: None,
            safety_words: None,
        }
    }

    #[test]
    fn guests_of_guests_are_guests_and_this_peer_is_none() {
        let peers = [view(4, "dan", 3), view(2, "me", 4), view(3, "carol", 5), view(5, "eve", 2)];
        let names = |host: u8| {
            let guests = guests(PeerId::from_bytes([host; 32]), &peers);
            guests.into_iter().map(|guest| guest.name).collect::<Vec<_>>()
        };
        assert_eq!(names(5), ["carol", "dan"]);
        assert_eq!(names(4), Vec::<String>::new());
    }
}
