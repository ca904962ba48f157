//! Persistence: drafts and received entries go to the disk, and what follows when they are there.
//!
//! One batch is under way at a time ([`Disk`]): the received entries that were applied since the last one and at most one
//! own entry, sealed from the drafts, with the cuts and proofs that came with them. [`Output::Persist`] starts it; [`Input::Persisted`](crate::input::Input::Persisted)
//! ends it with receipts to the authors and, for the own entry, with its application, sending and replies. When a write
//! fails, own drafts are refused, received entries are kept and written again a second later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::id::{MessageId, PeerId};
use chat_proto::time::{Timestamp, is_clock_off};

use crate::config::CLOCK_LEEWAY;
use crate::delivery::drafts::{DraftOrigin, PostWait};
use crate::delivery::receipts::{Goal, WaitingPost};
use crate::input::{BatchId, CommandId, Now, PersistError};
use crate::log::entry::{Dep, Entry, Hlc, LogId, MessageBody};
use crate::log::heads::Heads;
use crate::node::timers::Timer;
use crate::node::{Life, Node};
use crate::output::{Batch, BatchEntry, Changes, CommandError, Output, Reply};
use crate::peers::connections::Connections;
use crate::wire::Frame;

/// Maximum number of bytes of received entries that wait for the disk (32 MiB); beyond, entries are dropped and
/// anti-entropy fetches them later.
const UNWRITTEN_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Delay before a failed write is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is on its way to the disk: one batch at a time, so that a failure never leaves a hole.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    received: Vec<Arc<Entry>>,
    received_bytes: usize,
    /// What followed from entries and proofs since the last batch.
    pub(super) changes: Changes,
    flight: Option<Flight>,
    /// The room's first entry, which could not be written: without it there is no room.
    genesis: Option<(Arc<Entry>, Vec<DraftOrigin>)>,
    next: u64,
    stalled: Option<PersistError>,
}

#[derive(Debug)]
struct Flight {
    id: BatchId,
    received: Vec<Arc<Entry>>,
    changes: Changes,
    own: Option<(Arc<Entry>, Vec<DraftOrigin>)>,
}

impl Disk {
    pub(super) fn has_room(&self) -> bool {
        self.received_bytes < UNWRITTEN_BYTES_MAX
    }

    /// Whether an own entry of this log is on its way to the disk.
    pub(super) fn is_writing(&self, log: &LogId) -> bool {
        self.writes_own() && self.flight.iter().any(|flight| flight.own.iter().any(|(entry, _)| entry.log() == *log))
    }

    /// Whether an own entry is on its way to the disk.
    pub(super) fn writes_own(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.own.is_some())
    }

    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        self.received_bytes += entry.signed().len_bytes();
        self.received.push(entry);
    }
}

impl Node {
    /// Sends what waits to the disk, unless a batch is under way.
    pub(super) fn flush(&mut self, now: Now) {
        if self.logs.disk.flight.is_some() || self.timers.is_set(&Timer::Retry) {
            return;
        }
        if let Some(genesis) = self.logs.disk.genesis.take() {
            return self.submit(Some(genesis), now);
        }
        if let Some(entry) = self.seal(now) {
            return self.write_own(entry.0, entry.1, now);
        }
        if !self.logs.disk.received.is_empty() || !self.logs.disk.changes.is_empty() {
            self.submit(None, now);
        }
    }

    /// Cuts the next own entry from the drafts.
    fn seal(&mut self, now: Now) -> Option<(Entry, Vec<DraftOrigin>)> {
        if !self.is_member() || self.own_log_is_cut() {
            return None;
        }
        if self.delivery.drafts.is_empty() || !self.may_continue(now) {
            return None;
        }
        let cut = self.delivery.drafts.cut()?;
        self.leave_wrong_dates_behind(now);
        let first_entry = self.logs.heads.head(&self.local.log).is_none();
        let admission = self.membership.derived.admitted_in.get(&self.local.me).copied();
        let origins: BTreeSet<LogId> = admission.into_iter().chain(self.former_log()).filter(|_| first_entry).collect();
        let mut deps = self.logs.heads.deps(&self.local.log, &origins);
        let label = self.next_label(now);
        let order = self.logs.heads.clock().next();
        if order > label {
            deps.push(Dep::order(self.local.me, order));
        }
        let header = self.next_header(deps, label);
        match Entry::sign(header, cut.body, &self.local.key) {
            Ok(entry) => Some((entry, cut.origins)),
            Err(error) => {
                tracing::error!(%error, "own entry cannot be signed");
                for origin in cut.origins {
                    self.refuse(&origin, &CommandError::TooLong);
                }
                None
            }
        }
    }

    /// The date of the next own entry: what the clock shows. Dates of others move it by [`CLOCK_LEEWAY`] at most.
    fn next_label(&self, now: Now) -> Hlc {
        let own = self.logs.heads.head(&self.local.log).map_or(Hlc::default(), |head| head.label);
        let seen = self.logs.heads.newest_label(dates_end(now));
        Hlc::from_wall(now.wall).max(own.next()).max(seen.next())
    }

    /// This peer's clock was ahead and has been put right: its dates cannot go back within a log, so it begins another.
    fn leave_wrong_dates_behind(&mut self, now: Now) {
        let ahead = self.logs.heads.head(&self.local.log).is_some_and(|head| head.label > dates_end(now));
        if ahead {
            self.renew_incarnation("the clock was set back");
        }
    }

    pub(super) fn write_own(&mut self, entry: Entry, origins: Vec<DraftOrigin>, now: Now) {
        self.submit(Some((Arc::new(entry), origins)), now);
    }

    fn submit(&mut self, own: Option<(Arc<Entry>, Vec<DraftOrigin>)>, now: Now) {
        self.logs.disk.next += 1;
        let id = BatchId(self.logs.disk.next);
        let received = std::mem::take(&mut self.logs.disk.received);
        self.logs.disk.received_bytes = 0;
        let changes = std::mem::take(&mut self.logs.disk.changes);
        let flight = Flight { id, received, changes, own };
        self.out.push_back(Output::Persist(flight.batch(&self.logs.heads, &self.peers.connections, now)));
        self.logs.disk.flight = Some(flight);
    }

    pub(super) fn on_persisted(&mut self, batch: BatchId, now: Now) {
        let Some(flight) = self.logs.disk.flight.take_if(|flight| flight.id == batch) else { return };
        if self.logs.disk.stalled.take().is_some() {
            tracing::info!("the disk accepts entries again");
        }
        let mut newest: BTreeSet<LogId> = BTreeSet::new();
        for entry in &flight.received {
            self.logs.heads.persisted(entry);
            newest.insert(entry.log());
        }
        for log in newest {
            self.acknowledge(log);
        }
        if let Some((entry, origins)) = flight.own {
            self.own_is_stored(&entry, origins, now);
        }
        self.door().answer_delayed_admissions();
        self.hint_pulled();
        self.finish_stop();
    }

    /// Sends a receipt to an author: directly, or through connected peers that reach it.
    fn acknowledge(&mut self, log: LogId) {
        let Some(head) = self.logs.heads.durable(&log) else { return };
        let held = Frame::Held { holder: self.local.me, log, seq: head.seq, hash: head.hash };
        if self.peers.connections.is_connected(&log.author) {
            self.send(&log.author, &held);
        } else if self.peers.connections.is_online(&log.author) {
            for peer in self.peers.connections.connected_ids() {
                if self.peers.connections.reaches(&log.author, &peer) {
                    self.send(&peer, &held);
                }
            }
        }
    }

    /// An author became reachable: sends receipts for all its logs.
    pub(super) fn acknowledge_all(&mut self, author: &PeerId) {
        let logs: Vec<LogId> = self.logs.heads.logs().filter(|log| log.author == *author).copied().collect();
        for log in logs {
            self.acknowledge(log);
        }
    }

    fn own_is_stored(&mut self, entry: &Arc<Entry>, origins: Vec<DraftOrigin>, now: Now) {
        let order = self.logs.heads.apply(entry);
        self.logs.heads.persisted(entry);
        if entry.log() == self.local.log {
            self.delivery.receipts.written(entry.seq(), entry.hash());
        }
        self.spread(entry, None, now);
        if entry.control().is_some() {
            self.apply_control(entry, order);
            self.refresh(now);
        }
        for (index, origin) in origins.into_iter().enumerate() {
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            self.origin_is_stored(entry, MessageId { entry: entry.hash(), index }, origin, now);
        }
        self.release(&Dep { log: entry.log(), seq: entry.seq() }, now);
    }

    fn origin_is_stored(&mut self, entry: &Entry, id: MessageId, origin: DraftOrigin, now: Now) {
        match origin {
            DraftOrigin::Post(command, wait) => self.post_is_stored(entry, id, command, wait, now),
            DraftOrigin::Control(command) => self.out.push_back(Output::Reply(command, Ok(Reply::Done))),
            DraftOrigin::Invite(command, ticket) => self.reply_invited(command, *ticket),
            DraftOrigin::Admission(admission) => self.door().answer_admitted(admission),
            DraftOrigin::Nobody => {}
        }
    }

    fn post_is_stored(&mut self, entry: &Entry, id: MessageId, command: CommandId, wait: PostWait, now: Now) {
        let seq = entry.seq();
        let recipients = recipients(entry, id.index, &self.local.me);
        if let Some(recipients) = &recipients {
            self.delivery.receipts.expect_delivery(id, seq, recipients.clone());
        }
        let goal = match wait.wait {
            Wait::Stored => Goal::Copies(0),
            Wait::Replicated => Goal::Copies(wait.copies as usize),
            Wait::Delivered => Goal::Peers(recipients.unwrap_or_else(|| self.peers.connections.online().clone())),
        };
        let waiting = WaitingPost { id, time: entry.header().time.wall(), log: entry.log(), seq, goal };
        let in_vain = self.is_stopping() || entry.log() != self.local.log;
        if in_vain || self.delivery.receipts.reached(&waiting) {
            return self.reply_posted(command, &waiting);
        }
        self.timers.set(Timer::Wait(command), now.mono + wait.timeout);
        self.delivery.receipts.wait(command, waiting);
    }

    /// Answers a post: its goal is reached, its time ran out, or this peer stops.
    pub(super) fn reply_posted(&mut self, command: CommandId, waiting: &WaitingPost) {
        self.timers.cancel(Timer::Wait(command));
        let complete = self.delivery.receipts.reached(waiting);
        let held_by = self.delivery.receipts.holders(&waiting.log, waiting.seq);
        let clock_off_ms = self.peers.connections.own_clock_off_ms().filter(is_clock_off);
        let reply = Reply::Posted { id: waiting.id, time: waiting.time, held_by, complete, clock_off_ms };
        self.out.push_back(Output::Reply(command, Ok(reply)));
    }

    pub(super) fn on_persist_failed(&mut self, batch: BatchId, error: PersistError, now: Now) {
        let Some(flight) = self.logs.disk.flight.take_if(|flight| flight.id == batch) else { return };
        self.logs.disk.stalled = Some(error);
        let refusal = match error {
            PersistError::DiskFull => CommandError::DiskFull,
            PersistError::Failed => CommandError::StoreFailed,
        };
        match flight.own {
            Some((entry, origins)) if entry.is_genesis() => self.logs.disk.genesis = Some((entry, origins)),
            Some((_, origins)) => origins.iter().for_each(|origin| self.refuse(origin, &refusal)),
            None => {}
        }
        self.refuse_drafts(&refusal);
        let newer = std::mem::replace(&mut self.logs.disk.received, flight.received);
        self.logs.disk.received.extend(newer);
        let newer = std::mem::replace(&mut self.logs.disk.changes, flight.changes);
        self.logs.disk.changes.extend(newer);
        self.logs.disk.received_bytes = self.logs.disk.received.iter().map(|entry| entry.signed().len_bytes()).sum();
        self.timers.set(Timer::Retry, now.mono + RETRY_AFTER);
        self.finish_stop();
    }

    /// Refuses all drafts: none of them will be written.
    pub(super) fn refuse_drafts(&mut self, error: &CommandError) {
        for origin in self.delivery.drafts.drain() {
            self.refuse(&origin, error);
        }
    }

    /// Answers the command or stranger behind a draft that will not be written.
    pub(super) fn refuse(&mut self, origin: &DraftOrigin, error: &CommandError) {
        match origin {
            DraftOrigin::Post(command, _) | DraftOrigin::Control(command) | DraftOrigin::Invite(command, _) => {
                self.out.push_back(Output::Reply(*command, Err(error.clone())));
            }
            DraftOrigin::Admission(admission) => self.door().admission_not_ready(*admission),
            DraftOrigin::Nobody => {}
        }
    }

    /// Whether nothing more can be written under the current incarnation.
    pub(super) fn own_log_is_cut(&self) -> bool {
        self.logs.heads.cut(&self.local.log).is_some()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.life == Life::Stopping
    }
}

/// The latest date that an own entry gets now.
fn dates_end(now: Now) -> Hlc {
    let leeway_ms = u64::try_from(CLOCK_LEEWAY.as_millis()).unwrap_or(u64::MAX);
    Hlc::from_wall(Timestamp::from_ms(now.wall.as_ms().saturating_add(leeway_ms)))
}

impl Flight {
    fn batch(&self, heads: &Heads, connections: &Connections, now: Now) -> Batch {
        let item = |entry: &Arc<Entry>, origins: Vec<CommandId>, clock_off_ms: Option<i64>| BatchEntry {
            entry: entry.clone(),
            origins,
            visible: heads.counts(&entry.log(), entry.seq()),
            clock_off_ms: clock_off_ms.filter(is_clock_off),
        };
        let off = |entry: &Entry| connections.clock_off_ms(&entry.author(), entry.header().time.wall(), now);
        let received = self.received.iter().map(|entry| item(entry, Vec::new(), off(entry)));
        let commands = |origins: &[DraftOrigin]| origins.iter().filter_map(post_command).collect();
        let own =
            self.own.iter().map(|(entry, origins)| item(entry, commands(origins), connections.own_clock_off_ms()));
        Batch { id: self.id, entries: received.chain(own).collect(), changes: self.changes.clone() }
    }
}

fn post_command(origin: &DraftOrigin) -> Option<CommandId> {
    match origin {
        DraftOrigin::Post(command, _) => Some(*command),
        DraftOrigin::Control(_) | DraftOrigin::Invite(..) | DraftOrigin::Admission(_) | DraftOrigin::Nobody => None,
    }
}

/// The recipients of a direct message other than its author; none for a message to the room.
fn recipients(entry: &Entry, index: u16, me: &PeerId) -> Option<BTreeSet<PeerId>> {
    match entry.messages().get(usize::from(index))? {
        MessageBody::Text(_) => None,
        MessageBody::Sealed(boxes) => Some(boxes.iter().map(|sealed| sealed.to).filter(|to| to != me).collect()),
    }
}
