//! The log that this peer writes: when it may, what the next entry is, and when another incarnation begins.
//!
//! Drafts are cut into one entry at a time. After a start, nothing is written until this peer knows that its disk was not
//! rolled back (`log/local.rs`). A log that was forked, cut or continued elsewhere is not continued: this peer begins
//! another one under a new incarnation, and posts that wait for copies of entries of the old one are answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use chat_proto::id::PeerId;
use rand::RngExt;

use crate::config::ENTRY_DEPS_MAX;
use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::delivery::budget::Budgets;
use crate::delivery::drafts::{DraftOrigin, Drafts};
use crate::delivery::receipts::Receipts;
use crate::log::Logs;
use crate::log::disk::OwnEntry;
use crate::log::entry::{Body, Dep, Head, Incarnation, LogId};
use crate::log::local::{CONFIRM_WITHIN, Local, Standing};
use crate::membership::Membership;
use crate::peers::connections::Connections;

/// What became of the drafts.
pub(crate) enum Sealed {
    /// The next own entry.
    Entry(OwnEntry),
    /// It cannot be signed: these are refused.
    Refused(Vec<DraftOrigin>),
    /// There are none, or they have to wait.
    Nothing,
}

/// Writes this peer's log: borrows what the log consists of.
pub(crate) struct OwnLogHandler<'a> {
    pub(crate) local: &'a mut Local,
    pub(crate) logs: &'a mut Logs,
    pub(crate) membership: &'a Membership,
    pub(crate) connections: &'a Connections,
    pub(crate) drafts: &'a mut Drafts,
    pub(crate) receipts: &'a mut Receipts,
    pub(crate) budgets: &'a Budgets,
    pub(crate) cx: &'a mut NodeContext,
}

impl OwnLogHandler<'_> {
    /// Cuts the next own entry from the drafts.
    pub(crate) fn seal(&mut self) -> Sealed {
        let may_write = self.membership.is_member(&self.local.me) && !self.is_cut();
        if !may_write || self.logs.disk.is_refiling() || self.drafts.is_empty() || !self.may_continue() {
            return Sealed::Nothing;
        }
        let Some(cut) = self.drafts.cut() else { return Sealed::Nothing };
        if self.local.dates_are_ahead(&self.logs.heads, self.cx.now) {
            self.renew("the clock was set back");
        }
        let heads = &self.logs.heads;
        let first_entry = heads.head(&self.local.log).is_none();
        let admission = self.membership.derived.admitted_in(&self.local.me);
        let former = self.local.former_log(heads);
        let mut origins: BTreeSet<LogId> = admission.into_iter().chain(former).filter(|_| first_entry).collect();
        origins.extend(self.membership.causes(&cut.body));
        let free = matches!(cut.body, Body::Messages(_)) && cut.replies.is_empty();
        let (settings, now) = (&self.cx.settings.budget, self.cx.now.mono);
        let left_out = |author: &PeerId| free && self.budgets.is_heavy(author, settings, now);
        let mut deps = heads.deps(&self.local.log, &origins, left_out);
        // What does not fit goes into the next entry.
        deps.truncate(ENTRY_DEPS_MAX - 1 - cut.replies.len());
        let label = self.local.next_label(heads, self.cx.now);
        let order = heads.clock().next();
        if order > label {
            deps.push(Dep::order(self.local.me, order));
        }
        deps.extend(cut.replies);
        match self.local.sign(heads, deps, label, cut.body) {
            Ok(entry) => Sealed::Entry((Arc::new(entry), cut.origins)),
            Err(error) => {
                tracing::error!(%error, "own entry cannot be signed");
                Sealed::Refused(cut.origins)
            }
        }
    }

    /// Whether nothing more can be written under the current incarnation.
    pub(crate) fn is_cut(&self) -> bool {
        self.logs.heads.cut(&self.local.log).or(self.logs.heads.end(&self.local.log)).is_some()
    }

    /// Whether an own entry may be written now; until that is known, drafts wait.
    fn may_continue(&mut self) -> bool {
        if self.local.standing == Standing::Confirmed {
            return true;
        }
        if self.membership.roster.members().all(|person| person.peer.id == self.local.me) {
            self.decide_by_mark();
            return true;
        }
        if !self.cx.timers.is_set(&Timer::Confirm) {
            self.cx.set(Timer::Confirm, CONFIRM_WITHIN);
        }
        false
    }

    /// No member confirmed this peer's log in time: the mark on this machine decides.
    pub(crate) fn decide_by_mark(&mut self) {
        match self.local.standing {
            Standing::Confirmed => {}
            Standing::Marked => self.confirm(),
            Standing::Unmarked => self.renew("no second record agrees with this database"),
        }
    }

    /// A peer shows which entry is the newest that it holds of a log of this peer.
    pub(crate) fn shows_head(&mut self, peer: &PeerId, head: &Head) {
        let asked = self.local.standing != Standing::Confirmed && head.log == self.local.log;
        let Some(own) = self.logs.heads.durable(&head.log).filter(|_| asked) else { return };
        if !self.membership.is_member(peer) || head.seq < own.seq {
            return;
        }
        if head.seq == own.seq && head.hash == own.hash {
            self.confirm();
        } else {
            self.renew("this peer's log continued elsewhere");
        }
    }

    /// This peer may write under its present incarnation.
    fn confirm(&mut self) {
        self.local.standing = Standing::Confirmed;
        self.cx.timers.cancel(Timer::Confirm);
    }

    /// This peer's log is not continued: from now on it writes under a new incarnation.
    pub(crate) fn renew(&mut self, reason: &'static str) {
        let incarnation = Incarnation(self.cx.rng.random());
        tracing::warn!(reason, "a new incarnation begins");
        self.receipts.answer_all(self.connections, self.cx);
        self.local.log = LogId { author: self.local.me, incarnation };
        self.confirm();
        self.receipts.begin(self.local.log, None);
        self.logs.disk.changes.incarnation = Some(incarnation);
    }
}
