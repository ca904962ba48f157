//! Anti-entropy: peers compare version vectors and fetch missing ranges.
//!
//! A range of a log is fetched from one peer at a time and in chunks: each [`Frame::Want`] is answered with one
//! [`Frame::Chunk`], and the next chunk is requested when it has arrived. A peer that does not answer in time is replaced
//! by another that holds the log. When none is left, the range rests for a while, longer with each failure.
//!
//! State ([`Sync`]): the ranges requested of others, the reads from disk under way, and failed ranges. At most one range
//! per log is requested at a time. [`SyncHandler`] works on it; the node calls it when a vector, an entry or a chunk
//! arrives, when a connection ends, and when a timer is due.

mod catch_up;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::delivery::budget::Budgets;
use crate::delivery::dissemination::Mode;
use crate::input::LoadId;
use crate::log::Logs;
use crate::log::bodies::REQUEST_MAX;
use crate::log::entry::{Dep, Head, LogId, Seq, SignedEntry};
use crate::output::{LoadScope, Output};
use crate::peers::Peers;
use crate::peers::connections::Connections;
use crate::wire::Frame;
use crate::wire::extension::Extension;

/// Approximate size of one answer; well below the frame limit, so that other frames get through in between.
const CHUNK_BYTES: usize = 256 * 1024;

/// Timeout for an answer before another peer is asked.
const WANT_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout for a request for a few entries that another peer has, too, plus [`ROUND_TRIPS`]; doubled with each peer
/// that was asked. A conversation is going on: the next messages wait for them.
const FEW_TIMEOUT: Duration = Duration::from_millis(150);

/// Number of round trips within which an answer arrives if it arrives at all.
const ROUND_TRIPS: u32 = 4;

/// Maximum length of a range of few entries: requesting it from a second peer in vain costs little.
const FEW: u64 = 8;

/// Time that a missing entry has to arrive unrequested.
pub(crate) const FETCH_GRACE: Duration = Duration::from_millis(30);

/// Maximum number of ranges requested of one peer at a time.
const WANTS_PER_PEER_MAX: usize = 16;

/// Maximum number of chunks served at a time, to all peers together; beyond, requests are dropped and repeated by the
/// peer.
const SERVING_MAX: usize = 256;

/// The same for one peer: a peer requests [`WANTS_PER_PEER_MAX`] ranges, and some to compare.
const SERVING_PER_PEER_MAX: usize = 2 * WANTS_PER_PEER_MAX;

/// Maximum number of heads in one vector frame: 80 bytes each stay below the frame limit.
const HEADS_PER_FRAME: usize = 8 * 1024;

/// Time for which a range that no peer could give, or that was rejected, is not requested; doubled with each failure.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// Maximum number of such doublings: up to about ten minutes.
const FAILED_DOUBLINGS: u32 = 7;

/// Failed fetches after which dependants of void entries are applied without these, so that their authors' messages are not
/// lost for entries that no peer has kept.
const FORGO_AFTER: u32 = 4;

/// Maximum number of failed ranges that are remembered; further ones are requested more often than necessary.
const FAILED_MAX: usize = 1024;

/// Ranges requested, served and compared.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    wants: BTreeMap<LogId, Want>,
    loads: BTreeMap<LoadId, LoadFor>,
    next_load: u64,
    failed: BTreeMap<LogId, Failed>,
}

/// A range that was requested.
#[derive(Clone, Debug)]
struct Want {
    peer: PeerId,
    from: Seq,
    to: Seq,
    /// When it was requested.
    at: Duration,
    /// Peers that were asked before and did not deliver.
    tried: Vec<PeerId>,
}

/// A range that no peer could give, or that was rejected.
#[derive(Clone, Copy, Debug)]
struct Failed {
    /// Last sequence number held then: when the log grows by other means, the failure is forgotten.
    reach: Seq,
    times: u32,
    until: Duration,
}

/// Which half of an exchange of version vectors a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// The receiver answers with its own vector or digest.
    Opening,
    /// The exchange is complete.
    Answer,
}

impl Exchange {
    /// From the field `reply` of a frame.
    pub(crate) fn from_reply(reply: bool) -> Self {
        if reply { Self::Opening } else { Self::Answer }
    }
}

/// Why entries are read from disk.
#[derive(Clone, Copy, Debug)]
enum LoadFor {
    /// For a peer that asked.
    Serve(PeerId),
    /// For a peer that asked for the bodies alone.
    ServeBodies(PeerId, LogId),
    /// To compare with what another peer holds.
    Compare(LogId),
}

impl Sync {
    /// What is not done yet, by name.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn sizes(&self) -> [(&'static str, usize); 2] {
        [("wants", self.wants.len()), ("loads", self.loads.len())]
    }

    /// Number of entries that connected members hold and this peer does not. What no peer gave is left out, as it may not exist.
    pub(crate) fn missing(&self, logs: &Logs, connections: &Connections) -> u64 {
        let mut known: BTreeMap<LogId, Seq> = BTreeMap::new();
        for (log, seq) in connections.connected().flat_map(|(_, connected)| &connected.known) {
            let newest = known.entry(*log).or_default();
            *newest = (*newest).max(*seq);
        }
        let existing = known.iter().filter(|(log, _)| !self.failed.contains_key(log));
        let missing = existing.map(|(log, seq)| logs.taken(log).min(*seq).0.saturating_sub(logs.heads.seq(log).0));
        // A member may claim to hold any number.
        missing.fold(0, u64::saturating_add)
    }

    /// Forgets failures: what could not be fetched may be available now.
    pub(crate) fn forget_failures(&mut self) {
        self.failed.clear();
    }

    /// The log of an author of which a range that begins here was requested of a peer.
    pub(crate) fn wanted(&self, peer: &PeerId, author: PeerId, from: Seq) -> Option<LogId> {
        let mut wants = self.wants.range(LogId::range_of(author));
        wants.find(|(_, want)| want.peer == *peer && want.from <= from && from <= want.to).map(|(log, _)| *log)
    }

    fn has_failed(&self, log: &LogId, reach: Seq, now: Duration) -> bool {
        self.failed.get(log).is_some_and(|failed| failed.reach == reach && now < failed.until)
    }

    /// Records that a range cannot be fetched; returns until when it is not requested.
    fn fail(&mut self, log: LogId, reach: Seq, now: Duration) -> Duration {
        if self.failed.len() >= FAILED_MAX && !self.failed.contains_key(&log) {
            self.failed.pop_first();
        }
        let times = self.failed.get(&log).filter(|failed| failed.reach == reach).map_or(0, |failed| failed.times);
        let until = now + FAILED_FOR * (1 << times.min(FAILED_DOUBLINGS));
        self.failed.insert(log, Failed { reach, times: times.saturating_add(1), until });
        until
    }

    fn often_failed(&self, log: &LogId) -> bool {
        self.failed.get(log).is_some_and(|failed| failed.times >= FORGO_AFTER)
    }

    fn serving(&self, peer: &PeerId) -> usize {
        self.loads
            .values()
            .filter(|load| matches!(load, LoadFor::Serve(to) | LoadFor::ServeBodies(to, _) if to == peer))
            .count()
    }

    fn wants_of(&self, peer: &PeerId) -> usize {
        self.wants.values().filter(|want| want.peer == *peer).count()
    }
}

/// Fetches what others hold and serves what this peer holds: borrows the logs and connections that this moves.
pub(crate) struct SyncHandler<'a> {
    pub(crate) sync: &'a mut Sync,
    pub(crate) budgets: &'a mut Budgets,
    pub(crate) logs: &'a mut Logs,
    /// Whether entries that wait have to be reconsidered.
    pub(crate) cuts_moved: &'a mut bool,
    pub(crate) peers: &'a mut Peers,
    pub(crate) cx: &'a mut NodeContext,
}

impl SyncHandler<'_> {
    /// Sends what this peer holds on disk.
    pub(crate) fn send_vector(&mut self, peer: &PeerId, exchange: Exchange) {
        let reply = exchange == Exchange::Opening;
        let vector = self.logs.heads.vector();
        let chunks = vector.len().div_ceil(HEADS_PER_FRAME).max(1);
        for (n, heads) in vector.chunks(HEADS_PER_FRAME).enumerate() {
            let last = n + 1 == chunks;
            self.peers.connections.send(
                &mut self.cx.out,
                peer,
                &Frame::Vector { heads: heads.to_vec(), reply: reply && last },
            );
        }
        if vector.is_empty() {
            self.peers.connections.send(&mut self.cx.out, peer, &Frame::Vector { heads: Vec::new(), reply });
        }
    }

    /// Sends a digest of what this peer holds to a neighbour chosen at random, and returns which. Entries from a peer that
    /// is gone may wait for what no neighbour has; they are dropped: a peer that holds them sends them again.
    pub(crate) fn offer_digest(&mut self) -> Option<PeerId> {
        let connected = self.peers.connections.connected_ids();
        let last = connected.len().checked_sub(1)?;
        self.logs.pending.drop_orphans(|place| self.peers.connections.who_knows(place).is_some());
        let at = (self.cx.jitter() * connected.len() as f64) as usize;
        let peer = *connected.get(at.min(last))?;
        let digest = digest(&self.logs.heads.vector());
        self.peers.connections.send(&mut self.cx.out, &peer, &Frame::Digest { digest, reply: true });
        Some(peer)
    }

    /// A peer sends a digest of its vector. Where it equals this peer's, nothing more follows, and the vector is
    /// returned: a quiet room exchanges no vectors, which grow with the number of members.
    pub(crate) fn on_digest(&mut self, peer: PeerId, theirs: [u8; 32], exchange: Exchange) -> Option<Vec<Head>> {
        let heads = self.logs.heads.vector();
        let digest = digest(&heads);
        if digest != theirs {
            if exchange == Exchange::Opening {
                self.send_vector(&peer, Exchange::Opening);
            }
            return None;
        }
        if exchange == Exchange::Opening {
            self.peers.connections.send(&mut self.cx.out, &peer, &Frame::Digest { digest, reply: false });
        }
        Some(heads)
    }

    /// Informs neighbours of entries that arrived by other means than the tree, so that they fetch them, too.
    pub(crate) fn hint(&mut self, pulled: &BTreeSet<LogId>) {
        if pulled.is_empty() {
            return;
        }
        let heads: Vec<Head> = self.logs.heads.vector().into_iter().filter(|head| pulled.contains(&head.log)).collect();
        for peer in self.peers.connections.connected_ids() {
            self.send_lacking(&peer, &heads);
        }
    }

    /// Peers do not forward to a peer what its author sends it directly. When the two lose their connection, the peer
    /// receives the heads of that author: the author may have sent its last entries only to some.
    pub(crate) fn tell_parted(&mut self, mode: Mode) {
        let parted = self.peers.connections.take_parted();
        if parted.is_empty() || mode == Mode::Tree {
            return;
        }
        let vector = self.logs.heads.vector();
        for (author, to) in parted {
            let heads: Vec<Head> = vector.iter().filter(|head| head.log.author == author).copied().collect();
            self.send_lacking(&to, &heads);
        }
    }

    /// Sends those of some heads that a connected peer is not known to hold.
    fn send_lacking(&mut self, peer: &PeerId, heads: &[Head]) {
        let Some(connected) = self.peers.connections.get(peer) else { return };
        let lacks = |head: &&Head| !connected.knows(&Dep { log: head.log, seq: head.seq });
        let heads: Vec<Head> = heads.iter().filter(lacks).copied().collect();
        if !heads.is_empty() {
            self.peers.connections.send(&mut self.cx.out, peer, &Frame::Vector { heads, reply: false });
        }
    }

    /// Requests from a peer what it holds, and what its entries that wait here depend on: a peer that holds an entry
    /// holds its dependencies, also those in void logs, which no vector lists.
    pub(crate) fn fetch_causes(&mut self, peer: PeerId) {
        if let Some(connected) = self.peers.connections.get(&peer) {
            let known = self.logs.pending.missing().filter(|(_, place)| connected.knows(place));
            let causes: Vec<Dep> = known.map(|(missing, _)| *missing).collect();
            for missing in causes {
                self.peers.connections.knows(&peer, missing.log, missing.seq);
            }
        }
        self.fetch_from(peer);
    }

    fn want(&mut self, peer: PeerId, log: LogId, to: Seq, tried: Vec<PeerId>) {
        let from = self.logs.reach(&log).next();
        self.sync.wants.insert(log, Want { peer, from, to, at: self.cx.now.mono, tried });
        self.cx.set(Timer::Want(log), WANT_TIMEOUT);
        self.hurry(log);
        self.peers.connections.send(&mut self.cx.out, &peer, &Frame::Want { log, from, to });
    }

    /// Shortens the timeout for a few entries that another peer has, too: the peer that was asked may be gone
    /// undetected.
    fn hurry(&mut self, log: LogId) {
        let Some(want) = self.sync.wants.get(&log) else { return };
        let few = want.to.0.saturating_sub(want.from.0) < FEW;
        if !few || self.other_holder(&log, want).is_none() {
            return;
        }
        let rtt = self.peers.connections.get(&want.peer).map_or(Duration::ZERO, |connected| connected.path.rtt);
        let doublings = u32::try_from(want.tried.len()).unwrap_or(u32::MAX).min(FAILED_DOUBLINGS);
        let patience = (FEW_TIMEOUT + rtt * ROUND_TRIPS) * (1 << doublings);
        self.cx.timers.set_earlier(Timer::Want(log), want.at + patience.min(WANT_TIMEOUT));
    }

    /// A peer that holds more of a log than this one and was not asked for this range.
    fn other_holder(&self, log: &LogId, want: &Want) -> Option<PeerId> {
        let reach = self.logs.reach(log);
        let asked = |peer: &PeerId| *peer == want.peer || want.tried.contains(peer);
        let holds = |c: &crate::peers::connections::Connected| c.known.get(log).is_some_and(|seq| *seq > reach);
        self.peers.connections.connected().find(|(peer, c)| !asked(peer) && holds(c)).map(|(peer, _)| *peer)
    }

    /// Entries arrived from a peer: ranges that are complete are done.
    pub(crate) fn after_entries(&mut self, peer: &PeerId) {
        let asked: Vec<(LogId, Seq)> =
            self.sync.wants.iter().filter(|(_, want)| want.peer == *peer).map(|(log, want)| (*log, want.to)).collect();
        for (log, to) in asked {
            if self.logs.reach(&log) >= to.min(self.logs.taken(&log)) {
                self.take_want(&log);
            }
        }
        self.fetch_from(*peer);
    }

    /// The answer to a `Want` arrived: requests the next chunk or, where it brought nothing new, asks another peer.
    pub(crate) fn chunk_came(&mut self, peer: PeerId, log: LogId) {
        let Some(want) = self.sync.wants.get(&log).filter(|want| want.peer == peer) else { return };
        let (from, to) = (want.from, want.to);
        let reach = self.logs.reach(&log);
        if reach < from {
            return self.ask_another(log);
        }
        let to = self.due(peer, &log, to);
        if to > reach {
            self.want(peer, log, to, Vec::new());
        } else {
            self.take_want(&log);
        }
    }

    fn take_want(&mut self, log: &LogId) -> Option<Want> {
        self.cx.timers.cancel(Timer::Want(*log));
        self.sync.wants.remove(log)
    }

    /// A range did not arrive or was useless: asks the next peer that holds it; where there is none, the range rests
    /// for a while.
    pub(crate) fn ask_another(&mut self, log: LogId) {
        let Some(want) = self.take_want(&log) else { return };
        let other = self.other_holder(&log, &want);
        let Want { peer, to, mut tried, .. } = want;
        tried.push(peer);
        match other {
            Some(other) => self.want(other, log, to, tried),
            None => {
                // They do not hold what they seemed to, nor what depends on it, which a tree forwards before it is
                // held. When one reports to hold an entry that waits for it, it is asked again.
                let above =
                    self.logs.pending.missing().filter(|(missing, _)| missing.log == log).map(|(_, place)| place.log);
                for log in above.chain([log]).collect::<BTreeSet<_>>() {
                    tried.iter().for_each(|peer| self.peers.connections.holds_no_more(peer, log));
                }
                self.logs.bodies.refused(log);
                let until = self.sync.fail(log, self.logs.reach(&log), self.cx.now.mono);
                if self.sync.often_failed(&log) && self.logs.heads.forgo(log) {
                    *self.cuts_moved = true;
                }
                self.cx.timers.set_earlier(Timer::Fetch(peer), until);
                self.fetch_from(peer);
            }
        }
    }

    /// The logs were taken over anew: what was requested may be filed elsewhere.
    pub(crate) fn forget_requests(&mut self) {
        for log in std::mem::take(&mut self.sync.wants).into_keys() {
            self.cx.timers.cancel(Timer::Want(log));
        }
        self.sync.forget_failures();
    }

    /// A connection ended: what was requested of that peer is requested of others.
    pub(crate) fn peer_lost(&mut self, peer: &PeerId) {
        let lost: Vec<LogId> =
            self.sync.wants.iter().filter(|(_, want)| want.peer == *peer).map(|(log, _)| *log).collect();
        for log in lost {
            let Some(want) = self.take_want(&log) else { continue };
            if let Some(other) = self.other_holder(&log, &want) {
                self.want(other, log, want.to, want.tried);
            }
        }
        self.cx.timers.cancel(Timer::Fetch(*peer));
    }

    pub(crate) fn on_want(&mut self, peer: PeerId, log: LogId, from: Seq, to: Seq) {
        let to = to.min(self.logs.heads.served(&log));
        if from <= to && from > Seq::ZERO && !self.is_busy(&peer) {
            self.load(LoadFor::Serve(peer), log, from, to);
        }
    }

    pub(crate) fn on_want_bodies(&mut self, peer: PeerId, log: LogId, from: Seq, to: Seq) {
        let to = to.min(self.logs.heads.served(&log)).min(Seq(from.0.saturating_add(REQUEST_MAX - 1)));
        if from <= to && from > Seq::ZERO && !self.is_busy(&peer) {
            self.load(LoadFor::ServeBodies(peer, log), log, from, to);
        } else {
            let none = Extension::Bodies { log, entries: Vec::new() };
            self.peers.connections.send(&mut self.cx.out, &peer, &none.to_frame());
        }
    }

    fn is_busy(&self, peer: &PeerId) -> bool {
        self.sync.loads.len() >= SERVING_MAX || self.sync.serving(peer) >= SERVING_PER_PEER_MAX
    }

    /// Reads a range of a suspicious log, to compare it.
    pub(crate) fn load_to_compare(&mut self, log: LogId, (from, to): (Seq, Seq)) {
        self.load(LoadFor::Compare(log), log, from, to);
    }

    fn load(&mut self, purpose: LoadFor, log: LogId, from: Seq, to: Seq) {
        self.sync.next_load += 1;
        let id = LoadId(self.sync.next_load);
        let scope = match purpose {
            LoadFor::Serve(_) | LoadFor::Compare(_) => LoadScope::All,
            LoadFor::ServeBodies(..) => LoadScope::WithBodies,
        };
        self.sync.loads.insert(id, purpose);
        self.cx.push(Output::Load { id, log, from, to, bytes_max: CHUNK_BYTES, scope });
    }

    /// Serves or compares entries that were read from the disk; entries to compare are returned.
    pub(crate) fn loaded(&mut self, id: LoadId, entries: Vec<SignedEntry>) -> Option<(LogId, Vec<SignedEntry>)> {
        match self.sync.loads.remove(&id)? {
            LoadFor::Serve(peer) => {
                self.peers.connections.send(&mut self.cx.out, &peer, &Frame::Chunk(entries));
                None
            }
            LoadFor::ServeBodies(peer, log) => {
                let bodies = Extension::Bodies { log, entries }.to_frame();
                self.peers.connections.send(&mut self.cx.out, &peer, &bodies);
                None
            }
            LoadFor::Compare(log) => Some((log, entries)),
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
