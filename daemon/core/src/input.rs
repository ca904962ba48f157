//! Inputs: what the daemon reports to a node, and the commands of the local user.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::api::messages::Wait;
use chat_proto::id::{InviteId, KnockId, MessageId, PeerId};
use chat_proto::time::Timestamp;

use crate::admission::codec::AdmissionRequest;
use crate::log::entry::{LogId, MessageBody, Seq, SignedEntry};
use crate::restore::Restored;
use crate::types::{PathInfo, RoleEvent};

/// The time, given with every input: a node has no clock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Monotonic time since an arbitrary start; timers run on it.
    pub mono: Duration,
    /// The wall clock, which may jump; entries are dated with it.
    pub wall: Timestamp,
}

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// A command from this machine; answered with exactly one [`Reply`](crate::output::Reply).
    Command(CommandId, Command),
    /// A connection on the room protocol is open; replaces an earlier one to the same peer.
    Up(PeerId, PathInfo),
    /// The path of a connection changed, or was measured again.
    Path(PeerId, PathInfo),
    /// A connection ended.
    Down(PeerId),
    /// Dialling a member failed at all its addresses.
    DialFailed(PeerId),
    /// A whole frame arrived.
    Frame(PeerId, Bytes),
    /// A batch of entries is on disk, flushed.
    Persisted(BatchId),
    /// A batch could not be written: the disk is full or failing. Nothing of it is on disk.
    PersistFailed(BatchId, PersistError),
    /// Entries requested with [`Output::Load`](crate::output::Output::Load), by ascending sequence number; fewer where
    /// they are not held or the byte limit cut them.
    Loaded(LoadId, Vec<SignedEntry>),
    /// What the store holds after a batch, requested with [`Output::Reload`](crate::output::Output::Reload).
    Refiled(BatchId, Box<Restored>),
    /// The copy of this entry on disk is damaged: it is fetched anew and given back with
    /// [`Output::Repair`](crate::output::Output::Repair). May be repeated.
    Damaged(LogId, Seq),
    /// A stranger asks for admission. Answered by [`Output::Admission`](crate::output::Output::Admission), possibly
    /// later.
    Admission(AdmissionCall),
    /// The stranger gave up.
    AdmissionGone(AdmissionId),
    /// The addresses this peer can give to others changed.
    Addrs(Vec<SocketAddr>),
    /// The outcome of a request of the rendezvous role.
    Role(RoleEvent),
    /// Nothing is read from the network for now because the disk does not keep up: the silence of peers means nothing.
    /// Repeated before each tick while that lasts, and once when it is over.
    Deaf,
    /// The time of [`Node::poll_timeout`](crate::node::Node::poll_timeout) has come.
    Tick,
}

/// A stranger asks for admission.
#[derive(Debug)]
pub struct AdmissionCall {
    /// Names the request in the answer.
    pub id: AdmissionId,
    /// The stranger; its key was proved by the handshake.
    pub peer: PeerId,
    /// Address at which the connection sees it.
    pub observed: Option<SocketAddr>,
    /// What it asks.
    pub request: AdmissionRequest,
    /// With a knock: the words both sides show; empty with a ticket.
    pub words: String,
}

/// Names a command in its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Names a batch of entries while it is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Names a request for stored entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadId(pub u64);

/// Names a stranger's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdmissionId(pub u64);

/// Why entries could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistError {
    /// No room on the disk.
    DiskFull,
    /// Any other failure; the daemon's log has the cause.
    Failed,
}

/// A command of a user or program on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Post a message.
    Post {
        /// What.
        body: MessageBody,
        /// The message that it answers. Readable by every member: for a sealed message it belongs inside.
        reply_to: Option<MessageId>,
        /// What to wait for before the reply.
        wait: Wait,
        /// With [`Wait::Replicated`]: number of other peers that must hold it.
        copies: u32,
        /// Maximum wait; after it the reply reports that it is incomplete.
        timeout: Duration,
    },
    /// List the peers that are known to hold this entry on disk.
    Holders(LogId, Seq),
    /// Write an invite and a ticket for it.
    Invite {
        /// End of its validity.
        expires: Timestamp,
        /// Maximum number of admissions.
        uses: u32,
    },
    /// End an invite.
    Revoke(InviteId),
    /// Admit or refuse a stranger that knocked.
    AnswerKnock(KnockId, Verdict),
    /// Remove a member.
    Remove(PeerId),
    /// Grant or revoke a member's right to remove members and grant this right.
    SetAdmin(PeerId, Verdict),
    /// Change this member's name.
    Rename(String),
    /// Publish keys for direct messages: Curve25519 identity and fallback key.
    PublishKeys([u8; 32], [u8; 32]),
    /// Leave the room for good.
    Leave,
    /// Go offline in an orderly way: hand the role over and say goodbye to neighbours.
    Stop,
    /// List every member with presence, path and role.
    Peers,
    /// Show the room and this peer's state.
    Status,
    /// The invites of the room.
    Invites,
    /// List the knocks that wait for an answer.
    Knocks,
    /// The rendezvous role.
    Rendezvous,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it be.
    Yes,
    /// Do not.
    No,
}
