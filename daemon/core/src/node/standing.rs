//! Standing: whether this peer may continue the log that it found on its disk.
//!
//! A home that was rolled back while it was down (a copy put back, a snapshot, a damaged write-ahead log) holds an older
//! end of this peer's log than others do. If it continued there, the log would fork, and what others hold of it could
//! not be kept. So after a start nothing is written under the old incarnation until one of these decides:
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

use chat_proto::id::{EntryHash, PeerId};

use crate::input::Now;
use crate::log::entry::{LogId, Seq};
use crate::node::Node;
use crate::node::timers::Timer;

/// How long drafts wait for a member's word on this peer's log.
const CONFIRM_WITHIN: Duration = Duration::from_millis(500);

/// Whether this peer may continue its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may: it began it in this process, or the end that is on disk was confirmed.
    #[default]
    Confirmed,
    /// Its log comes from the disk, and no member has spoken; the mark beside the database agrees with it.
    Marked,
    /// The same without a mark.
    Unmarked,
}

impl Node {
    /// What is known at the start.
    pub(super) fn begin_standing(&mut self, mark_agrees: bool) {
        if self.logs.heads.head(&self.local.log).is_some() {
            self.local.standing = if mark_agrees { Standing::Marked } else { Standing::Unmarked };
        }
    }

    /// Whether an own entry may be written now; until that is known, drafts wait.
    pub(super) fn may_continue(&mut self, now: Now) -> bool {
        if self.local.standing == Standing::Confirmed {
            return true;
        }
        if self.membership.roster.members().all(|person| person.peer.id == self.local.me) {
            self.decide_by_mark();
            return true;
        }
        if !self.timers.is_set(&Timer::Confirm) {
            self.timers.set(Timer::Confirm, now.mono + CONFIRM_WITHIN);
        }
        false
    }

    /// No member confirmed this peer's log in time: the mark on this machine decides.
    pub(super) fn decide_by_mark(&mut self) {
        match self.local.standing {
            Standing::Confirmed => {}
            Standing::Marked => self.confirmed(),
            Standing::Unmarked => self.renew_incarnation("no second record agrees with this database"),
        }
    }

    /// A peer shows which entry is the newest that it holds of a log of this peer.
    pub(super) fn shows_own_head(&mut self, peer: &PeerId, log: &LogId, seq: Seq, hash: &EntryHash) {
        let asked = self.local.standing != Standing::Confirmed && *log == self.local.log;
        let Some(own) = self.logs.heads.durable(log).copied().filter(|_| asked) else { return };
        if !self.membership.roster.is_member(peer) || seq < own.seq {
            return;
        }
        if seq == own.seq && *hash == own.hash {
            self.confirmed();
        } else {
            self.renew_incarnation("this peer's log continued elsewhere");
        }
    }

    /// This peer may write under its present incarnation.
    pub(super) fn confirmed(&mut self) {
        self.local.standing = Standing::Confirmed;
        self.timers.cancel(Timer::Confirm);
    }

    /// The newest log that this peer wrote under another incarnation.
    pub(super) fn former_log(&self) -> Option<LogId> {
        let own = |log: &&LogId| log.author == self.local.me && **log != self.local.log;
        let began = |log: &&LogId| self.logs.heads.head(log).map(|head| head.order);
        self.logs.heads.logs().filter(own).max_by_key(began).copied()
    }
}
