//! Tickets: the line of text that admits a peer to a room.
//!
//! A ticket is `chat1` followed by base 32 (RFC 4648, lower case, no padding) of the postcard encoding of [`Ticket`] and
//! four bytes of its BLAKE3 hash, which detect a mistyped or truncated line before any peer is dialled. It carries the seed of
//! the invite's one-time key: anyone who has the ticket can join, so it is a secret and [`Ticket`]'s `Debug` hides the seed.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use crate::id::{PeerId, RoomId};
use crate::time::Timestamp;

/// Maximum number of members whose addresses a ticket carries.
pub const TICKET_PEERS_MAX: usize = 8;

/// Maximum number of addresses per member in a ticket.
pub const TICKET_ADDRS_MAX: usize = 8;

/// Maximum length of a text that is parsed: a full ticket has about 2,400 characters.
const TICKET_CHARS_MAX: usize = 8 * 1024;

const PREFIX: &str = "chat1";

/// What makes a ticket a link.
const LINK_PREFIX: &str = "chat://join/";
const CHECKSUM_BYTES: usize = 4;

/// An invite, and the addresses of members that can admit its bearer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The room.
    pub room: RoomId,
    /// The room's name when the ticket was written; for display.
    pub room_name: String,
    /// Members and their addresses when the ticket was written; 1 to [`TICKET_PEERS_MAX`].
    pub peers: Vec<TicketPeer>,
    /// Seed of the invite's one-time ed25519 key.
    pub seed: [u8; 32],
    /// When the invite expires.
    pub expires: Timestamp,
}

/// A member and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketPeer {
    /// The member.
    pub peer: PeerId,
    /// Its addresses; at most [`TICKET_ADDRS_MAX`].
    pub addrs: Vec<SocketAddr>,
}

/// Why a text is not a ticket. Nothing was changed; the same text will fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTicketError {
    /// It does not start with `chat1`.
    #[error("not a ticket: a ticket starts with 'chat1', get one with 'chat invite' on a member's machine")]
    Prefix,
    /// Characters outside base 32, or far too long.
    #[error("the ticket contains invalid characters: copy the whole ticket, and nothing else")]
    Characters,
    /// The checksum does not match.
    #[error("the ticket is incomplete or mistyped: copy the whole line again")]
    Checksum,
    /// The checksum matches, but the content is of another version or out of bounds.
    #[error("the ticket was written by another version of chatd: update, or ask for a new one")]
    Content,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = postcard::to_stdvec(self).map_err(|_| fmt::Error)?;
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl Ticket {
    /// The ticket as a link. Upper case means the same, and makes smaller QR codes.
    pub fn link(text: &str) -> String {
        format!("{LINK_PREFIX}{text}")
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("room", &self.room)
            .field("peers", &self.peers)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl FromStr for Ticket {
    type Err = ParseTicketError;

    /// White space anywhere is ignored: terminals and mail programs fold long lines. A link is taken, too.
    fn from_str(text: &str) -> Result<Self, ParseTicketError> {
        let text = text.trim();
        let is_link = text.get(..LINK_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(LINK_PREFIX));
        let text = if is_link { text[LINK_PREFIX.len()..].trim_end_matches('/') } else { text };
        if text.len() > TICKET_CHARS_MAX && text.trim_start().get(..PREFIX.len()).is_some_and(|start| start == PREFIX) {
            return Err(ParseTicketError::Characters);
        }
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let prefixed = text.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
        if !prefixed {
            return Err(ParseTicketError::Prefix);
        }
        if text.len() > TICKET_CHARS_MAX {
            return Err(ParseTicketError::Characters);
        }
        let upper = text[PREFIX.len()..].to_ascii_uppercase();
        let bytes = BASE32_NOPAD.decode(upper.as_bytes()).map_err(|error| match error.kind {
            data_encoding::DecodeKind::Symbol => ParseTicketError::Characters,
            data_encoding::DecodeKind::Length
            | data_encoding::DecodeKind::Trailing
            | data_encoding::DecodeKind::Padding => ParseTicketError::Checksum,
        })?;
        let split = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(ParseTicketError::Checksum)?;
        let (content, checksum) = bytes.split_at(split);
        if &blake3::hash(content).as_bytes()[..CHECKSUM_BYTES] != checksum {
            return Err(ParseTicketError::Checksum);
        }
        let ticket: Self = postcard::from_bytes(content).map_err(|_| ParseTicketError::Content)?;
        let addrs_fit = ticket.peers.iter().all(|peer| peer.addrs.len() <= TICKET_ADDRS_MAX);
        let peers_fit = (1..=TICKET_PEERS_MAX).contains(&ticket.peers.len());
        if addrs_fit && peers_fit { Ok(ticket) } else { Err(ParseTicketError::Content) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket(seed: [u8; 32], peers: usize) -> Ticket {
        let peer = |n: usize| TicketPeer {
            peer: PeerId::from_bytes([n as u8; 32]),
            addrs: vec![SocketAddr::from(([192, 0, 2, n as u8], 24283)), "[2001:db8::1]:9".parse().expect("valid")],
        };
        Ticket {
            room: RoomId::from_bytes([9; 32]),
            room_name: "lab".into(),
            peers: (0..peers).map(peer).collect(),
            seed,
            expires: Timestamp::from_ms(1_790_000_000_000),
        }
    }

    proptest! {
        #[test]
        fn ticket_displayed_parses_back(seed: [u8; 32], peers in 1..=TICKET_PEERS_MAX) {
            let ticket = ticket(seed, peers);
            let text = ticket.to_string();
            prop_assert_eq!(text.parse::<Ticket>(), Ok(ticket.clone()));
            prop_assert_eq!(format!(" {}\n", text.to_ascii_uppercase()).parse::<Ticket>(), Ok(ticket.clone()));
            let link = Ticket::link(&text);
            prop_assert_eq!(link.parse::<Ticket>(), Ok(ticket.clone()));
            prop_assert_eq!(format!("{}/\n", link.to_ascii_uppercase()).parse::<Ticket>(), Ok(ticket.clone()));
            let folded: Vec<String> = text.as_bytes().chunks(40).map(|part| String::from_utf8_lossy(part).into()).collect();
            prop_assert_eq!(folded.join("\r\n  ").parse::<Ticket>(), Ok(ticket));
        }

        #[test]
        fn ticket_with_one_wrong_character_is_rejected(at in 5..200usize, to in "[a-z2-7]") {
            let text = ticket([3; 32], 2).to_string();
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, &to);
            prop_assume!(wrong != text);
            prop_assert!(wrong.parse::<Ticket>().is_err());
        }

        #[test]
        fn arbitrary_text_parses_without_panic(text: String) {
            let _ = text.parse::<Ticket>();
            let _ = format!("chat1{text}").parse::<Ticket>();
            let _ = format!("chat://join/{text}").parse::<Ticket>();
        }
    }

    #[test]
    fn ticket_debug_output_hides_the_seed() {
        assert!(!format!("{:?}", ticket([0xAB; 32], 1)).to_lowercase().contains("171, 171"));
    }

    #[test]
    fn stored_ticket_of_version_1_still_parses() {
        let stored = include_str!("../fixtures/ticket-v1.txt");
        assert_eq!(stored.parse::<Ticket>(), Ok(ticket([5; 32], 2)));
    }
}
