//! Offers: the holder lets another member take the role over.

use chat_proto::id::{PeerId, RoomId, Term};
use serde::{Deserialize, Serialize};

use crate::rendezvous::protocol::signed::Statement;

/// The holder offers the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) room: RoomId,
    /// The holder's term.
    pub(crate) term: Term,
    pub(crate) holder: PeerId,
    /// The peer that may take the role.
    pub(crate) heir: PeerId,
    pub(crate) purpose: Purpose,
}

/// Why the role is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// The holder leaves.
    Leaving,
    /// The heir is better connected.
    Better,
}

impl Statement for Offer {
    const CONTEXT: &'static [u8] = b"chatd role offer v1\0";

    fn room(&self) -> &RoomId {
        &self.room
    }

    fn author(&self) -> &PeerId {
        &self.holder
    }

    fn fits(&self) -> bool {
        self.heir != self.holder
    }
}
