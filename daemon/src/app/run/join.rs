//! Whether what `--join` names goes together with the room that a home is in.

use chat_core::log::entry::{Control, Entry, SignedEntry};
use chat_proto::id::RoomId;

use crate::app::home::Home;
use crate::net::JoinTarget;

/// The room that a home is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HomeRoom {
    /// Which.
    pub(crate) id: RoomId,
    /// Its name.
    pub(crate) name: String,
    /// Who else was ever in it.
    pub(crate) company: Occupancy,
}

/// Whether a peer was ever with others in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupancy {
    /// Never: what is in the room is this peer's alone.
    Alone,
    /// It was or is.
    Others,
}

/// Why a home does not join. Nothing was changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinRefused {
    /// It is in another room, with others.
    #[error(
        "this home is in the room '{room}' already: run '{leave}' to leave it for good, or say --home with another directory to be in both"
    )]
    OtherRoom {
        /// The room it is in.
        room: String,
        /// The command that leaves it.
        leave: String,
    },
    /// It is in a room of its own.
    #[error(
        "this home is in the room '{room}' already, where nobody else is: start it without --join and run '{join}' to move"
    )]
    OwnRoom {
        /// The room it is in.
        room: String,
        /// The command that moves.
        join: String,
    },
}

/// Checks what `--join` names against the room that the home is in: to join where one is already is done. What is
/// behind an address is not known, so a home that is in a room with others starts there, and the note says so.
///
/// # Errors
/// When another room is meant.
pub(crate) fn check(target: &JoinTarget, room: &HomeRoom, home: &Home) -> Result<Option<String>, JoinRefused> {
    let same = match target {
        JoinTarget::Ticket(ticket) => Some(ticket.room == room.id),
        JoinTarget::Address { .. } => None,
    };
    match (same, room.company) {
        (Some(true), _) => Ok(None),
        (None, Occupancy::Others) => Ok(Some(format!(
            "this home is in the room '{}' already, so {target} was not asked to let it in",
            room.name
        ))),
        (Some(false), Occupancy::Others) => {
            Err(JoinRefused::OtherRoom { room: room.name.clone(), leave: home.command("chat leave") })
        }
        (Some(false) | None, Occupancy::Alone) => {
            let target = match target {
                JoinTarget::Ticket(_) => "TICKET".to_owned(),
                JoinTarget::Address { .. } => target.to_string(),
            };
            let join = home.command(&format!("chat join {target}"));
            Err(JoinRefused::OwnRoom { room: room.name.clone(), join })
        }
    }
}

/// Whether the control entries of a room let anybody in besides its founder.
pub(crate) fn company(controls: &[SignedEntry]) -> Occupancy {
    let admits = |signed: &SignedEntry| {
        Entry::from_trusted(signed.clone()).is_ok_and(|entry| matches!(entry.control(), Some(Control::Admit { .. })))
    };
    // A peer that was just let in holds no entry yet, and is with those who let it in.
    if controls.is_empty() || controls.iter().any(admits) { Occupancy::Others } else { Occupancy::Alone }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chat_proto::ticket::Ticket;
    use chat_proto::time::Timestamp;

    use super::*;

    fn room(company: Occupancy) -> HomeRoom {
        HomeRoom { id: RoomId::from_bytes([1; 32]), name: "lab".into(), company }
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

    fn decide(target: &JoinTarget, company: Occupancy) -> Result<Option<String>, JoinRefused> {
        check(target, &room(company), &Home::locate(Some(Path::new("/h")), |_| None).expect("known"))
    }

    #[test]
    fn joining_again_is_done_already() {
        for company in [Occupancy::Alone, Occupancy::Others] {
            assert_eq!(decide(&ticket(1), company), Ok(None));
        }
        let host = JoinTarget::parse("192.0.2.7").expect("an address");
        let note = decide(&host, Occupancy::Others).expect("starts").expect("a note");
        assert!(note.contains("192.0.2.7:24283"), "{note}");
    }

    #[test]
    fn another_room_is_refused_with_what_to_do() {
        let text = decide(&ticket(2), Occupancy::Others).expect_err("refused").to_string();
        assert!(text.contains("'chat leave --home /h'"), "{text}");
        let text = decide(&ticket(2), Occupancy::Alone).expect_err("refused").to_string();
        assert!(text.contains("'chat join TICKET --home /h'"), "a ticket is a secret and is not repeated: {text}");
        let host = JoinTarget::parse("192.0.2.7").expect("an address");
        let text = decide(&host, Occupancy::Alone).expect_err("refused").to_string();
        assert!(text.contains("'chat join 192.0.2.7:24283 --home /h'"), "{text}");
    }
}
