//! Anti-entropy: version vectors are exchanged, missing ranges are asked for and streamed.
//!
//! Each range of a log is asked of one peer at a time, in chunks: the answer to a `Want` is one `Entries` frame, and the
//! next chunk is asked for when it has come. When a peer does not answer, another that holds the log is asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::input::{LoadId, Now};
use crate::log::entry::{Dep, Entry, Head, LogId, Seq, SignedEntry};
use crate::node::Node;
use crate::node::timers::Timer;
use crate::output::Output;
use crate::wire::Frame;

/// About how many bytes one answer carries; well below the frame bound, so that other frames get through in between.
const CHUNK_BYTES: usize = 256 * 1024;

/// How long an answer may take before another peer is asked.
const WANT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the answer to a request for a few entries may take where another peer has them, too, and [`ROUND_TRIPS`] more;
/// doubled with each peer that was asked. Somebody is talking: what is said next waits for them.
const FEW_TIMEOUT: Duration = Duration::from_millis(150);

/// In how many round trips an answer is certain to come if it comes at all.
const ROUND_TRIPS: u32 = 4;

/// How many entries are few: to ask a second peer for them in vain costs little.
const FEW: u64 = 8;

/// How long a missing entry may be on its way by itself before it is asked for.
pub(super) const FETCH_GRACE: Duration = Duration::from_millis(30);

/// Most ranges asked of one peer at a time.
const WANTS_PER_PEER_MAX: usize = 16;

/// Most chunks served at a time, to all peers together; beyond, requests are dropped and asked again.
const SERVING_MAX: usize = 256;

/// Most of them to one peer: a peer asks for [`WANTS_PER_PEER_MAX`] ranges, and some to compare.
const SERVING_PER_PEER_MAX: usize = 2 * WANTS_PER_PEER_MAX;

/// Most heads in one vector frame: 80 bytes each stay below the frame bound.
const HEADS_PER_FRAME: usize = 8 * 1024;

/// How long a range is left alone that nobody could give, or that was refused; doubled with each failure.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// How often that time is doubled at most: up to about ten minutes.
const FAILED_DOUBLINGS: u32 = 7;

/// After how many failures what builds on a log that counts for nothing does without it, so that its own author's word is
/// not lost for what nobody has kept.
const FORGO_AFTER: u32 = 4;

/// Most failed ranges that are remembered; beyond, they are asked for more often than they should be.
const FAILED_MAX: usize = 1024;

/// Most bytes of entries from the future that are kept (16 MiB).
const FUTURE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What is asked for, served and compared.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    wants: BTreeMap<LogId, Want>,
    loads: BTreeMap<LoadId, LoadFor>,
    next_load: u64,
    future: VecDeque<Arc<Entry>>,
    failed: BTreeMap<LogId, Failed>,
}

/// A range that was asked for.
#[derive(Clone, Debug)]
struct Want {
    peer: PeerId,
    from: Seq,
    to: Seq,
    /// When it was asked.
    at: Duration,
    /// Who was asked before and did not help.
    tried: Vec<PeerId>,
}

/// A range that nobody could give, or that was refused.
#[derive(Clone, Copy, Debug)]
struct Failed {
    /// How far the log was held: when it grows by other means, the failure is forgotten.
    reach: Seq,
    times: u32,
    until: Duration,
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
    pub(super) fn hold_back(&mut self, entry: Arc<Entry>, max: usize) -> bool {
        let held = self.future.iter().any(|held| held.hash() == entry.hash());
        let bytes: usize = self.future.iter().map(|held| held.signed().len_bytes()).sum();
        if held || self.future.len() >= max || bytes > FUTURE_BYTES_MAX {
            return false;
        }
        self.future.push_back(entry);
        true
    }

    /// What is not done yet, by name.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn sizes(&self) -> [(&'static str, usize); 3] {
        [("wants", self.wants.len()), ("loads", self.loads.len()), ("entries from the future", self.future.len())]
    }

    /// What could not be had may be had now.
    pub(super) fn forget_failures(&mut self) {
        self.failed.clear();
    }

    fn has_failed(&self, log: &LogId, reach: Seq, now: Now) -> bool {
        self.failed.get(log).is_some_and(|failed| failed.reach == reach && now.mono < failed.until)
    }

    /// Remembers that a range cannot be had; says until when it is left alone.
    fn fail(&mut self, log: LogId, reach: Seq, now: Now) -> Duration {
        if self.failed.len() >= FAILED_MAX && !self.failed.contains_key(&log) {
            self.failed.pop_first();
        }
        let times = self.failed.get(&log).filter(|failed| failed.reach == reach).map_or(0, |failed| failed.times);
        let until = now.mono + FAILED_FOR * (1 << times.min(FAILED_DOUBLINGS));
        self.failed.insert(log, Failed { reach, times: times.saturating_add(1), until });
        until
    }

    fn often_failed(&self, log: &LogId) -> bool {
        self.failed.get(log).is_some_and(|failed| failed.times >= FORGO_AFTER)
    }

    fn serving(&self, peer: &PeerId) -> usize {
        self.loads.values().filter(|load| matches!(load, LoadFor::Serve(to) if to == peer)).count()
    }

    fn wants_of(&self, peer: &PeerId) -> usize {
        self.wants.values().filter(|want| want.peer == *peer).count()
    }
}

impl Node {
    /// Sends what this peer holds on disk.
    pub(super) fn send_vector(&mut self, peer: &PeerId, reply: bool) {
        let vector = self.logs.heads.vector();
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
        let connected = self.peers.connections.connected_ids();
        if connected.is_empty() {
            return;
        }
        // What came from somebody who is gone may wait for what nobody here has: whoever holds it sends it again.
        self.logs.pending.drop_orphans(|place| self.peers.connections.who_knows(place).is_some());
        let at = (self.jitter() * connected.len() as f64) as usize;
        if let Some(peer) = connected.get(at.min(connected.len() - 1)) {
            let digest = digest(&self.logs.heads.vector());
            self.send(peer, &Frame::Digest { digest, reply: true });
        }
    }

    /// A peer says what it holds in short. Where it is what is held here, that is all: a quiet room exchanges no vectors,
    /// which grow with the number of members.
    pub(super) fn on_digest(&mut self, peer: PeerId, theirs: [u8; 32], reply: bool, now: Now) {
        let heads = self.logs.heads.vector();
        let own = digest(&heads);
        if own == theirs {
            if reply {
                self.send(&peer, &Frame::Digest { digest: own, reply: false });
            }
            self.on_vector(peer, heads, false, now);
        } else if reply {
            self.send_vector(&peer, true);
        }
    }

    pub(super) fn on_vector(&mut self, peer: PeerId, heads: Vec<Head>, reply: bool, now: Now) {
        self.peers.connections.holds(&peer, &heads);
        for head in &heads {
            self.check_head(&peer, head, now);
        }
        if reply {
            self.send_vector(&peer, false);
        }
        self.fetch_causes(peer, now);
        self.receipts_changed();
    }

    /// Asks a peer for what it holds, and for what entries wait for that it holds: whoever holds an entry holds what it
    /// builds on, also where that stands in a log that counts for nothing and that nobody speaks of.
    pub(super) fn fetch_causes(&mut self, peer: PeerId, now: Now) {
        if let Some(connected) = self.peers.connections.get(&peer) {
            let holds = |place: &Dep| connected.known.get(&place.log).is_some_and(|seq| *seq >= place.seq);
            let causes: Vec<Dep> =
                self.logs.pending.missing().filter(|(_, place)| holds(place)).map(|(missing, _)| *missing).collect();
            for missing in causes {
                self.peers.connections.knows(&peer, missing.log, missing.seq);
            }
        }
        self.fetch_from(peer, now);
    }

    /// What a peer's vector says about one log: how far it holds ours, or that it holds another side of a fork.
    fn check_head(&mut self, peer: &PeerId, head: &Head, now: Now) {
        let own = self.logs.heads.head(&head.log).copied();
        let same_place = own.is_some_and(|own| own.seq == head.seq);
        let differs = same_place && own.is_some_and(|own| own.hash != head.hash);
        let mine = head.log == self.local.log;
        if differs || (mine && self.delivery.receipts.contradicts(head.seq, &head.hash)) {
            self.suspect(Dep { log: head.log, seq: head.seq }, Some(*peer), now);
        } else if mine && self.membership.roster.is_member(peer) {
            self.delivery.receipts.held(*peer, head.seq, &head.hash);
        }
    }

    /// Asks a peer for everything that it holds and this one does not, as far as nobody else was asked; who was, has less
    /// time to answer now.
    pub(super) fn fetch_from(&mut self, peer: PeerId, now: Now) {
        let Some(connected) = self.peers.connections.get(&peer) else { return };
        let asked = self.delivery.sync.wants.keys().filter(|log| connected.known.contains_key(log));
        for log in asked.copied().collect::<Vec<_>>() {
            self.hurry(log);
        }
        let Some(connected) = self.peers.connections.get(&peer) else { return };
        let free = WANTS_PER_PEER_MAX.saturating_sub(self.delivery.sync.wants_of(&peer));
        let missing: Vec<(LogId, Seq)> = connected
            .known
            .iter()
            .filter(|(log, seq)| **seq > self.logs.heads.seq(log) && !self.delivery.sync.wants.contains_key(log))
            .map(|(log, seq)| (*log, self.taken(log).min(*seq)))
            .filter(|(log, to)| {
                let reach = self.reach(log);
                *to > reach && !self.delivery.sync.has_failed(log, reach, now)
            })
            .take(free)
            .collect();
        for (log, to) in missing {
            self.want(peer, log, to, Vec::new(), now);
        }
    }

    /// How far a log is held, with what waits.
    fn reach(&self, log: &LogId) -> Seq {
        self.logs.pending.reach(log, self.logs.heads.seq(log))
    }

    fn want(&mut self, peer: PeerId, log: LogId, to: Seq, tried: Vec<PeerId>, now: Now) {
        let from = self.reach(&log).next();
        self.delivery.sync.wants.insert(log, Want { peer, from, to, at: now.mono, tried });
        self.timers.set(Timer::Want(log), now.mono + WANT_TIMEOUT);
        self.hurry(log);
        self.send(&peer, &Frame::Want { log, from, to });
    }

    /// Waits less long for a few entries that somebody else has, too: who was asked may be gone, and nobody knows it yet.
    fn hurry(&mut self, log: LogId) {
        let Some(want) = self.delivery.sync.wants.get(&log) else { return };
        let few = want.to.0.saturating_sub(want.from.0) < FEW;
        if !few || self.other_holder(&log, want).is_none() {
            return;
        }
        let rtt = self.peers.connections.get(&want.peer).map_or(Duration::ZERO, |connected| connected.path.rtt);
        let doublings = u32::try_from(want.tried.len()).unwrap_or(u32::MAX).min(FAILED_DOUBLINGS);
        let patience = (FEW_TIMEOUT + rtt * ROUND_TRIPS) * (1 << doublings);
        self.timers.set_earlier(Timer::Want(log), want.at + patience.min(WANT_TIMEOUT));
    }

    /// Somebody who holds more of a log than this peer and was not asked for this range.
    fn other_holder(&self, log: &LogId, want: &Want) -> Option<PeerId> {
        let reach = self.reach(log);
        let asked = |peer: &PeerId| *peer == want.peer || want.tried.contains(peer);
        let holds = |c: &crate::peers::connections::Connected| c.known.get(log).is_some_and(|seq| *seq > reach);
        self.peers.connections.connected().find(|(peer, c)| !asked(peer) && holds(c)).map(|(peer, _)| *peer)
    }

    /// Entries came from a peer: ranges that are whole are done.
    pub(super) fn after_entries(&mut self, peer: &PeerId, now: Now) {
        let asked: Vec<(LogId, Seq)> = self
            .delivery
            .sync
            .wants
            .iter()
            .filter(|(_, want)| want.peer == *peer)
            .map(|(log, want)| (*log, want.to))
            .collect();
        for (log, to) in asked {
            if self.reach(&log) >= to.min(self.taken(&log)) {
                self.take_want(&log);
            }
        }
        self.fetch_from(*peer, now);
    }

    /// The answer to a `Want` came: the next chunk of its log is asked for, or where it brought nothing new, another
    /// peer.
    pub(super) fn chunk_came(&mut self, peer: PeerId, log: LogId, now: Now) {
        let Some(want) = self.delivery.sync.wants.get(&log).filter(|want| want.peer == peer) else { return };
        let (from, to) = (want.from, want.to);
        if self.reach(&log) < from {
            self.ask_another(log, now);
        } else {
            self.want(peer, log, to, Vec::new(), now);
        }
    }

    fn take_want(&mut self, log: &LogId) -> Option<Want> {
        self.timers.cancel(Timer::Want(*log));
        self.delivery.sync.wants.remove(log)
    }

    /// A range has not come, or is of no use: the next one who holds it is asked; where nobody is left, it rests for a
    /// while.
    pub(super) fn ask_another(&mut self, log: LogId, now: Now) {
        let Some(want) = self.take_want(&log) else { return };
        let other = self.other_holder(&log, &want);
        let Want { peer, to, mut tried, .. } = want;
        tried.push(peer);
        match other {
            Some(other) => self.want(other, log, to, tried, now),
            None => {
                // They do not hold what they seemed to, nor what builds on it, which a tree passes on before it is held. Where
                // one says that it holds an entry that waits for it, it is asked again.
                let above =
                    self.logs.pending.missing().filter(|(missing, _)| missing.log == log).map(|(_, place)| place.log);
                for log in above.chain([log]).collect::<BTreeSet<_>>() {
                    tried.iter().for_each(|peer| self.peers.connections.holds_no_more(peer, log));
                }
                let until = self.delivery.sync.fail(log, self.reach(&log), now);
                if self.delivery.sync.often_failed(&log) && self.logs.heads.forgo(log) {
                    self.membership.news.reconsider();
                }
                self.timers.set_earlier(Timer::Fetch(peer), until);
                self.fetch_from(peer, now);
            }
        }
    }

    /// A connection ended: what was asked of that peer is asked of others.
    pub(super) fn forget_wants_of(&mut self, peer: &PeerId, now: Now) {
        let lost: Vec<LogId> =
            self.delivery.sync.wants.iter().filter(|(_, want)| want.peer == *peer).map(|(log, _)| *log).collect();
        for log in lost {
            let Some(want) = self.take_want(&log) else { continue };
            if let Some(other) = self.other_holder(&log, &want) {
                self.want(other, log, want.to, want.tried, now);
            }
        }
    }

    pub(super) fn on_want(&mut self, peer: PeerId, log: LogId, from: Seq, to: Seq) {
        let to = to.min(self.logs.heads.served(&log));
        let busy =
            self.delivery.sync.loads.len() >= SERVING_MAX || self.delivery.sync.serving(&peer) >= SERVING_PER_PEER_MAX;
        if from > to || from == Seq::ZERO || busy {
            return;
        }
        self.load(LoadFor::Serve(peer), log, from, to);
    }

    pub(super) fn load(&mut self, purpose: LoadFor, log: LogId, from: Seq, to: Seq) {
        self.delivery.sync.next_load += 1;
        let id = LoadId(self.delivery.sync.next_load);
        self.delivery.sync.loads.insert(id, purpose);
        self.out.push_back(Output::Load { id, log, from, to, bytes_max: CHUNK_BYTES });
    }

    pub(super) fn on_loaded(&mut self, id: LoadId, entries: Vec<SignedEntry>, now: Now) {
        match self.delivery.sync.loads.remove(&id) {
            Some(LoadFor::Serve(peer)) => self.send(&peer, &Frame::Chunk(entries)),
            Some(LoadFor::Compare(log)) => self.compare(log, entries, now),
            None => {}
        }
    }

    /// Entries that were dated in the future are looked at again.
    pub(super) fn future_has_come(&mut self, now: Now) {
        for entry in std::mem::take(&mut self.delivery.sync.future) {
            self.consider(entry, None, now);
        }
    }
}

/// The hash of a vector.
fn digest(heads: &[Head]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for head in heads {
        hasher.update(head.log.author.as_bytes()).update(&head.log.incarnation.0.to_le_bytes());
        hasher.update(&head.seq.0.to_le_bytes()).update(head.hash.as_bytes());
    }
    *hasher.finalize().as_bytes()
}
