//! What the room tells the role, and what the role wants done.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::api::rendezvous::{ChangeReason, HolderChange};
use chat_proto::id::{PeerId, Term};
use chat_proto::time::Timestamp;

use crate::input::PathInfo;
use crate::membership::roster::Roster;

/// Something happened that concerns the role.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleInput {
    /// A frame of the role arrived from a connected member.
    Frame(PeerId, Vec<u8>),
    /// A connection stands; replaces an earlier one to the same peer.
    Up(PeerId, PathInfo),
    /// Its path changed or was measured again.
    Path(PeerId, PathInfo),
    /// A connection ended.
    Down(PeerId),
    /// The peer said that it leaves; its connection is about to end.
    Bye(PeerId),
    /// Who is a member and who was one. Give it before the first connection and whenever it changes.
    Members {
        /// Members now.
        active: BTreeSet<PeerId>,
        /// Former members: their past claims stay in the history.
        former: BTreeSet<PeerId>,
    },
    /// The members believed connected to this peer, directly or through others; with or without itself.
    Online(BTreeSet<PeerId>),
    /// Addresses of this peer: its own and those at which others see it.
    Addrs(Vec<SocketAddr>),
    /// The TCP watch to this peer stands.
    WatchOpened(PeerId),
    /// It could not be opened.
    WatchFailed(PeerId),
    /// The other side's kernel closed it.
    WatchClosed(PeerId),
    /// A probe has ended.
    Probed(PeerId, ProbeOutcome),
    /// Nothing is read from the network for now: the silence of others says nothing about them.
    Deaf,
    /// This peer is about to stop or leave: hand over. Answered by [`RoleOutput::Released`] within a second.
    Leave,
    /// The time of [`Rendezvous::poll_timeout`](super::Rendezvous::poll_timeout) has come.
    Tick,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The peer answered, and with its own key.
    Answered {
        /// At which address.
        addr: SocketAddr,
        /// How long it took.
        rtt: Duration,
    },
    /// It did not answer at any of these addresses.
    Unanswered(Vec<SocketAddr>),
}

/// Something to do, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleOutput {
    /// Send a frame of the role to these connected peers; where a queue is full it may be dropped.
    Send {
        /// To whom; no peer twice.
        to: Vec<PeerId>,
        /// The bytes for [`Frame::Role`](crate::wire::Frame::Role).
        frame: Bytes,
        /// How it is best carried.
        delivery: Delivery,
    },
    /// Open a plain TCP connection to a port of this peer's process that accepts and says nothing, and tell when it is
    /// closed. Replaces an earlier one to the same peer.
    OpenWatch(PeerId),
    /// Close it; no further word about it is needed.
    CloseWatch(PeerId),
    /// Knock at the peer's known addresses from a fresh UDP socket, without any relay, and end it within 3 s with
    /// [`RoleInput::Probed`]. At most one in [`RoleSettings::sample`](super::settings::RoleSettings::sample).
    Probe(PeerId),
    /// Whether this peer shall run the relay, where it can be reached at all.
    Relay(Switch),
    /// Stay connected to these peers, dial them where needed: the holder and those on its list. At most six.
    Keep(BTreeSet<PeerId>),
    /// The holder is declared gone and nobody has followed yet: cut what depends on it.
    Vacant {
        /// Who held the role.
        holder: PeerId,
        /// The term that ended.
        term: Term,
    },
    /// The holder that was declared gone lives after all, and nobody has followed: turn the relay forwarder back to it.
    Back {
        /// Who holds the role.
        holder: PeerId,
        /// Its term, which goes on.
        term: Term,
    },
    /// Somebody holds the role: publish the event, turn the relay forwarder to it.
    Changed(Change),
    /// The role is handed over, or was not held: this peer may go.
    Released,
    /// The peer broke the protocol of the role: disconnect it.
    Fault(PeerId, RoleFault),
}

/// How a frame is best carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In order and without loss, as every other frame.
    Stream,
    /// As a datagram where the connection has them, otherwise like the others: a heartbeat that waits behind the
    /// repetition of a lost one looks like a dead holder.
    Datagram,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Let it run.
    On,
    /// Let it end.
    Off,
}

/// The role moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The term that began.
    pub term: Term,
    /// Who held the role before.
    pub from: Option<PeerId>,
    /// Who holds it now.
    pub to: PeerId,
    /// When this peer learned of it.
    pub at: Timestamp,
    /// Why.
    pub reason: ChangeReason,
    /// How long nobody held the role, as this peer saw it.
    pub gap: Duration,
}

impl Change {
    /// The same with names, as events and `GET /v1/rendezvous` show it.
    pub fn to_api(&self, roster: &Roster) -> HolderChange {
        HolderChange {
            term: self.term,
            from: self.from.map(|peer| roster.peer_ref(&peer)),
            to: roster.peer_ref(&self.to),
            at: self.at,
            reason: self.reason,
            gap_ms: u64::try_from(self.gap.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// How a peer broke the protocol of the role. The same bytes will fail again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RoleFault {
    /// The frame is longer than [`ROLE_FRAME_BYTES_MAX`](super::settings::ROLE_FRAME_BYTES_MAX).
    #[error("role frame is too long")]
    TooLong,
    /// It cannot be read, or something in it is out of bounds.
    #[error("role frame cannot be decoded")]
    Malformed,
    /// It carries something of another room.
    #[error("role frame is of another room")]
    OtherRoom,
    /// A signature does not hold.
    #[error("signature in a role frame does not hold")]
    Signature,
}
