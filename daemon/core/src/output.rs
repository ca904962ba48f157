//! Outputs: what a node asks the daemon to do, replies to commands, and their errors.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use chat_proto::api::invites::Invite;
use chat_proto::api::members::Knock;
use chat_proto::api::peers::{PeerList, RoleView};
use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::api::status::{RendezvousRef, RoomRef};
use chat_proto::error::ErrorCode;
use chat_proto::event::Event;
use chat_proto::id::{MessageId, PeerId};
use chat_proto::ticket::Ticket;
use chat_proto::time::Timestamp;

use crate::admission::codec::AdmissionAnswer;
use crate::input::{AdmissionId, BatchId, CommandId, LoadId};
use crate::log::entry::{Entry, Incarnation, LogId, Seq, SignedEntry};
use crate::membership::authority::AuthorityClock;
use crate::membership::roster::{ResolveError, Roster};
use crate::peers::addrs::AddrRecord;
use crate::types::RoleRequest;

/// Whose relay is used: of the first in this order whose relay runs and can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relays {
    /// Members, this peer perhaps among them, and where they are; few.
    pub order: Vec<(PeerId, Vec<SocketAddr>)>,
    /// One of them that is believed gone: connections to it are cut unless it answers.
    pub doubted: Option<PeerId>,
}

/// Something to do, in the order given.
#[derive(Debug)]
pub enum Output {
    /// Write these entries and flush, then report [`Input::Persisted`](crate::input::Input::Persisted). Batches may be
    /// written together, never out of order.
    Persist(Batch),
    /// Send a frame to a connected peer; when its queue is full, drop the connection.
    Send(PeerId, Bytes),
    /// Send a frame to a connected peer, as a datagram where the connection has them, otherwise as [`Output::Send`]: a
    /// heartbeat that waits behind the repetition of a lost one looks like a dead holder.
    Datagram(PeerId, Bytes),
    /// What the rendezvous role asks of the network, and the known addresses of the peer it is about.
    Role(RoleRequest, Vec<SocketAddr>),
    /// Members see this peer at this address: possibly reachable from outside where there is a NAT. Not one member's word
    /// alone, except of the holder and of the only other member.
    Observed(SocketAddr),
    /// Whose relay is used: the relay forwarder connects there.
    Relays(Relays),
    /// Connect to a member on the room protocol.
    Dial(PeerId, Vec<SocketAddr>),
    /// Close the connection to a peer.
    Disconnect(PeerId, CloseReason),
    /// Read entries of a log, up to a number of bytes, and report [`Input::Loaded`](crate::input::Input::Loaded).
    Load {
        /// Names the request.
        id: LoadId,
        /// The log.
        log: LogId,
        /// First sequence number.
        from: Seq,
        /// Last sequence number.
        to: Seq,
        /// About how many bytes at most; one entry is always given.
        bytes_max: usize,
        /// Which of them.
        scope: LoadScope,
    },
    /// Read what the store holds after this batch and report [`Input::Refiled`](crate::input::Input::Refiled).
    Reload(BatchId),
    /// Replace the damaged copy of this entry on disk, if it is the one of the chain there.
    Repair(Arc<Entry>),
    /// Answer a command.
    Reply(CommandId, Result<Reply, CommandError>),
    /// Answer a stranger; after `Admitted` or `Denied` the request is over.
    Admission(AdmissionId, AdmissionAnswer),
    /// Write down an event and stream it.
    Publish(Event),
    /// The membership changed: gates are run again, names are shown anew.
    Roster(Arc<Roster>),
    /// Keep these address records for the next start.
    StoreAddrs(Vec<AddrRecord>),
    /// Keep when these peers were last heard of.
    StoreSeen(Vec<(PeerId, Timestamp)>),
}

/// Which entries of a range are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadScope {
    /// All of them.
    All,
    /// Those whose bodies are kept.
    WithBodies,
}

/// Entries to write in one transaction, in causal order, and what follows from them and from proofs.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Names the batch.
    pub id: BatchId,
    /// The entries; none where only a proof came.
    pub entries: Vec<BatchEntry>,
    /// Entries that were written without their bodies and have them now; of no effect where the store has dropped the body
    /// itself, or holds another entry there.
    pub bodies: Vec<BatchEntry>,
    /// What changes with them.
    pub changes: Changes,
}

/// What entries and proofs change in what is stored. It is written in the transaction of the entries that cause it: a
/// crash never leaves one without the other.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Entries of these logs are valid up to these sequence numbers: messages beyond are hidden, and hidden ones up to
    /// there are shown again. With the maximum, all are shown.
    pub cuts: BTreeMap<LogId, Seq>,
    /// Proofs of forks, to be kept for the next start. After the entries of the batch are written, those beyond each fork
    /// are filed in the branch that begins with the first of them ([`LogId::branch`]).
    pub forks: Vec<(SignedEntry, SignedEntry)>,
    /// This database's log may have been continued elsewhere: write under this incarnation from now on.
    pub incarnation: Option<Incarnation>,
}

impl Changes {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.cuts.is_empty() && self.forks.is_empty() && self.incarnation.is_none()
    }

    /// Adds changes that were decided later.
    pub fn extend(&mut self, later: Self) {
        self.cuts.extend(later.cuts);
        self.forks.extend(later.forks);
        self.incarnation = later.incarnation.or(self.incarnation);
    }
}

/// An entry to write.
#[derive(Clone, Debug)]
pub struct BatchEntry {
    /// The entry.
    pub entry: Arc<Entry>,
    /// For this peer's own messages: the command behind each, in the order of the messages; otherwise empty.
    pub origins: Vec<CommandId>,
    /// Whether its messages are shown; not when they lie past a cut.
    pub visible: bool,
    /// The acts that the entry follows, if they differ from those of the entry before it in its log.
    pub clock: Option<Arc<AuthorityClock>>,
    /// How far the author's clock was ahead of this peer's, in milliseconds, if that is noticeable; of an own entry, how
    /// far this peer's clock is ahead of its neighbours'.
    pub clock_off_ms: Option<i64>,
}

/// Why the node closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer is not a member (any more).
    NotMember,
    /// The peer broke the protocol.
    Protocol,
    /// The connection is not needed: the tree has bounded degree.
    Surplus,
    /// This peer stops.
    Stopping,
    /// The peer does not respond.
    Silent,
}

/// Answer to a command that succeeded.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Done; there is no further data.
    Done,
    /// The message is stored; `complete` tells whether the wait reached its goal.
    Posted {
        /// Its id.
        id: MessageId,
        /// Its time.
        time: Timestamp,
        /// Peers known to hold it.
        held_by: Vec<PeerId>,
        /// Whether the wait reached its goal.
        complete: bool,
        /// How far this peer's clock is ahead of its neighbours', in milliseconds, if that is noticeable.
        clock_off_ms: Option<i64>,
    },
    /// Peers known to hold the entry.
    Holders(Vec<PeerId>),
    /// The invite and its ticket.
    Invited(Invite, Ticket),
    /// Every member.
    Peers(PeerList),
    /// The room.
    Status(NodeStatus),
    /// The invites.
    Invites(Vec<Invite>),
    /// The knocks.
    Knocks(Vec<Knock>),
    /// The role.
    Rendezvous(Box<RendezvousView>),
}

/// What a node knows for `GET /v1/status`; the daemon adds the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// The room.
    pub room: RoomRef,
    /// This peer's part in the rendezvous.
    pub role: RoleView,
    /// The holder and its term.
    pub rendezvous: Option<RendezvousRef>,
    /// Members, this peer included.
    pub members: u32,
    /// Members online, this peer included.
    pub online: u32,
    /// Addresses at which others said they see this peer.
    pub observed: Vec<SocketAddr>,
    /// Whether members called this peer without being called first; unknown until one tried.
    pub inbound: Option<bool>,
    /// How far this peer's clock is ahead of the median of its neighbours', in milliseconds.
    pub clock_off_ms: Option<i64>,
    /// Number of entries that connected members hold and this peer does not.
    pub missing_entries: u64,
}

/// Why a command was refused. The state is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The entry that admits this peer has not arrived yet; it is on its way.
    #[error("this peer was admitted, and the room's history is still arriving")]
    Arriving,
    /// This peer was removed or left.
    #[error("this peer is not a member of the room")]
    NotMember,
    /// Only admins may.
    #[error("only an admin of the room may do that")]
    NotAdmin,
    /// The other admin ranks above this one: it was made an admin earlier.
    #[error("'{0}' was an admin before you: only an admin of higher rank may remove or demote an admin")]
    RanksAbove(String),
    /// The peer was removed: only an admin lets it in again.
    #[error("this peer was removed from the room: only an admin may admit it again")]
    Removed,
    /// No such invite.
    #[error("no such invite, see 'chat invites'")]
    UnknownInvite,
    /// The knock waits at another member, and this peer is not an admin.
    #[error("the stranger waits at another member's door: only that member or an admin may refuse it")]
    NotThisDoor,
    /// No such knock.
    #[error("no such knock, see 'chat knocks'")]
    UnknownKnock,
    /// No such member.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The name, text or number is out of bounds.
    #[error(transparent)]
    Text(#[from] chat_proto::text::TextError),
    /// The message does not fit into an entry.
    #[error("the message is too long for so many recipients, send it to fewer at a time")]
    TooLong,
    /// Too many messages or waits are on their way.
    #[error("too many requests are waiting, try again in a moment")]
    Busy,
    /// No space on the disk.
    #[error("the disk is full, nothing was sent; free some space and send again")]
    DiskFull,
    /// The disk fails: what was written may be stored or not.
    #[error("the disk failed during the write: it is not known whether it is stored")]
    StoreFailed,
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

impl CommandError {
    /// The stable code of the error.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Arriving => ErrorCode::Starting,
            Self::NotMember => ErrorCode::NotInRoom,
            Self::NotAdmin | Self::RanksAbove(_) | Self::Removed | Self::NotThisDoor => ErrorCode::Forbidden,
            Self::UnknownInvite | Self::UnknownKnock => ErrorCode::NotFound,
            Self::Resolve(_) => ErrorCode::UnknownMember,
            Self::Text(_) | Self::TooLong => ErrorCode::TooLong,
            Self::Busy => ErrorCode::Busy,
            Self::DiskFull => ErrorCode::DiskFull,
            Self::StoreFailed => ErrorCode::OutcomeUnknown,
            Self::Stopping => ErrorCode::ShuttingDown,
        }
    }
}
