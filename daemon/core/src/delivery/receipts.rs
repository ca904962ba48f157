//! Receipts: which peers hold this peer's log and up to where, and which posts wait for that.
//!
//! Receipts are cumulative: a peer that holds an entry holds all before it. Each names the hash of the entry, and is
//! valid only if this peer wrote that entry there; a restored database otherwise takes receipts for its lost future. A
//! receipt is its holder's own word: it is believed over the connection to the holder, which proves its key, or with the
//! holder's signature when another member passes it on.
//!
//! State ([`Receipts`]): for the own log, the hashes of recent entries and how far each peer holds it; the posts that wait
//! for copies, and the direct messages whose delivery is to be reported.
//!
//! A receipt for each entry would be as many frames as there are members, for each message. So authors say when they wait for
//! one ([`Extension::AwaitsReceipt`]); otherwise a receipt is held back for [`GROUPED_FOR`] and is for all that is on disk by
//! then. An author that cannot say so, of version 0.1, receives one at once, and so does one that is not connected in a small
//! room, whose word does not arrive.
//!
//! Invariants: receipts count for the present log alone, and a new one begins without any. A peer sends a receipt only for
//! what is on its disk. Posts that wait are answered once, with the number of copies reached, in time or not; all tables are
//! bounded.
//!
//! Called by the node: own entries reached the disk, a receipt arrived, entries of others are on disk and are acknowledged,
//! a wait timed out, the daemon stops.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::event::Event;
use chat_proto::id::{EntryHash, MessageId, PeerId};
use chat_proto::time::{Timestamp, is_clock_off};

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::delivery::dissemination::Mode;
use crate::delivery::drafts::PostWait;
use crate::input::CommandId;
use crate::log::entry::{Dep, Entry, Head, LogId, MessageBody, Seq};
use crate::log::heads::Heads;
use crate::log::local::Local;
use crate::membership::roster::Roster;
use crate::output::{Output, Reply};
use crate::peers::Peers;
use crate::peers::connections::{Connected, Connections, ReceiptsWanted};
use crate::wire::Frame;
use crate::wire::extension::{Extension, SignedReceipt};

/// Time for which receipts are held back when their author does not wait for them.
const GROUPED_FOR: Duration = Duration::from_millis(30);

/// Maximum number of posts that wait for copies.
const WAITS_MAX: usize = 4096;

/// A stored post that waits for copies.
#[derive(Clone, Debug)]
struct WaitingPost {
    id: MessageId,
    time: Timestamp,
    log: LogId,
    seq: Seq,
    goal: Goal,
}

/// The goal of a wait.
#[derive(Clone, Debug)]
enum Goal {
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
    /// Logs of others for which a receipt is held back.
    due: BTreeSet<LogId>,
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

    /// Whether a receipt with this content would be valid and new.
    pub(crate) fn is_news(&self, peer: &PeerId, seq: Seq, hash: &EntryHash) -> bool {
        self.own.get(&seq) == Some(hash) && self.held.get(peer).is_none_or(|held| *held < seq)
    }

    /// A log begins, or continues after its newest entry: no receipts for it are known yet, and those of an earlier one
    /// are dropped.
    pub(crate) fn begin(&mut self, log: LogId, newest: Option<(Seq, EntryHash)>) {
        let due = std::mem::take(&mut self.due);
        *self = Self { log: Some(log), own: newest.into_iter().collect(), due, ..Self::default() };
    }

    pub(crate) fn holders(&self, log: &LogId, seq: Seq) -> Vec<PeerId> {
        if self.log.as_ref() != Some(log) {
            return Vec::new();
        }
        self.held.iter().filter(|(_, held)| **held >= seq).map(|(peer, _)| *peer).collect()
    }

    /// Number of posts that wait for copies.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn waits(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITS_MAX
    }

    /// Whether a wait has reached its goal.
    fn reached(&self, waiting: &WaitingPost) -> bool {
        let known = self.log == Some(waiting.log);
        let holds = |peer: &PeerId| known && self.held.get(peer).is_some_and(|held| *held >= waiting.seq);
        match &waiting.goal {
            Goal::Copies(copies) => self.held.keys().filter(|peer| holds(peer)).count() >= *copies,
            Goal::Peers(peers) => peers.iter().all(holds),
        }
    }

    /// A direct message is on its way to its recipients.
    fn expect_delivery(&mut self, id: MessageId, seq: Seq, recipients: BTreeSet<PeerId>) {
        if self.undelivered.len() >= UNDELIVERED_MAX
            && let Some(oldest) = self.undelivered.iter().min_by_key(|(_, (seq, _))| *seq).map(|(id, _)| *id)
        {
            self.undelivered.remove(&oldest);
        }
        self.undelivered.insert(id, (seq, recipients));
    }

    /// Takes the direct messages that all their recipients hold now.
    fn take_delivered(&mut self) -> Vec<(MessageId, Seq, BTreeSet<PeerId>)> {
        let holds = |peer: &PeerId, seq: &Seq| self.held.get(peer).is_some_and(|held| held >= seq);
        let all = |(seq, peers): &(Seq, BTreeSet<PeerId>)| peers.iter().all(|peer| holds(peer, seq));
        let done: Vec<MessageId> = self.undelivered.iter().filter(|(_, d)| all(d)).map(|(id, _)| *id).collect();
        done.into_iter().filter_map(|id| self.undelivered.remove(&id).map(|(seq, peers)| (id, seq, peers))).collect()
    }

    /// Takes the waits whose goal is reached.
    fn take_reached(&mut self) -> Vec<(CommandId, WaitingPost)> {
        let reached: Vec<CommandId> =
            self.waiting.iter().filter(|(_, waiting)| self.reached(waiting)).map(|(command, _)| *command).collect();
        reached.into_iter().filter_map(|command| Some((command, self.waiting.remove(&command)?))).collect()
    }

    /// Answers a post: its goal is reached, its time ran out, or this peer stops.
    fn answer(&self, command: CommandId, waiting: &WaitingPost, connections: &Connections, cx: &mut NodeContext) {
        cx.timers.cancel(Timer::Wait(command));
        let complete = self.reached(waiting);
        let held_by = self.holders(&waiting.log, waiting.seq);
        let clock_off_ms = connections.own_clock_off_ms().filter(is_clock_off);
        let reply = Reply::Posted { id: waiting.id, time: waiting.time, held_by, complete, clock_off_ms };
        cx.reply(command, Ok(reply));
    }

    /// A post has waited long enough.
    pub(crate) fn time_out(&mut self, command: CommandId, connections: &Connections, cx: &mut NodeContext) {
        if let Some(waiting) = self.waiting.remove(&command) {
            self.answer(command, &waiting, connections, cx);
        }
    }

    /// Answers all posts that wait: this peer stops, or its log ends.
    pub(crate) fn answer_all(&mut self, connections: &Connections, cx: &mut NodeContext) {
        for (command, waiting) in std::mem::take(&mut self.waiting) {
            self.answer(command, &waiting, connections, cx);
        }
    }
}

/// Sends receipts to authors and takes those of others: borrows what is held and who is connected.
pub(crate) struct ReceiptHandler<'a> {
    pub(crate) local: &'a Local,
    pub(crate) heads: &'a Heads,
    pub(crate) roster: &'a Roster,
    pub(crate) peers: &'a mut Peers,
    pub(crate) receipts: &'a mut Receipts,
    pub(crate) cx: &'a mut NodeContext,
}

impl ReceiptHandler<'_> {
    /// Sends a receipt to an author: directly, or through connected peers that reach it.
    fn acknowledge(&mut self, log: LogId) {
        self.receipts.due.remove(&log);
        let Some(head) = self.heads.durable(&log) else { return };
        let held = Frame::Held { holder: self.local.me, log, seq: head.seq, hash: head.hash };
        let connections = &self.peers.connections;
        if connections.is_connected(&log.author) {
            connections.send(&mut self.cx.out, &log.author, &held);
        } else if self.peers.presence.is_online(&log.author) {
            let between = |(peer, connected): (&PeerId, &Connected)| {
                connections.reaches(&log.author, peer).then_some((*peer, connected.extended))
            };
            let between: Vec<_> = connections.connected().filter_map(between).collect();
            if between.is_empty() {
                return;
            }
            let signed =
                Extension::Receipt(SignedReceipt::sign(Head { log, seq: head.seq, hash: head.hash }, &self.local.key))
                    .to_frame();
            for (peer, extended) in between {
                connections.send(&mut self.cx.out, &peer, if extended { &signed } else { &held });
            }
        }
    }

    /// Entries of a log are on disk: sends a receipt, at once if the author waits for it, otherwise soon.
    pub(crate) fn written(&mut self, log: LogId, mode: Mode) {
        let seq = self.heads.durable(&log).map(|head| head.seq);
        let at_once = match self.peers.connections.get_mut(&log.author).map(|author| &mut author.receipts) {
            Some(ReceiptsWanted::AtOnce) => true,
            Some(ReceiptsWanted::Grouped(awaited)) => {
                awaited.take_if(|awaited| awaited.log == log && Some(awaited.seq) <= seq).is_some()
            }
            None => mode == Mode::Mesh,
        };
        if at_once {
            self.acknowledge(log);
        } else {
            self.receipts.due.insert(log);
            self.cx.set_earlier(Timer::Receipts, GROUPED_FOR);
        }
    }

    /// Sends the receipts that were held back.
    pub(crate) fn acknowledge_due(&mut self) {
        for log in std::mem::take(&mut self.receipts.due) {
            self.acknowledge(log);
        }
    }

    /// A connected author waits for a receipt.
    pub(crate) fn awaited(&mut self, author: &PeerId, place: Dep) {
        if place.log.author != *author {
            return;
        }
        let is_written = self.heads.durable(&place.log).is_some_and(|head| head.seq >= place.seq);
        if let Some(connected) = self.peers.connections.get_mut(author) {
            connected.receipts = ReceiptsWanted::Grouped(Some(place).filter(|_| !is_written));
        }
        if is_written {
            self.acknowledge(place.log);
        }
    }

    /// Tells connected members if a post waits for their receipts of an own entry.
    pub(crate) fn ask(&mut self, entry: &Entry) {
        let (log, seq) = (entry.log(), entry.seq());
        if !self.receipts.waiting.values().any(|waiting| waiting.log == log && waiting.seq == seq) {
            return;
        }
        let frame = Extension::AwaitsReceipt { log, seq }.to_frame();
        for (peer, connected) in self.peers.connections.connected() {
            if connected.receipts != ReceiptsWanted::AtOnce {
                self.peers.connections.send(&mut self.cx.out, peer, &frame);
            }
        }
    }

    /// An author became reachable: sends receipts for all its logs.
    pub(crate) fn acknowledge_all(&mut self, author: &PeerId) {
        let logs: Vec<LogId> = self.heads.logs().filter(|log| log.author == *author).copied().collect();
        for log in logs {
            self.acknowledge(log);
        }
    }

    /// Answers posts, and publishes deliveries, for which enough peers hold the message now.
    pub(crate) fn changed(&mut self) {
        for (command, waiting) in self.receipts.take_reached() {
            self.receipts.answer(command, &waiting, &self.peers.connections, self.cx);
        }
        for (message, seq, recipients) in self.receipts.take_delivered() {
            let copies = u32::try_from(self.receipts.holders(&self.local.log, seq).len()).unwrap_or(u32::MAX);
            let delivered = recipients.iter().map(|peer| self.roster.peer_ref(peer)).collect();
            self.cx.push(Output::Publish(Event::Delivery { message, copies, delivered }));
        }
    }

    /// A message of this peer is on disk: its post is answered, or waits for copies.
    pub(crate) fn post_is_stored(&mut self, entry: &Entry, id: MessageId, command: CommandId, wait: PostWait) {
        let seq = entry.seq();
        let recipients = recipients(entry, id.index, &self.local.me);
        if let Some(recipients) = &recipients {
            self.receipts.expect_delivery(id, seq, recipients.clone());
        }
        let goal = match wait.wait {
            Wait::Stored => Goal::Copies(0),
            Wait::Replicated => Goal::Copies(wait.copies as usize),
            Wait::Delivered => Goal::Peers(recipients.unwrap_or_else(|| self.peers.presence.online().collect())),
        };
        let waiting = WaitingPost { id, time: entry.header().time.wall(), log: entry.log(), seq, goal };
        let in_vain = self.local.is_stopping() || entry.log() != self.local.log;
        if in_vain || self.receipts.reached(&waiting) {
            return self.receipts.answer(command, &waiting, &self.peers.connections, self.cx);
        }
        self.cx.set(Timer::Wait(command), wait.timeout);
        self.receipts.waiting.insert(command, waiting);
    }
}

/// The recipients of a direct message other than its author; none for a message to the room.
fn recipients(entry: &Entry, index: u16, me: &PeerId) -> Option<BTreeSet<PeerId>> {
    match entry.messages().get(usize::from(index))? {
        MessageBody::Text(_) => None,
        MessageBody::Sealed(boxes) => Some(boxes.iter().map(|sealed| sealed.to).filter(|to| to != me).collect()),
    }
}
