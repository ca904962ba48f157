//! This peer: its key, its room, the log it writes, and whether it may continue that log.
//!
//! A home that was rolled back while it was down (a copy put back, a snapshot, a damaged write-ahead log) holds an older
//! end of this peer's log than others do. If it continued there, the log would fork. Nothing is lost then, but every member
//! stores one log more, and acts of an admin beyond the fork are void. So after a start nothing is written under the old incarnation until one of these decides:
//!
//! 1. The store compares its database with a second record of the newest own entry, `head.mark`. Where that is newer, the
//!    database is older than it was, and the store begins a new incarnation before the node starts.
//! 2. A member shows the same newest entry of this log, in a version vector or a receipt: the log continues. A member
//!    that shows a newer one ends the incarnation at once.
//! 3. No member says either within [`CONFIRM_WITHIN`] of the first draft, or there is no other member: the log continues
//!    if the mark agrees with the database; without a mark a new incarnation begins.
//!
//! A new incarnation's first entry depends on the newest entry of the one before. Bound: a start adds at most one log of
//! this author, and none where the mark is there and no member shows a newer entry; a home of an earlier build, which has
//! no mark, adds one if no member is reachable. Not caught: a home that was rolled back as a whole, mark included, and that
//! hears only from members that lack the newer entries, or from none.

use std::time::Duration;

use chat_proto::id::{PeerId, RoomId};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;

use crate::config::CLOCK_LEEWAY;
use crate::input::Now;
use crate::log::entry::{Body, Dep, Entry, EntryError, Header, Hlc, Incarnation, LogId, Seq};
use crate::log::heads::Heads;

/// Time for which drafts wait for a member's word on this peer's log.
pub(crate) const CONFIRM_WITHIN: Duration = Duration::from_millis(500);

/// This peer and the log it writes.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) key: SigningKey,
    pub(crate) me: PeerId,
    pub(crate) room: RoomId,
    pub(crate) log: LogId,
    pub(crate) standing: Standing,
    pub(crate) life: Life,
}

/// Whether this peer works or stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Works.
    Running,
    /// Refuses new commands; work under way is finished.
    Stopping,
}

/// Whether this peer may continue its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may: it began it in this process, or the end that is on disk was confirmed.
    Confirmed,
    /// Its log comes from the disk, and no member has spoken; the mark beside the database agrees with it.
    Marked,
    /// The same without a mark.
    Unmarked,
}

impl Local {
    pub(crate) fn new(key: SigningKey, room: RoomId, incarnation: Incarnation) -> Self {
        let me = PeerId::from_bytes(key.verifying_key().to_bytes());
        let log = LogId { author: me, incarnation };
        Self { key, me, room, log, standing: Standing::Confirmed, life: Life::Running }
    }

    /// What is known at a start on a disk that holds these heads.
    pub(crate) fn restored(&mut self, heads: &Heads, mark_agrees: bool) {
        if heads.head(&self.log).is_some() {
            self.standing = if mark_agrees { Standing::Marked } else { Standing::Unmarked };
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.life == Life::Stopping
    }

    /// Signs the next entry of this peer's log.
    pub(crate) fn sign(&self, heads: &Heads, deps: Vec<Dep>, time: Hlc, body: Body) -> Result<Entry, EntryError> {
        let head = heads.head(&self.log);
        let header = Header {
            version: 1,
            room: self.room,
            log: self.log,
            seq: head.map_or(Seq(1), |head| head.seq.next()),
            backlink: head.map(|head| head.hash),
            time,
            deps,
            body_hash: [0; 32],
            body_bytes: 0,
        };
        Entry::sign(header, body, &self.key)
    }

    /// The date of the next own entry: what the clock shows. Dates of others move it by [`CLOCK_LEEWAY`] at most.
    pub(crate) fn next_label(&self, heads: &Heads, now: Now) -> Hlc {
        let own = heads.head(&self.log).map_or(Hlc::default(), |head| head.label);
        let seen = heads.newest_label(dates_end(now));
        Hlc::from_wall(now.wall).max(own.next()).max(seen.next())
    }

    /// Whether this peer's clock was ahead and has been put right: its dates cannot go back within a log.
    pub(crate) fn dates_are_ahead(&self, heads: &Heads, now: Now) -> bool {
        heads.head(&self.log).is_some_and(|head| head.label > dates_end(now))
    }

    /// The newest log that this peer wrote under another incarnation.
    pub(crate) fn former_log(&self, heads: &Heads) -> Option<LogId> {
        let own = |log: &&LogId| log.author == self.me && **log != self.log;
        let began = |log: &&LogId| heads.head(log).map(|head| head.order);
        heads.logs().filter(own).max_by_key(began).copied()
    }
}

/// The latest date that an own entry gets now.
fn dates_end(now: Now) -> Hlc {
    let leeway_ms = u64::try_from(CLOCK_LEEWAY.as_millis()).unwrap_or(u64::MAX);
    Hlc::from_wall(Timestamp::from_ms(now.wall.as_ms().saturating_add(leeway_ms)))
}
