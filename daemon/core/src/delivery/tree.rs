//! How entries reach many: the mesh for small rooms, an epidemic broadcast tree for large ones.
//!
//! Up to [`Settings::mesh_members_max`](crate::config::NodeSettings::mesh_members_max) members everybody is connected to
//! everybody and an author sends to all by itself: one hop, and a peer that dies takes nothing with it. Beyond, the cost
//! of that grows with the square of the room, and a tree of bounded degree over a partial view takes over (HyParView and
//! PlumTree, Leitão et al. 2007). The tree's implementation is a library that this crate does not depend on, so it is
//! given to the node as a [`Tree`].

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

/// What the node tells the tree.
#[derive(Clone, Debug)]
pub enum TreeInput {
    /// Joins the room's tree through these peers; with none, waits to be joined.
    Join(Vec<PeerId>),
    /// Sends this to everybody.
    Broadcast(Bytes),
    /// A message of the tree came from a peer.
    Message(PeerId, Vec<u8>),
    /// The connection to a peer ended, or it cannot be reached.
    Down(PeerId),
    /// A timer has come.
    Tick,
}

/// What the tree tells the node.
#[derive(Clone, Debug)]
pub enum TreeOutput {
    /// Sends a message to a peer; it is dialled when it is not connected.
    Send(PeerId, Vec<u8>),
    /// Something that was sent to everybody has come, from this neighbour.
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
    /// A large entry's place: neighbours fetch it from whom they heard of it.
    Have(Dep),
    /// The sender lives, and can be reached here.
    Alive(AddrRecord),
    /// A member was lost by a neighbour, and not heard of since it showed at this time that it lives.
    Gone(PeerId, Timestamp),
}

/// Up to how many bytes an entry travels whole.
pub(crate) const WHOLE_BYTES_MAX: usize = 8 * 1024;

/// Largest message of the tree, in bytes: a whole entry and the tree's own header.
pub const TREE_MESSAGE_BYTES_MAX: usize = 16 * 1024;
