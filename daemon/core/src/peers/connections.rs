//! Connected peers: what each holds and reaches.
//!
//! One record per connected peer ([`Connected`]): its path, its liveness, what it holds, its own connections, and the
//! address at which it sees this peer. When the connection ends, the record goes. What outlives a connection is in
//! [`presence`](crate::peers::presence). Of a peer that this one disconnected, the start of the connection stays until the
//! daemon reports it down.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::id::PeerId;
use chat_proto::time::{Timestamp, is_clock_off};

use crate::input::Now;
use crate::log::entry::{Dep, EntryError, Head, LogId, Seq};
use crate::output::{CloseReason, Output};
use crate::peers::liveness::{Finding, Liveness, SLIP};
use crate::types::PathInfo;
use crate::wire::{Frame, PeerLink};

/// Maximum number of links that one peer may report; a longer report is cut. Bounds memory at members times this.
pub(crate) const LINKS_REPORTED_MAX: usize = 1024;

/// Maximum number of logs remembered of one peer: what one vector frame can carry.
const KNOWN_LOGS_MAX: usize = 16 * 1024;

/// Maximum number of peers whose view of this peer's address is kept.
const OBSERVERS_MAX: usize = 64;

/// Number of entries on one connection that are not what was signed, beyond which the peer is disconnected.
const BAD_ENTRIES_MAX: u32 = 64;

/// A connected peer.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    pub(crate) path: PathInfo,
    since: Duration,
    liveness: Liveness,
    /// Newest sequence numbers that it holds or was sent.
    pub(crate) known: BTreeMap<LogId, Seq>,
    /// Newest sequence numbers that it reported to hold on disk.
    pub(crate) held: BTreeMap<LogId, Seq>,
    /// Its own connections, as it reported them.
    pub(crate) links: BTreeMap<PeerId, PeerLink>,
    /// The address at which it sees this peer.
    observed: Option<SocketAddr>,
    /// Whether it understands extensions.
    pub(crate) extended: bool,
    /// Whether it answers requests for bodies alone.
    pub(crate) gives_bodies: bool,
    /// Number of entries it sent that are not what was signed.
    bad_entries: u32,
    /// How far its clock is ahead of this peer's, in milliseconds, when it was last compared.
    pub(crate) clock_off_ms: Option<i64>,
    /// When it wants receipts for its log.
    pub(crate) receipts: ReceiptsWanted,
}

/// When a peer wants receipts for its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReceiptsWanted {
    /// At once for each entry: it does not say when it waits for one.
    #[default]
    AtOnce,
    /// One for many entries, but at once when this one is on disk.
    Grouped(Option<Dep>),
}

impl Connected {
    /// Whether it is known to hold an entry, or was sent it.
    pub(crate) fn knows(&self, place: &Dep) -> bool {
        self.known.get(&place.log).is_some_and(|seq| *seq >= place.seq)
    }
}

/// A connection that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) since: Duration,
    /// Whether it was in use until now.
    pub(crate) open: bool,
    /// Whether the peer was lost: the connection broke, or was closed because nothing came from it.
    pub(crate) lost: bool,
}

/// All peers that are connected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    connected: BTreeMap<PeerId, Connected>,
    /// Connections that this peer ended and the daemon has not reported down yet, with their start and the reason.
    closing: BTreeMap<PeerId, (Duration, CloseReason)>,
    /// Pairs (author, peer) that were connected directly and are no longer, since the last call of
    /// [`Connections::take_parted`]. At most two for each reported link.
    parted: Vec<(PeerId, PeerId)>,
    /// When liveness has to be checked next.
    ping_due: Option<Duration>,
}

/// How far the first is ahead of the second, in milliseconds.
fn ahead_ms(a: Timestamp, b: Timestamp) -> i64 {
    let apart = i64::try_from(a.as_ms().abs_diff(b.as_ms())).unwrap_or(i64::MAX);
    if a < b { -apart } else { apart }
}

impl Connections {
    /// A connection is open. `jitter` in 0..1 keeps both ends from pinging at once.
    pub(crate) fn up(&mut self, peer: PeerId, path: PathInfo, jitter: f64, now: Duration) {
        let connected = Connected {
            path,
            since: now,
            liveness: Liveness::new(jitter, now),
            known: BTreeMap::new(),
            held: BTreeMap::new(),
            links: BTreeMap::new(),
            observed: None,
            extended: false,
            gives_bodies: false,
            bad_entries: 0,
            clock_off_ms: None,
            receipts: ReceiptsWanted::default(),
        };
        self.connected.insert(peer, connected);
    }

    /// A frame from a peer arrived.
    pub(crate) fn heard(&mut self, peer: &PeerId, now: Duration) {
        if let Some(connected) = self.connected.get_mut(peer) {
            connected.liveness.heard(now);
        }
    }

    /// A peer is suspected: it is pinged at once and has less time to answer.
    pub(crate) fn suspect(&mut self, peer: &PeerId, now: Duration) {
        if let Some(connected) = self.connected.get_mut(peer) {
            connected.liveness.suspect(now);
        }
    }

    /// This peer itself could not receive: the silence of others is measured from now on.
    pub(crate) fn forgive(&mut self, now: Duration) {
        self.connected.values_mut().for_each(|connected| connected.liveness.forgive(now));
    }

    /// When [`Connections::check_liveness`] is wanted.
    pub(crate) fn next_ping(&mut self) -> Option<Duration> {
        let crowd = self.connected.len();
        self.ping_due = self.connected.values().map(|connected| connected.liveness.due(crowd)).min();
        self.ping_due
    }

    /// Returns which peers are to be pinged, and which are gone. `stretch` multiplies the time that others have.
    pub(crate) fn check_liveness(&mut self, stretch: u32, now: Duration) -> Vec<(PeerId, Finding)> {
        if self.ping_due.take().is_some_and(|due| now.saturating_sub(due) > SLIP) {
            self.forgive(now);
        }
        let crowd = self.connected.len();
        let tick = |connected: &mut Connected| connected.liveness.tick(connected.path.rtt, stretch, crowd, now);
        self.connected.iter_mut().filter_map(|(peer, connected)| Some((*peer, tick(connected)?))).collect()
    }

    /// Counts an entry that is not what was signed; returns whether the sender may send more: its disk may be damaged,
    /// but many such entries are no accident.
    pub(crate) fn tolerates(&mut self, from: &PeerId, error: EntryError) -> bool {
        tracing::warn!(remote = %from.short(), %error, "entry rejected");
        let Some(connected) = self.connected.get_mut(from) else { return false };
        connected.bad_entries += 1;
        connected.bad_entries <= BAD_ENTRIES_MAX
    }

    /// A peer sent what its clock shows; returns how far that is ahead of this peer's clock if the difference is new.
    pub(crate) fn compare_clock(&mut self, peer: &PeerId, theirs: Timestamp, now: Now) -> Option<i64> {
        let connected = self.connected.get_mut(peer)?;
        let on_the_way = i64::try_from(connected.path.rtt.as_millis() / 2).unwrap_or(0);
        let off_ms = ahead_ms(theirs, now.wall).saturating_add(on_the_way);
        let before = connected.clock_off_ms.replace(off_ms);
        before.is_none_or(|before| is_clock_off(&off_ms.saturating_sub(before))).then_some(off_ms)
    }

    /// How far this peer's clock is ahead of the median of its neighbours', in milliseconds.
    pub(crate) fn own_clock_off_ms(&self) -> Option<i64> {
        let mut all: Vec<i64> = self.connected.values().filter_map(|connected| connected.clock_off_ms).collect();
        all.sort_unstable();
        let median = all.get(all.len().checked_sub(1)? / 2)?;
        Some(median.saturating_neg())
    }

    /// How far an author's clock was ahead of this peer's when it wrote something that arrives now. Of a date in the
    /// past that is known only if the author is connected and its clock shows that date.
    pub(crate) fn clock_off_ms(&self, author: &PeerId, date: Timestamp, now: Now) -> Option<i64> {
        let off_ms = ahead_ms(date, now.wall);
        let clock = self.connected.get(author).and_then(|connected| connected.clock_off_ms);
        let fits = clock.is_some_and(|clock| !is_clock_off(&clock.saturating_sub(off_ms)));
        (off_ms > 0 || fits).then_some(off_ms)
    }

    /// Ends a connection; returns whether there was one.
    pub(crate) fn close(&mut self, peer: &PeerId, reason: CloseReason) -> bool {
        let Some(connected) = self.connected.remove(peer) else { return false };
        self.closing.insert(*peer, (connected.since, reason));
        self.part(*peer, connected.links.into_keys().collect());
        true
    }

    /// A connection is over.
    pub(crate) fn down(&mut self, peer: &PeerId) -> Option<Ended> {
        let closed = self.closing.remove(peer);
        let closed = closed.map(|(since, reason)| Ended { since, open: false, lost: reason == CloseReason::Silent });
        let lost = self.connected.remove(peer).map(|connected| {
            self.part(*peer, connected.links.into_keys().collect());
            Ended { since: connected.since, open: true, lost: true }
        });
        lost.or(closed)
    }

    /// A peer's connections to others ended, or it no longer reports them.
    fn part(&mut self, peer: PeerId, others: Vec<PeerId>) {
        for other in others {
            let pairs = [(peer, other), (other, peer)];
            let apart = pairs.into_iter().filter(|(author, to)| self.is_connected(to) && !self.reaches(author, to));
            self.parted.extend(apart.collect::<Vec<_>>());
        }
    }

    /// Authors, each with a connected peer that it reached directly until now: that peer may lack what the author wrote
    /// last.
    pub(crate) fn take_parted(&mut self) -> Vec<(PeerId, PeerId)> {
        std::mem::take(&mut self.parted)
    }

    pub(crate) fn is_closing(&self, peer: &PeerId) -> bool {
        self.closing.contains_key(peer)
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Connected> {
        self.connected.get(peer)
    }

    pub(crate) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Connected> {
        self.connected.get_mut(peer)
    }

    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.connected.contains_key(peer)
    }

    /// Sends a frame to a peer if it is connected. A frame that is too long is a fault of this peer and only logged.
    pub(crate) fn send(&self, out: &mut VecDeque<Output>, peer: &PeerId, frame: &Frame) {
        if !self.is_connected(peer) {
            return;
        }
        match frame.encode() {
            Ok(raw) => out.push_back(Output::Send(*peer, raw)),
            Err(error) => tracing::error!(%error, "frame not sent"),
        }
    }

    /// Sends a frame to every connected peer.
    pub(crate) fn send_to_all(&self, out: &mut VecDeque<Output>, frame: &Frame) {
        self.connected.keys().for_each(|peer| self.send(out, peer, frame));
    }

    pub(crate) fn connected(&self) -> impl Iterator<Item = (&PeerId, &Connected)> {
        self.connected.iter()
    }

    pub(crate) fn connected_ids(&self) -> Vec<PeerId> {
        self.connected.keys().copied().collect()
    }

    /// Records that a peer holds a log up to a sequence number, or was sent it.
    pub(crate) fn knows(&mut self, peer: &PeerId, log: LogId, seq: Seq) {
        let Some(connected) = self.connected.get_mut(peer) else { return };
        raise(&mut connected.known, log, seq);
    }

    /// Lowers what a peer is assumed to hold of a log to what it reported.
    pub(crate) fn holds_no_more(&mut self, peer: &PeerId, log: LogId) {
        if let Some(connected) = self.connected.get_mut(peer) {
            let held = connected.held.get(&log).copied().unwrap_or_default();
            connected.known.insert(log, held);
        }
    }

    /// A connected peer that holds an entry, or was sent it.
    pub(crate) fn who_knows(&self, place: &Dep) -> Option<PeerId> {
        self.connected.iter().find(|(_, connected)| connected.knows(place)).map(|(peer, _)| *peer)
    }

    /// Records what a peer reports to hold on disk.
    pub(crate) fn holds(&mut self, peer: &PeerId, heads: &[Head]) {
        let Some(connected) = self.connected.get_mut(peer) else { return };
        for head in heads {
            raise(&mut connected.known, head.log, head.seq);
            raise(&mut connected.held, head.log, head.seq);
        }
    }

    /// Records the address at which a connected peer sees this one; returns whether there was room.
    pub(crate) fn set_observed(&mut self, peer: &PeerId, observed: SocketAddr) -> bool {
        let room = self.observed().count() < OBSERVERS_MAX;
        match self.connected.get_mut(peer).filter(|_| room) {
            Some(connected) => connected.observed = Some(observed),
            None => return false,
        }
        true
    }

    /// The address at which a peer sees this one, if that can be announced: every member dials what a peer announces, so one
    /// member's word is not enough. Two members agree on it, or the holder of the role reports it, whose relay other peers
    /// use to find each other, or there is no third member.
    pub(crate) fn believed(&self, peer: &PeerId, holder: Option<PeerId>, members: usize) -> Option<SocketAddr> {
        let observed = self.connected.get(peer)?.observed?;
        let agree = self.observed().filter(|other| *other == observed).count();
        (agree >= 2 || holder == Some(*peer) || members == 2).then_some(observed)
    }

    /// The addresses at which connected peers see this one.
    pub(crate) fn observed(&self) -> impl Iterator<Item = SocketAddr> {
        self.connected.values().filter_map(|connected| connected.observed)
    }

    /// Whether `from`, an author or a sender, is connected to `to`, as one of the two reports.
    pub(crate) fn reaches(&self, from: &PeerId, to: &PeerId) -> bool {
        let says = |one: &PeerId, other: &PeerId| self.connected.get(one).is_some_and(|c| c.links.contains_key(other));
        says(from, to) || says(to, from)
    }

    /// This peer's connections, as it reports them to others.
    pub(crate) fn report(&self) -> Vec<PeerLink> {
        let link = |(peer, connected): (&PeerId, &Connected)| PeerLink {
            peer: *peer,
            direct: connected.path.direct,
            rtt_us: u32::try_from(connected.path.rtt.as_micros()).unwrap_or(u32::MAX),
        };
        self.connected.iter().take(LINKS_REPORTED_MAX).map(link).collect()
    }

    /// A peer reported its connections; returns the peers that it no longer reports.
    pub(crate) fn set_links(&mut self, peer: &PeerId, links: Vec<PeerLink>) -> Vec<PeerId> {
        let Some(connected) = self.connected.get_mut(peer) else { return Vec::new() };
        let links = links.into_iter().take(LINKS_REPORTED_MAX).map(|link| (link.peer, link)).collect();
        let mut before = std::mem::replace(&mut connected.links, links);
        before.retain(|other, _| !connected.links.contains_key(other));
        let lost: Vec<PeerId> = before.into_keys().collect();
        self.part(*peer, lost.clone());
        lost
    }

    /// Connected peers that reported to hold an entry on disk.
    pub(crate) fn holders(&self, log: &LogId, seq: Seq) -> impl Iterator<Item = PeerId> {
        self.connected
            .iter()
            .filter(move |(_, connected)| connected.held.get(log).is_some_and(|held| *held >= seq))
            .map(|(peer, _)| *peer)
    }
}

fn raise(known: &mut BTreeMap<LogId, Seq>, log: LogId, seq: Seq) {
    if known.len() >= KNOWN_LOGS_MAX && !known.contains_key(&log) {
        return;
    }
    let held = known.entry(log).or_default();
    *held = (*held).max(seq);
}

/// Whether a change of path is large enough to be published as an event.
pub(crate) fn noticeably_different(a: &PathInfo, b: &PathInfo) -> bool {
    const NOTICEABLE: Duration = Duration::from_millis(5);
    a.direct != b.direct || a.rtt.abs_diff(b.rtt) > NOTICEABLE.max(a.rtt / 2)
}
