//! The admission protocol: what newcomer and member exchange before the room protocol may be spoken.
//!
//! The newcomer opens one stream on the admission ALPN and sends an [`AdmissionRequest`]. A ticket is proved by a
//! signature of its one-time key, so any member can check it while the inviter is away. Without a ticket the newcomer
//! *knocks*: both sides commit to random numbers before they see the other's (as in ZRTP, RFC 6189 section 4.4.1.1), so
//! that an attacker between them cannot choose keys that give both sides the same words.

use std::net::SocketAddr;

use chat_proto::id::{InviteId, PeerId, RoomId};
use chat_proto::ticket::Ticket;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::log::signature::{self, SignatureBytes};
use crate::peers::addrs::AddrRecord;

/// ALPN of admission: the only protocol strangers reach.
pub const ADMISSION_ALPN: &[u8] = b"chatd/admission/1";

/// Maximum length of a message of the admission protocol, in bytes (64 KiB): an answer carries addresses of many
/// members.
pub const ADMISSION_BYTES_MAX: usize = 64 * 1024;

/// Context of a ticket's signature.
const TICKET_CONTEXT: &[u8] = b"chatd ticket v1\0";

/// The newcomer's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdmissionRequest {
    /// Admission by ticket.
    Ticket {
        /// The room it names.
        room: RoomId,
        /// Name to be known by.
        name: String,
        /// Public half of the ticket's key.
        key: InviteId,
        /// That key's signature over room, newcomer and name ([`ticket_request`]).
        signature: SignatureBytes,
    },
    /// Admission by a member's decision.
    Knock {
        /// Name to be known by.
        name: String,
        /// BLAKE3 hash of the nonce that is revealed after the member's.
        commitment: [u8; 32],
    },
}

/// What the member sends back; `Challenge` and `Waiting` are followed by more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdmissionAnswer {
    /// The member's nonce; the newcomer answers with [`Reveal`].
    Challenge {
        /// Random.
        nonce: [u8; 32],
        /// The room that would be joined.
        room: RoomId,
    },
    /// A member has to run `chat admit`.
    Waiting,
    /// The newcomer is a member now.
    Admitted(Admitted),
    /// No.
    Denied(DenyReason),
}

/// The newcomer's nonce, sent after the member's arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reveal {
    /// The number whose hash was the commitment.
    pub nonce: [u8; 32],
}

/// What a new member needs to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The room.
    pub room: RoomId,
    /// Its name, to show until the log has arrived.
    pub room_name: String,
    /// Whether every knock is admitted.
    pub open: bool,
    /// Members and where they can be reached, the answering one first; at most [`Admitted::MEMBERS_MAX`].
    pub members: Vec<AddrRecord>,
    /// The address at which the newcomer is seen, so that it can announce it.
    pub observed: Option<SocketAddr>,
}

impl Admitted {
    /// Maximum number of address records in one answer; the rest arrives over the room protocol.
    pub const MEMBERS_MAX: usize = 64;
}

/// Why an admission is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum DenyReason {
    /// The ticket is of another room.
    #[error("this is another room than the ticket's")]
    OtherRoom,
    /// No such invite, or its signature does not hold.
    #[error("the ticket is not known here, ask for a new one")]
    UnknownInvite,
    /// The invite has ended.
    #[error("the ticket has expired, ask for a new one")]
    Expired,
    /// The invite was revoked.
    #[error("the ticket was revoked, ask for a new one")]
    Revoked,
    /// The invite was used the maximum number of times.
    #[error("the ticket is used up, ask for a new one")]
    UsedUp,
    /// A member refused.
    #[error("a member refused the knock")]
    Refused,
    /// Removed members stay out until an admin admits them.
    #[error("this peer was removed from the room, only an admin can let it in again")]
    Removed,
    /// The name breaks the rules.
    #[error("the name is not allowed, use 1 to 32 letters, digits, '-', '_' or '.'")]
    BadName,
    /// Too many knocks wait, or too many came from there.
    #[error("too many knocks are waiting, try again in a minute")]
    Busy,
    /// The member itself has no room yet, or its disk is full.
    #[error("that peer cannot admit newcomers now, try another member")]
    NotReady,
    /// No member answered the knock in time.
    #[error("no member answered the knock, ask one to run 'chat knocks' and try again")]
    TimedOut,
}

/// What a ticket's key signs: this newcomer joins this room under this name.
fn ticket_statement(room: &RoomId, newcomer: &PeerId, name: &str) -> Vec<u8> {
    [room.as_bytes(), newcomer.as_bytes(), name.as_bytes()].concat()
}

/// Signs the admission of a newcomer with a ticket's key.
pub(crate) fn sign_ticket(key: &SigningKey, room: &RoomId, newcomer: &PeerId, name: &str) -> SignatureBytes {
    signature::sign(key, TICKET_CONTEXT, &ticket_statement(room, newcomer, name))
}

/// The request that shows a ticket.
pub fn ticket_request(ticket: &Ticket, newcomer: &PeerId, name: &str) -> AdmissionRequest {
    let key = SigningKey::from_bytes(&ticket.seed);
    AdmissionRequest::Ticket {
        room: ticket.room,
        name: name.to_owned(),
        key: InviteId::from_bytes(key.verifying_key().to_bytes()),
        signature: sign_ticket(&key, &ticket.room, newcomer, name),
    }
}

/// Whether the holder of the ticket's key signed this newcomer's admission.
pub fn ticket_holds(key: &InviteId, room: &RoomId, newcomer: &PeerId, name: &str, signature: SignatureBytes) -> bool {
    signature::holds(key.as_bytes(), TICKET_CONTEXT, &ticket_statement(room, newcomer, name), signature)
}

/// What the newcomer commits to before it sees the member's nonce.
pub fn commitment(nonce: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key("chatd 2026 knock commitment v1", nonce)
}

/// The words both sides show: three pronounceable groups of 16 bits (proquints, arXiv:0901.4016). Because of the
/// commitment before them, an attacker in between has one try in 2^48.
pub fn words(
    room: &RoomId,
    newcomer: &PeerId,
    member: &PeerId,
    newcomer_nonce: &[u8; 32],
    member_nonce: &[u8; 32],
) -> String {
    let parts: [&[u8]; 5] = [room.as_bytes(), newcomer.as_bytes(), member.as_bytes(), newcomer_nonce, member_nonce];
    let hash = blake3::derive_key("chatd 2026 knock words v1", &parts.concat());
    let group = |n: usize| proquint(u16::from_be_bytes([hash[2 * n], hash[2 * n + 1]]));
    format!("{}-{}-{}", group(0), group(1), group(2))
}

/// The words that two members compare over another channel to see that each has the other's key: six groups of 16 bits. Both see the
/// same. There is no commitment before them, so they are longer than those of a knock: an attacker that wants a key with the same words tries
/// 2^96.
pub fn safety_words(room: &RoomId, one: &PeerId, other: &PeerId) -> String {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let parts: [&[u8]; 3] = [room.as_bytes(), first.as_bytes(), second.as_bytes()];
    let hash = blake3::derive_key("chatd 2026 safety words v1", &parts.concat());
    let groups: Vec<String> =
        hash.chunks_exact(2).take(6).map(|pair| proquint(u16::from_be_bytes([pair[0], pair[1]]))).collect();
    groups.join("-")
}

fn proquint(bits: u16) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let consonant = |shift: u16| char::from(CONSONANTS[usize::from(bits >> shift & 15)]);
    let vowel = |shift: u16| char::from(VOWELS[usize::from(bits >> shift & 3)]);
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_proto::time::Timestamp;

    #[test]
    fn proquints_are_those_of_the_paper() {
        assert_eq!(proquint(0x7F00), "lusab");
        assert_eq!(proquint(0x0001), "babad");
    }

    #[test]
    fn a_ticket_lets_in_whom_it_names_and_nobody_else() {
        let room = RoomId::from_bytes([1; 32]);
        let newcomer = PeerId::from_bytes([2; 32]);
        let ticket =
            Ticket { room, room_name: "lab".into(), peers: Vec::new(), seed: [3; 32], expires: Timestamp::from_ms(1) };
        let AdmissionRequest::Ticket { key, signature, .. } = ticket_request(&ticket, &newcomer, "bob") else {
            panic!("a ticket request");
        };
        assert!(ticket_holds(&key, &room, &newcomer, "bob", signature));
        assert!(!ticket_holds(&key, &room, &newcomer, "eve", signature));
        assert!(!ticket_holds(&key, &room, &PeerId::from_bytes([4; 32]), "bob", signature));
        assert!(!ticket_holds(&key, &RoomId::from_bytes([5; 32]), &newcomer, "bob", signature));
    }

    #[test]
    fn safety_words_are_the_same_for_both_and_for_no_other_pair() {
        let (room, other) = (RoomId::from_bytes([1; 32]), RoomId::from_bytes([9; 32]));
        let [ann, bob, eve] = [2, 3, 4].map(|n| PeerId::from_bytes([n; 32]));
        let seen = safety_words(&room, &ann, &bob);
        assert_eq!(seen, safety_words(&room, &bob, &ann));
        assert_eq!(seen.split('-').count(), 6);
        assert_ne!(seen, safety_words(&room, &ann, &eve));
        assert_ne!(seen, safety_words(&other, &ann, &bob));
    }

    #[test]
    fn words_depend_on_everything_both_sides_know() {
        let room = RoomId::from_bytes([1; 32]);
        let (ann, bob) = (PeerId::from_bytes([2; 32]), PeerId::from_bytes([3; 32]));
        let base = words(&room, &ann, &bob, &[4; 32], &[5; 32]);
        assert_eq!(base, words(&room, &ann, &bob, &[4; 32], &[5; 32]));
        assert_ne!(base, words(&room, &bob, &ann, &[4; 32], &[5; 32]));
        assert_ne!(base, words(&room, &ann, &bob, &[6; 32], &[5; 32]));
        assert_ne!(base, words(&room, &ann, &bob, &[4; 32], &[6; 32]));
    }
}
