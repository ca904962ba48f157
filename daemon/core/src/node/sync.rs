//! Anti-entropy: version vectors are exchanged, missing ranges are asked for and streamed.
//!
//! Each range of a log is asked of one peer at a time, in chunks: the answer to a `Want` is one `Entries` frame, and the
//! next chunk is asked for when it has come. When a peer does not answer, another that holds the log is asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::input::{LoadId, Now};
use crate::log::entry::{Dep, Entry, LogId, Seq, SignedEntry};
use crate::node::Node;
use crate::node::timers::Timer;
use crate::output::Output;
use crate::wire::{Frame, Head};

/// About how many bytes one answer carries; well below the frame bound, so that other frames get through in between.
const CHUNK_BYTES: usize = 256 * 1024;

/// How long an answer may take before another peer is asked.
const WANT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a missing entry may be on its way by itself before it is asked for.
pub(super) const FETCH_GRACE: Duration = Duration::from_millis(30);

/// Most ranges asked of one peer at a time.
const WANTS_PER_PEER_MAX: usize = 16;

/// Most chunks served at a time, to all peers together; beyond, requests are dropped and asked again.
const SERVING_MAX: usize = 256;

/// Most heads in one vector frame: 80 bytes each stay below the frame bound.
const HEADS_PER_FRAME: usize = 8 * 1024;

/// How many places before a suspicious one are compared at a time when a fork is looked for.
const COMPARE_SPAN: u64 = 64;

/// Most entries kept for comparison per suspicious log.
const COMPARE_MAX: usize = 256;

/// Most logs under suspicion at a time.
const SUSPECTS_MAX: usize = 16;

/// What is asked for, served and compared.
#[derive(Debug, Default)]
pub(super) struct Sync {
    wants: BTreeMap<LogId, Want>,
    loads: BTreeMap<LoadId, LoadFor>,
    next_load: u64,
    future: VecDeque<Arc<Entry>>,
    pub(super) suspects: BTreeMap<LogId, BTreeMap<Seq, SignedEntry>>,
}

/// A range that was asked for.
#[derive(Clone, Copy, Debug)]
struct Want {
    peer: PeerId,
    from: Seq,
    to: Seq,
}

/// Why entries are read from disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum LoadFor {
    /// For a peer that asked.
    Serve(PeerId),
    /// To compare with what another peer holds.
    Compare(LogId),
}

impl Sync {
    pub(super) fn is_suspect(&self, log: &LogId) -> bool {
        self.suspects.contains_key(log)
    }

    pub(super) fn keep_for_comparison(&mut self, place: &Dep, signed: &SignedEntry) {
        if let Some(kept) = self.suspects.get_mut(&place.log).filter(|kept| kept.len() < COMPARE_MAX) {
            kept.insert(place.seq, signed.clone());
        }
    }

    pub(super) fn hold_back(&mut self, entry: Arc<Entry>, max: usize) -> bool {
        let held = self.future.iter().any(|held| held.hash() == entry.hash());
        if held || self.future.len() >= max {
            return false;
        }
        self.future.push_back(entry);
        true
    }

    fn wants_of(&self, peer: &PeerId) -> usize {
        self.wants.values().filter(|want| want.peer == *peer).count()
    }
}

impl Node {
    /// Sends what this peer holds on disk.
    pub(super) fn send_vector(&mut self, peer: &PeerId, reply: bool) {
        let vector = self.heads.vector();
        let chunks = vector.len().div_ceil(HEADS_PER_FRAME).max(1);
        for (n, heads) in vector.chunks(HEADS_PER_FRAME).enumerate() {
            let last = n + 1 == chunks;
            self.send(peer, &Frame::Vector { heads: heads.to_vec(), reply: reply && last });
        }
        if vector.is_empty() {
            self.send(peer, &Frame::Vector { heads: Vec::new(), reply });
        }
    }

    /// The periodic exchange with one neighbour, chosen at random.
    pub(super) fn exchange_vectors(&mut self, now: Now) {
        let spread = 0.8 + 0.4 * self.jitter();
        self.timers.set(Timer::AntiEntropy, now.mono + self.settings.anti_entropy.mul_f64(spread));
        self.presence_changed(now);
        let connected = self.links.connected_ids();
        if connected.is_empty() {
            return;
        }
        let at = (self.jitter() * connected.len() as f64) as usize;
        if let Some(peer) = connected.get(at.min(connected.len() - 1)) {
            self.send_vector(peer, true);
        }
    }

    pub(super) fn on_vector(&mut self, peer: PeerId, heads: Vec<Head>, reply: bool, now: Now) {
        self.links.holds(&peer, &heads);
        for head in &heads {
            self.check_head(&peer, head, now);
        }
        if reply {
            self.send_vector(&peer, false);
        }
        self.fetch_from(peer, now);
        self.receipts_changed();
    }

    /// What a peer's vector says about one log: how far it holds ours, whether ours went on elsewhere, a fork.
    fn check_head(&mut self, peer: &PeerId, head: &Head, now: Now) {
        let own = self.heads.head(&head.log).copied();
        let same_place = own.is_some_and(|own| own.seq == head.seq);
        let differs = same_place && own.is_some_and(|own| own.hash != head.hash);
        if head.log == self.log {
            if head.seq > self.heads.seq(&self.log) || differs {
                self.renew_incarnation(now);
            } else {
                self.receipts.held(*peer, head.seq);
            }
        } else if differs {
            self.suspect(Dep { log: head.log, seq: head.seq }, Some(*peer));
        }
    }

    /// Asks a peer for everything that it holds and this one does not, as far as nobody else was asked.
    pub(super) fn fetch_from(&mut self, peer: PeerId, now: Now) {
        let Some(connected) = self.links.get(&peer) else { return };
        let free = WANTS_PER_PEER_MAX.saturating_sub(self.sync.wants_of(&peer));
        let missing: Vec<(LogId, Seq)> = connected
            .known
            .iter()
            .filter(|(log, seq)| **seq > self.heads.seq(log) && !self.sync.wants.contains_key(log))
            .map(|(log, seq)| (*log, self.heads.cut(log).map_or(*seq, |cut| cut.min(*seq))))
            .filter(|(log, to)| *to > self.pending.reach(log, self.heads.seq(log)))
            .take(free)
            .collect();
        for (log, to) in missing {
            self.want(peer, log, to, now);
        }
    }

    fn want(&mut self, peer: PeerId, log: LogId, to: Seq, now: Now) {
        let from = self.pending.reach(&log, self.heads.seq(&log)).next();
        self.sync.wants.insert(log, Want { peer, from, to });
        self.timers.set(Timer::Want(log), now.mono + WANT_TIMEOUT);
        self.send(&peer, &Frame::Want { log, from, to });
    }

    /// Entries came from a peer: ranges that are whole are done, others go on with the next chunk.
    pub(super) fn after_entries(&mut self, peer: &PeerId, now: Now) {
        let asked: Vec<(LogId, Seq)> =
            self.sync.wants.iter().filter(|(_, want)| want.peer == *peer).map(|(log, want)| (*log, want.to)).collect();
        for (log, to) in asked {
            let reach = self.pending.reach(&log, self.heads.seq(&log));
            if reach >= to {
                self.want_is_over(&log);
            }
        }
        self.fetch_from(*peer, now);
    }

    /// The answer to a `Want` came: the next chunk of its log is asked for. When it brought nothing new, the range is
    /// left until its time runs out, so that two peers who disagree do not exchange it without end.
    pub(super) fn chunk_came(&mut self, peer: PeerId, log: LogId, now: Now) {
        let Some(want) = self.sync.wants.get(&log).copied().filter(|want| want.peer == peer) else { return };
        let reach = self.pending.reach(&log, self.heads.seq(&log));
        if reach < want.to && reach >= want.from {
            self.want(peer, log, want.to, now);
        }
    }

    fn want_is_over(&mut self, log: &LogId) {
        self.sync.wants.remove(log);
        self.timers.cancel(Timer::Want(*log));
    }

    /// A range has not come: whoever holds it is asked, others first.
    pub(super) fn want_timed_out(&mut self, log: LogId, now: Now) {
        let Some(want) = self.sync.wants.remove(&log) else { return };
        let held = self.heads.seq(&log);
        let holds = |c: &crate::links::Connected| c.known.get(&log).copied().filter(|seq| *seq > held);
        let other = self.links.connected().find(|(peer, c)| **peer != want.peer && holds(c).is_some());
        let next = other.map(|(peer, _)| *peer).or_else(|| self.links.is_connected(&want.peer).then_some(want.peer));
        if let Some(peer) = next {
            self.fetch_from(peer, now);
        }
    }

    /// A connection ended: what was asked of that peer is asked of others.
    pub(super) fn forget_wants_of(&mut self, peer: &PeerId, now: Now) {
        let lost: Vec<LogId> =
            self.sync.wants.iter().filter(|(_, want)| want.peer == *peer).map(|(log, _)| *log).collect();
        for log in lost {
            self.timers.cancel(Timer::Want(log));
            self.want_timed_out(log, now);
        }
    }

    pub(super) fn on_want(&mut self, peer: PeerId, log: LogId, from: Seq, to: Seq) {
        let to = to.min(self.heads.durable_seq(&log));
        if from > to || from == Seq::ZERO || self.sync.loads.len() >= SERVING_MAX {
            return;
        }
        self.load(LoadFor::Serve(peer), log, from, to);
    }

    fn load(&mut self, purpose: LoadFor, log: LogId, from: Seq, to: Seq) {
        self.sync.next_load += 1;
        let id = LoadId(self.sync.next_load);
        self.sync.loads.insert(id, purpose);
        self.out.push_back(Output::Load { id, log, from, to, bytes_max: CHUNK_BYTES });
    }

    pub(super) fn on_loaded(&mut self, id: LoadId, entries: Vec<SignedEntry>, now: Now) {
        match self.sync.loads.remove(&id) {
            Some(LoadFor::Serve(peer)) => self.send(&peer, &Frame::Chunk(entries)),
            Some(LoadFor::Compare(log)) => self.compare(log, entries, now),
            None => {}
        }
    }

    /// Entries that were dated in the future are looked at again.
    pub(super) fn future_has_come(&mut self, now: Now) {
        for entry in std::mem::take(&mut self.sync.future) {
            self.consider(entry, None, now);
        }
    }

    /// A log may be forked: the places before and at the suspicious one are fetched and compared with what is held.
    pub(super) fn suspect(&mut self, place: Dep, from: Option<PeerId>) {
        let Some(peer) = from else { return };
        let held = self.heads.durable_seq(&place.log);
        let to = place.seq.min(held);
        let known = self.sync.suspects.contains_key(&place.log);
        if to == Seq::ZERO || known || self.sync.suspects.len() >= SUSPECTS_MAX || self.forks.contains_key(&place.log) {
            return;
        }
        self.sync.suspects.insert(place.log, BTreeMap::new());
        self.compare_range(peer, place.log, to);
    }

    pub(super) fn compare_range(&mut self, peer: PeerId, log: LogId, to: Seq) {
        let from = Seq(to.0.saturating_sub(COMPARE_SPAN - 1).max(1));
        self.send(&peer, &Frame::Want { log, from, to });
    }

    /// Reads the places of a suspicious log for which another peer's entries have come.
    pub(super) fn compare_what_came(&mut self, log: LogId) {
        let Some(kept) = self.sync.suspects.get(&log) else { return };
        if let (Some((first, _)), Some((last, _))) = (kept.first_key_value(), kept.last_key_value()) {
            self.load(LoadFor::Compare(log), log, *first, *last);
        }
    }
}
