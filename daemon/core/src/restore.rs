//! What a node begins with.

use std::net::SocketAddr;

use chat_proto::id::{EntryHash, PeerId, RoomId};
use chat_proto::time::Timestamp;

use crate::log::entry::{Dep, Hlc, Incarnation, LogId, Seq, SignedEntry};
use crate::membership::authority::AuthorityClock;
use crate::peers::addrs::AddrRecord;

/// How a node comes to its room.
#[derive(Clone, Debug)]
pub enum Start {
    /// It founds a new room.
    Found {
        /// The room's name.
        room_name: String,
        /// Whether every knock is admitted.
        open: bool,
        /// The founder's name.
        name: String,
        /// Random number of the new database.
        incarnation: Incarnation,
        /// Addresses that this peer listens on.
        addrs: Vec<SocketAddr>,
    },
    /// It was let into a room, or comes back to one.
    Restore(Restored),
}

/// What the store held. A newly admitted peer has the room, the incarnation and the addresses, and no entries.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The room.
    pub room: RoomId,
    /// The number this database writes under.
    pub incarnation: Incarnation,
    /// The newest entry of every log.
    pub heads: Vec<StoredHead>,
    /// Every control entry with the log it is filed in and its order time, in the order in which they were stored.
    pub controls: Vec<(LogId, SignedEntry, Hlc)>,
    /// Where the clocks of the logs changed, in the order of each log.
    pub clocks: Vec<(LogId, Seq, AuthorityClock)>,
    /// Newest address record of every peer.
    pub addrs: Vec<AddrRecord>,
    /// Proofs of forks.
    pub forks: Vec<(SignedEntry, SignedEntry)>,
    /// When peers were last seen.
    pub seen: Vec<(PeerId, Timestamp)>,
    /// Whether the second record of this peer's newest entry is there and agrees with the heads.
    pub mark_agrees: bool,
    /// Entries without bodies that members may be asked for, by log and sequence number.
    pub lacking: Vec<(LogId, Seq)>,
    /// Logs of which some messages are hidden: where no cut hides them any more, they are shown again.
    pub hidden: Vec<LogId>,
}

/// The newest entry of a log on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// The log.
    pub log: LogId,
    /// Its newest sequence number.
    pub seq: Seq,
    /// The entry there.
    pub hash: EntryHash,
    /// Its date.
    pub label: Hlc,
    /// Its order time.
    pub order: Hlc,
    /// The order time of the log's first entry.
    pub first: Hlc,
    /// What that entry depends on.
    pub roots: Vec<Dep>,
    /// The log that its entries name: another one if it is a branch of a forked log.
    pub signed: LogId,
    /// The log on which a branch builds.
    pub parent: Option<LogId>,
}
