//! Persistence: what follows when a batch is on disk, or could not be written.
//!
//! [`Disk`](crate::log::disk::Disk) has what waits and what is being written. A written batch ends with receipts to the
//! authors and, for the own entry, with its application, sending and replies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::{InviteId, MessageId};
use ed25519_dalek::SigningKey;

use crate::context::timers::Timer;
use crate::delivery::drafts::DraftOrigin;
use crate::delivery::own_log::Sealed;
use crate::input::{BatchId, PersistError};
use crate::log::disk::OwnEntry;
use crate::log::entry::{Entry, LogId};
use crate::node::Node;
use crate::output::{CommandError, Output, Reply};

/// Delay before a failed write is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Node {
    /// Sends what waits to the disk, unless a batch is under way.
    pub(super) fn flush(&mut self) {
        if self.logs.disk.is_busy() || self.cx.timers.is_set(&Timer::Retry) {
            return;
        }
        if let Some(genesis) = self.logs.disk.take_genesis() {
            return self.persist(Some(genesis));
        }
        match self.own_log().seal() {
            Sealed::Entry(own) => return self.persist(Some(own)),
            Sealed::Refused(origins) => self.refuse(origins, &CommandError::TooLong),
            Sealed::Nothing => {}
        }
        if self.logs.disk.has_news() {
            self.persist(None);
        }
    }

    pub(super) fn persist(&mut self, own: Option<OwnEntry>) {
        let cuts = own.as_ref().map(|(entry, _)| self.membership.cuts_of(entry, &self.local, &self.logs.heads));
        let mut batch = self.logs.disk.begin(own, &self.logs.heads, &self.peers.connections, self.cx.now);
        // Of a batch that fails the own entry is given up, and its cuts with it.
        batch.changes.cuts.extend(cuts.into_iter().flatten());
        for item in &mut batch.entries {
            item.clock = self.membership.authority.clock_of(&item.entry);
        }
        self.cx.push(Output::Persist(batch));
    }

    pub(super) fn on_persisted(&mut self, batch: BatchId) {
        let Some(flight) = self.logs.disk.end(batch, self.cx.now) else { return };
        if self.logs.disk.must_read(batch) {
            self.cx.push(Output::Reload(batch));
        }
        let mut newest: BTreeSet<LogId> = BTreeSet::new();
        for entry in &flight.received {
            self.logs.heads.persisted(entry);
            newest.insert(entry.log());
        }
        let mode = self.delivery.dissemination.mode();
        for log in newest {
            self.receipts().written(log, mode);
        }
        if let Some((entry, origins)) = flight.own {
            self.own_is_stored(&entry, origins);
        }
        self.door().answer_delayed_admissions();
        self.sync().catch_up();
        let pulled = self.delivery.dissemination.take_pulled();
        self.sync().hint(&pulled);
        self.finish_stop();
    }

    fn own_is_stored(&mut self, entry: &Arc<Entry>, origins: Vec<DraftOrigin>) {
        let order = self.logs.heads.apply(entry);
        self.delivery.budgets.took(entry, &self.cx.settings.budget, self.cx.now.mono);
        self.logs.heads.persisted(entry);
        if entry.log() == self.local.log {
            self.delivery.receipts.written(entry.seq(), entry.hash());
        }
        self.spread(entry, None);
        self.membership.apply(entry, order, None, &self.local.room);
        if entry.control().is_some() {
            self.refresh();
        }
        for (index, origin) in origins.into_iter().enumerate() {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            self.origin_is_stored(entry, MessageId { entry: entry.hash(), index }, origin);
        }
        self.receipts().ask(entry);
        for waited in self.released_by(entry) {
            self.consider(waited, None);
        }
    }

    fn origin_is_stored(&mut self, entry: &Entry, id: MessageId, origin: DraftOrigin) {
        match origin {
            DraftOrigin::Post(command, wait) => self.receipts().post_is_stored(entry, id, command, wait),
            DraftOrigin::Control(command) => self.cx.reply(command, Ok(Reply::Done)),
            DraftOrigin::Invite(command, ticket) => {
                let key = InviteId::from_bytes(SigningKey::from_bytes(&ticket.seed).verifying_key().to_bytes());
                let invite = self.views().invites().into_iter().find(|invite| invite.id == key);
                let reply = invite.map(|invite| Reply::Invited(invite, *ticket)).ok_or(CommandError::UnknownInvite);
                self.cx.reply(command, reply);
            }
            DraftOrigin::Admission(admission) => self.door().answer_admitted(admission),
            DraftOrigin::Nobody => {}
        }
    }

    pub(super) fn on_persist_failed(&mut self, batch: BatchId, error: PersistError) {
        let Some(origins) = self.logs.disk.fail(batch) else { return };
        let refusal = match error {
            PersistError::DiskFull => CommandError::DiskFull,
            PersistError::Failed => CommandError::StoreFailed,
        };
        let drafts = self.delivery.drafts.drain();
        self.refuse(origins.into_iter().chain(drafts), &refusal);
        self.cx.set(Timer::Retry, RETRY_AFTER);
        self.finish_stop();
    }

    /// Answers the commands and strangers behind drafts that will not be written.
    pub(super) fn refuse(&mut self, drafts: impl IntoIterator<Item = DraftOrigin>, error: &CommandError) {
        for origin in drafts {
            match origin {
                DraftOrigin::Post(command, _) | DraftOrigin::Control(command) | DraftOrigin::Invite(command, _) => {
                    self.cx.reply(command, Err(error.clone()));
                }
                DraftOrigin::Admission(admission) => self.door().admission_not_ready(admission),
                DraftOrigin::Nobody => {}
            }
        }
    }
}
