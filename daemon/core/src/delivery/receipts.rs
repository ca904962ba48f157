//! Receipts: which peers hold this peer's log and up to where, and which posts wait for that.
//!
//! Receipts are cumulative: a peer that holds an entry holds all before it. Each names the hash of the entry, and is
//! valid only if this peer wrote that entry there; a restored database otherwise takes receipts for its lost future.

use std::collections::{BTreeMap, BTreeSet};

use chat_proto::id::{EntryHash, MessageId, PeerId};
use chat_proto::time::Timestamp;

use crate::input::CommandId;
use crate::log::entry::{LogId, Seq};

/// Maximum number of posts that wait for copies.
const WAITS_MAX: usize = 4096;

/// A stored post that waits for copies.
#[derive(Clone, Debug)]
pub(crate) struct WaitingPost {
    pub(crate) id: MessageId,
    pub(crate) time: Timestamp,
    pub(crate) log: LogId,
    pub(crate) seq: Seq,
    pub(crate) goal: Goal,
}

/// The goal of a wait.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// This number of other peers hold it.
    Copies(usize),
    /// All of these hold it.
    Peers(BTreeSet<PeerId>),
}

/// Maximum number of direct messages whose delivery is still to be reported; the oldest are dropped, and their state
/// can be queried.
const UNDELIVERED_MAX: usize = 1024;

/// Number of recent own entries whose hashes are kept to validate receipts; more than posts can wait. A peer that holds
/// a newer one holds all before it.
const OWN_MAX: usize = 2 * WAITS_MAX;

/// Which peers hold this peer's log up to where, and the posts that wait for that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receipts {
    log: Option<LogId>,
    /// Hashes of the log's entries as written here: a restored copy of a database writes its sequence numbers anew, and
    /// a peer that holds what was there before holds none of that.
    own: BTreeMap<Seq, EntryHash>,
    held: BTreeMap<PeerId, Seq>,
    waiting: BTreeMap<CommandId, WaitingPost>,
    undelivered: BTreeMap<MessageId, (Seq, BTreeSet<PeerId>)>,
}

impl Receipts {
    /// An entry of this peer's log is on disk.
    pub(crate) fn written(&mut self, seq: Seq, hash: EntryHash) {
        self.own.insert(seq, hash);
        if self.own.len() > OWN_MAX {
            self.own.pop_first();
        }
    }

    /// Whether the hash of an own entry differs from the one written here.
    pub(crate) fn contradicts(&self, seq: Seq, hash: &EntryHash) -> bool {
        self.own.get(&seq).is_some_and(|own| own != hash)
    }

    /// A peer holds this peer's log up to an entry; returns whether that is new.
    pub(crate) fn held(&mut self, peer: PeerId, seq: Seq, hash: &EntryHash) -> bool {
        if self.own.get(&seq) != Some(hash) {
            return false;
        }
        let held = self.held.entry(peer).or_default();
        let news = seq > *held;
        *held = (*held).max(seq);
        news
    }

    /// A log begins, or continues after its newest entry: no receipts for it are known yet, and those of an earlier one
    /// are dropped.
    pub(crate) fn begin(&mut self, log: LogId, newest: Option<(Seq, EntryHash)>) {
        *self = Self { log: Some(log), own: newest.into_iter().collect(), ..Self::default() };
    }

    pub(crate) fn holders(&self, log: &LogId, seq: Seq) -> Vec<PeerId> {
        if self.log.as_ref() != Some(log) {
            return Vec::new();
        }
        self.held.iter().filter(|(_, held)| **held >= seq).map(|(peer, _)| *peer).collect()
    }

    /// Number of posts that wait for copies.
    #[cfg(test)]
    pub(crate) fn waits(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITS_MAX
    }

    pub(crate) fn wait(&mut self, command: CommandId, waiting: WaitingPost) {
        self.waiting.insert(command, waiting);
    }

    /// Whether a wait has reached its goal.
    pub(crate) fn reached(&self, waiting: &WaitingPost) -> bool {
        let known = self.log == Some(waiting.log);
        let holds = |peer: &PeerId| known && self.held.get(peer).is_some_and(|held| *held >= waiting.seq);
        match &waiting.goal {
            Goal::Copies(copies) => self.held.keys().filter(|peer| holds(peer)).count() >= *copies,
            Goal::Peers(peers) => peers.iter().all(holds),
        }
    }

    /// A direct message is on its way to its recipients.
    pub(crate) fn expect_delivery(&mut self, id: MessageId, seq: Seq, recipients: BTreeSet<PeerId>) {
        if self.undelivered.len() >= UNDELIVERED_MAX
            && let Some(oldest) = self.undelivered.iter().min_by_key(|(_, (seq, _))| *seq).map(|(id, _)| *id)
        {
            self.undelivered.remove(&oldest);
        }
        self.undelivered.insert(id, (seq, recipients));
    }

    /// Takes the direct messages that all their recipients hold now.
    pub(crate) fn take_delivered(&mut self) -> Vec<(MessageId, Seq, BTreeSet<PeerId>)> {
        let holds = |peer: &PeerId, seq: &Seq| self.held.get(peer).is_some_and(|held| held >= seq);
        let all = |(seq, peers): &(Seq, BTreeSet<PeerId>)| peers.iter().all(|peer| holds(peer, seq));
        let done: Vec<MessageId> = self.undelivered.iter().filter(|(_, d)| all(d)).map(|(id, _)| *id).collect();
        done.into_iter().filter_map(|id| self.undelivered.remove(&id).map(|(seq, peers)| (id, seq, peers))).collect()
    }

    /// Takes the waits whose goal is reached.
    pub(crate) fn take_reached(&mut self) -> Vec<(CommandId, WaitingPost)> {
        let reached: Vec<CommandId> =
            self.waiting.iter().filter(|(_, waiting)| self.reached(waiting)).map(|(command, _)| *command).collect();
        reached.into_iter().filter_map(|command| Some((command, self.waiting.remove(&command)?))).collect()
    }

    /// Takes a wait that ran out.
    pub(crate) fn take(&mut self, command: CommandId) -> Option<WaitingPost> {
        self.waiting.remove(&command)
    }

    /// Takes all waits, when this peer stops.
    pub(crate) fn drain(&mut self) -> Vec<(CommandId, WaitingPost)> {
        std::mem::take(&mut self.waiting).into_iter().collect()
    }
}
