//! Decides whether a start with `--join` is compatible with the room that the home is in.
//!
//! A home is in one room at a time. A start with `--join` in a home that already has a room either means the same room
//! (nothing to do), or moves, where this peer was always alone in it (as when the daemon was started before the ticket
//! came), or is refused with the command that leaves: what was said there would be out of sight. An address does not say
//! which room is behind it; a home in a shared room then starts as usual and notes that the address was not asked.
//!
//! Two callers ask: [`open_room`](super::open_room) with the room on disk, and [`daemon`](super::daemon) with the room of
//! the daemon that is already running. Pure functions; a ticket is a secret and never part of a message.

use chat_core::log::entry::{Control, Entry, Hlc, LogId, SignedEntry};
use chat_proto::id::RoomId;

use crate::app::home::Home;
use crate::net::JoinTarget;

/// The room of a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HomeRoom {
    /// Which.
    pub(crate) id: RoomId,
    /// Its name.
    pub(crate) name: String,
    /// Whether other peers were ever members.
    pub(crate) occupancy: Occupancy,
}

/// Whether a room ever had other members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupancy {
    /// It never had: its contents are this peer's own.
    Alone,
    /// It had or has.
    Shared,
}

/// What a start does about its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JoinDecision {
    /// It stays in the room of the home. The note is for the user, where the target is not asked.
    Stays(Option<String>),
    /// It asks the target, and moves there once it is admitted.
    Moves,
}

/// Why a home does not join: it is in another room, with other members. Nothing was changed; a retry does not help.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this home is already in the room '{room}': run '{leave}' to leave it for good, or give --home with another directory to be in both"
)]
pub(crate) struct JoinRefused {
    /// The room it is in.
    room: String,
    /// The command that leaves it.
    leave: String,
}

/// Checks the target of `--join` against the room that the home is in.
///
/// # Errors
/// [`JoinRefused`], when the target is another room.
pub(crate) fn check(target: &JoinTarget, room: &HomeRoom, home: &Home) -> Result<JoinDecision, JoinRefused> {
    let same = match target {
        JoinTarget::Ticket(ticket) => Some(ticket.room == room.id),
        JoinTarget::Address { .. } | JoinTarget::Name(_) => None,
    };
    match (same, room.occupancy) {
        (Some(true), _) => Ok(JoinDecision::Stays(None)),
        (None, Occupancy::Shared) => Ok(JoinDecision::Stays(Some(format!(
            "this home is already in the room '{}', so {target} was not asked to admit it",
            room.name
        )))),
        (Some(false), Occupancy::Shared) => {
            Err(JoinRefused { room: room.name.clone(), leave: home.command("chat leave") })
        }
        (Some(false) | None, Occupancy::Alone) => Ok(JoinDecision::Moves),
    }
}

/// The note of a start that moved.
pub(crate) fn moved_from(room: &str) -> String {
    format!("moved from the room '{room}', in which this peer was alone: its files are kept beside room.db")
}

/// Whether the control entries of a room admit a peer besides its founder.
pub(crate) fn occupancy(controls: &[(LogId, SignedEntry, Hlc)]) -> Occupancy {
    let admits = |(_, signed, _): &(LogId, SignedEntry, Hlc)| {
        Entry::from_trusted(signed.clone()).is_ok_and(|entry| matches!(entry.control(), Some(Control::Admit { .. })))
    };
    // A peer that was just admitted holds no entry yet.
    if controls.is_empty() || controls.iter().any(admits) { Occupancy::Shared } else { Occupancy::Alone }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chat_proto::ticket::Ticket;
    use chat_proto::time::Timestamp;

    use super::*;

    fn room(occupancy: Occupancy) -> HomeRoom {
        HomeRoom { id: RoomId::from_bytes([1; 32]), name: "lab".into(), occupancy }
    }

    fn ticket(room: u8) -> JoinTarget {
        JoinTarget::Ticket(Box::new(Ticket {
            room: RoomId::from_bytes([room; 32]),
            room_name: "lab".into(),
            peers: Vec::new(),
            seed: [0; 32],
            expires: Timestamp::from_ms(0),
        }))
    }

    fn decide(target: &JoinTarget, occupancy: Occupancy) -> Result<JoinDecision, JoinRefused> {
        check(target, &room(occupancy), &Home::locate(Some(Path::new("/h")), |_| None).expect("known"))
    }

    #[test]
    fn home_that_is_in_the_room_already_stays() {
        for occupancy in [Occupancy::Alone, Occupancy::Shared] {
            assert_eq!(decide(&ticket(1), occupancy), Ok(JoinDecision::Stays(None)));
        }
        let host = JoinTarget::parse("192.0.2.7").expect("an address");
        let Ok(JoinDecision::Stays(Some(note))) = decide(&host, Occupancy::Shared) else { panic!("no note") };
        assert!(note.contains("192.0.2.7:24283"), "{note}");
    }

    #[test]
    fn home_that_is_in_another_room_moves_only_if_it_was_alone() {
        let text = decide(&ticket(2), Occupancy::Shared).expect_err("refused").to_string();
        assert!(text.contains("'chat leave --home /h'"), "{text}");
        let host = JoinTarget::parse("192.0.2.7").expect("an address");
        for target in [ticket(2), host] {
            assert_eq!(decide(&target, Occupancy::Alone), Ok(JoinDecision::Moves));
        }
    }
}
