//! Inputs of the role from the node, and its outputs.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use chat_proto::id::{PeerId, Term};

use crate::types::{Change, PathInfo, RoleEvent, RoleRequest};

/// Something happened that concerns the role.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleInput {
    /// A frame of the role arrived from a connected member.
    Frame(PeerId, Vec<u8>),
    /// A connection is open; replaces an earlier one to the same peer.
    Up(PeerId, PathInfo),
    /// Its path changed or was measured again.
    Path(PeerId, PathInfo),
    /// A connection ended.
    Down(PeerId),
    /// The peer announced that it leaves; its connection is about to end.
    Bye(PeerId),
    /// The present and former members. Required before the first connection and whenever they change.
    Members {
        /// Present members.
        active: BTreeSet<PeerId>,
        /// Former members: their past claims stay in the history.
        former: BTreeSet<PeerId>,
    },
    /// The members believed connected to this peer, directly or through others; with or without itself.
    Online(BTreeSet<PeerId>),
    /// Addresses of this peer: its own and those at which others see it.
    Addrs(Vec<SocketAddr>),
    /// The outcome of a request that was made with [`RoleOutput::Net`].
    Net(RoleEvent),
    /// Nothing is read from the network for now: the silence of other peers proves nothing.
    Deaf,
    /// This peer is about to stop or leave: hand over. Answered by [`RoleOutput::Released`] within a second.
    Leave,
    /// The time of [`Rendezvous::poll_timeout`](super::Rendezvous::poll_timeout) has come.
    Tick,
}

/// Something to do, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleOutput {
    /// Send a frame of the role to these connected peers; where a queue is full it may be dropped.
    Send {
        /// The receivers; no peer twice.
        to: Vec<PeerId>,
        /// The bytes for [`Frame::Role`](crate::wire::Frame::Role).
        frame: Bytes,
        /// How it is best carried.
        delivery: FrameChannel,
    },
    /// Ask this of the network.
    Net(RoleRequest),
    /// Stay connected to these peers, dial them where needed: the holder and those on its list. At most six.
    Keep(BTreeSet<PeerId>),
    /// The holder is declared gone and has no successor yet: measure whether it still answers.
    Vacant {
        /// The former holder.
        holder: PeerId,
        /// The term that ended.
        term: Term,
    },
    /// The holder that was declared gone is alive, and its term goes on.
    Back {
        /// The holder.
        holder: PeerId,
        /// Its term.
        term: Term,
    },
    /// The role has a new holder: publish the event.
    Changed(Change),
    /// The role is handed over, or was not held: this peer may go.
    Released,
    /// The peer broke the protocol of the role: disconnect it.
    Fault(PeerId, RoleFault),
}

/// How a frame is best carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameChannel {
    /// In order and without loss, as every other frame.
    Stream,
    /// As a datagram where the connection has them, otherwise like the others: a heartbeat that waits behind the
    /// repetition of a lost one looks like a dead holder.
    Datagram,
}

/// How a peer broke the protocol of the role. The same bytes will fail again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RoleFault {
    /// The frame is longer than [`ROLE_FRAME_BYTES_MAX`](crate::rendezvous::settings::ROLE_FRAME_BYTES_MAX).
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
