//! The interface of the broadcast tree, which spreads entries in large rooms.
//!
//! Up to [`NodeSettings::mesh_members_max`](crate::config::NodeSettings::mesh_members_max) members, every member is
//! connected to every other and an author sends to all directly: one hop, and a peer that dies takes nothing with it.
//! Beyond, that cost grows with the square of the room, and a tree of bounded degree over a partial view takes over
//! (HyParView and PlumTree, Leitão et al. 2007). The implementation is a library that this crate does not depend on, so
//! the daemon gives the node a [`Tree`].

use std::time::Duration;

use bytes::Bytes;
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::input::Now;
use crate::log::entry::{Dep, SignedEntry};
use crate::peers::addrs::AddrRecord;

/// An epidemic broadcast tree: pure, drained like the node itself.
pub trait Tree: Send {
    /// Something happened.
    fn handle(&mut self, input: TreeInput, now: Now);

    /// The next thing to do.
    fn poll_output(&mut self) -> Option<TreeOutput>;

    /// When the tree wants a [`TreeInput::Tick`], on the monotonic clock.
    fn poll_timeout(&self) -> Option<Duration>;
}

/// What the node reports to the tree.
#[derive(Clone, Debug)]
pub enum TreeInput {
    /// Joins the room's tree through these peers; with none, waits to be joined.
    Join(Vec<PeerId>),
    /// Sends this to every member.
    Broadcast(Bytes),
    /// A message of the tree came from a peer.
    Message(PeerId, Vec<u8>),
    /// The connection to a peer ended, or it cannot be reached.
    Down(PeerId),
    /// A timer has come.
    Tick,
}

/// What the tree asks of the node.
#[derive(Clone, Debug)]
pub enum TreeOutput {
    /// Sends a message to a peer; it is dialled when it is not connected.
    Send(PeerId, Vec<u8>),
    /// A broadcast arrived, from this neighbour.
    Received(PeerId, Bytes),
    /// A peer is a neighbour in the tree.
    Up(PeerId),
    /// A peer is no longer a neighbour in the tree.
    Down(PeerId),
}

/// What travels through the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    /// A small entry, whole.
    Entry(SignedEntry),
    /// A reference to a large entry: neighbours fetch it from the peer that sent this.
    Have(Dep),
    /// A keep-alive: the sender is online and has these addresses.
    Alive(AddrRecord),
    /// A neighbour lost this member and has not seen it since this time.
    Gone(PeerId, Timestamp),
}

/// Maximum length of an entry that travels whole, in bytes.
pub(crate) const WHOLE_BYTES_MAX: usize = 8 * 1024;

/// Maximum length of a message of the tree, in bytes: a whole entry and the tree's own header.
pub const TREE_MESSAGE_BYTES_MAX: usize = 16 * 1024;
