//! Dissemination in large rooms: entries travel through a broadcast tree, and only its neighbours stay connected.
//!
//! A room is a mesh or a tree by its number of members ([`Mode`]). In a tree, own entries are broadcast, every member
//! sends a keep-alive now and then because it is not connected to most others, and a lost neighbour is reported gone.
//! Entries that arrive by other means are announced to neighbours, so that a split tree does not split the room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use rand::seq::IteratorRandom;

use crate::delivery::tree::{Payload, Tree, TreeInput, TreeOutput, WHOLE_BYTES_MAX};
use crate::input::Now;
use crate::log::entry::{Dep, Entry, Head, LogId};
use crate::node::Node;
use crate::node::timers::Timer;
use crate::output::{CloseReason, Output};
use crate::peers::addrs::AddrRecord;
use crate::peers::addrs::RecordOwner;
use crate::wire::Frame;

/// Minimum interval between a member's keep-alives in a large room.
const ALIVE_EVERY: Duration = Duration::from_secs(60);

/// Interval between the keep-alives of all members together, so that each member forwards sixty a minute, however many
/// members there are.
const ALIVE_PER_MEMBER: Duration = Duration::from_secs(1);

/// Minimum interval between a member's keep-alives; bounds the replies to repeated `Gone` reports.
const ALIVE_AGAIN: Duration = Duration::from_secs(10);

/// Delay after an inbound connection before the called peer sends a keep-alive: the caller is its neighbour in the tree
/// by then.
const CALLED: Duration = Duration::from_secs(1);

/// Time a lost neighbour has to reconnect or be seen before it is reported gone; a random half is added, so that one
/// neighbour reports and not all.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// Interval at which a member looks for members that it does not see: when a large room was split, both halves have all
/// the neighbours they want and would not find each other again.
const SEEK_EVERY: Duration = Duration::from_secs(30);

/// Maximum delay after a `Gone` report before a member looks for others.
const SEEK_SOON: Duration = Duration::from_secs(2);

/// Interval at which connections that the tree does not need are closed.
const PRUNE_EVERY: Duration = Duration::from_secs(30);

/// Delay after losing all neighbours before the tree is joined again.
const REJOIN_AFTER: Duration = Duration::from_secs(2);

/// Number of peers through which the tree is joined.
const JOIN_PEERS: usize = 4;

/// Maximum number of messages kept for a peer while it is dialled, and of peers dialled for the tree at a time.
const QUEUE_MAX: usize = 64;

/// How entries spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Every member is connected to every member.
    #[default]
    Mesh,
    /// A tree of bounded degree.
    Tree,
}

/// The tree and what belongs to it.
#[derive(Default)]
pub(crate) struct Dissemination {
    tree: Option<Box<dyn Tree>>,
    mode: Mode,
    neighbours: BTreeSet<PeerId>,
    queued: BTreeMap<PeerId, Vec<Bytes>>,
    /// Logs of which entries arrived by other means than the tree.
    pulled: BTreeSet<LogId>,
    /// When this member last sent a keep-alive.
    alive_at: Option<Duration>,
    /// Whether a neighbour was lost since this member last looked for members that it does not see.
    cut: bool,
}

impl Node {
    /// Gives the node the tree it uses when the room is large. Without one every room is a mesh.
    #[must_use]
    pub fn with_tree(mut self, tree: Box<dyn Tree>, now: Now) -> Self {
        self.delivery.dissemination.tree = Some(tree);
        self.choose_mode(now);
        self
    }

    pub(super) fn is_tree(&self) -> bool {
        self.delivery.dissemination.mode == Mode::Tree
    }

    /// Whether the tree needs a connection to a peer.
    pub(super) fn tree_needs(&self, peer: &PeerId) -> bool {
        self.delivery.dissemination.neighbours.contains(peer) || self.delivery.dissemination.queued.contains_key(peer)
    }

    /// Mesh or tree, by the number of members; a quarter of distance between the two keeps it from flapping.
    pub(super) fn choose_mode(&mut self, now: Now) {
        if self.delivery.dissemination.tree.is_none() {
            return;
        }
        let members = self.membership.roster.members().count();
        let max = self.settings.mesh_members_max;
        let mode = match self.delivery.dissemination.mode {
            Mode::Mesh if members > max => Mode::Tree,
            Mode::Tree if members <= max - max / 4 => Mode::Mesh,
            unchanged @ (Mode::Mesh | Mode::Tree) => unchanged,
        };
        if mode == self.delivery.dissemination.mode {
            return;
        }
        tracing::info!(?mode, members, "dissemination mode changed");
        self.delivery.dissemination.mode = mode;
        match mode {
            Mode::Tree => {
                self.timers.set(Timer::Rejoin, now.mono);
                let first_beacon = ALIVE_EVERY.mul_f64(self.jitter());
                self.timers.set(Timer::Alive, now.mono + first_beacon);
                self.timers.set(Timer::Prune, now.mono + PRUNE_EVERY);
                self.timers.set(Timer::Seek, now.mono + SEEK_EVERY);
            }
            Mode::Mesh => {
                for timer in [Timer::Rejoin, Timer::Alive, Timer::Prune, Timer::Seek] {
                    self.timers.cancel(timer);
                }
                self.dial_everybody(now);
            }
        }
    }

    /// Joins the tree through some peers, unless it has neighbours.
    pub(super) fn rejoin(&mut self, now: Now) {
        if !self.is_tree() || !self.delivery.dissemination.neighbours.is_empty() {
            return;
        }
        self.timers.set(Timer::Rejoin, now.mono + REJOIN_AFTER);
        let mut peers = self.peers.connections.connected_ids();
        if peers.is_empty() {
            let me = self.local.me;
            let known = self.peers.addrs.records().map(|record| record.peer);
            peers = known.filter(|peer| *peer != me && self.membership.roster.is_member(peer)).collect();
        }
        let chosen = peers.into_iter().sample(&mut self.rng, JOIN_PEERS);
        self.tree(TreeInput::Join(chosen), now);
    }

    /// Sends an own entry to every member.
    pub(super) fn broadcast(&mut self, entry: &Arc<Entry>, now: Now) {
        let payload = if entry.signed().len_bytes() <= WHOLE_BYTES_MAX {
            Payload::Entry(entry.signed().clone())
        } else {
            Payload::Have(Dep { log: entry.log(), seq: entry.seq() })
        };
        self.broadcast_payload(&payload, now);
    }

    fn broadcast_payload(&mut self, payload: &Payload, now: Now) {
        match postcard::to_stdvec(payload) {
            Ok(raw) => self.tree(TreeInput::Broadcast(raw.into()), now),
            Err(error) => tracing::error!(%error, "broadcast not sent"),
        }
    }

    /// Sends a keep-alive with this member's addresses.
    pub(super) fn beacon(&mut self, now: Now) {
        let spread = 0.9 + 0.2 * self.jitter();
        self.timers.set(Timer::Alive, now.mono + self.alive_every().mul_f64(spread));
        self.delivery.dissemination.alive_at = Some(now.mono);
        let record = self.sign_own_addrs(now);
        self.peers.addrs.add(record.clone(), RecordOwner::Member);
        self.broadcast_payload(&Payload::Alive(record), now);
    }

    /// Interval between two keep-alives of one member.
    fn alive_every(&self) -> Duration {
        let members = u32::try_from(self.membership.roster.members().count()).unwrap_or(u32::MAX);
        ALIVE_EVERY.max(ALIVE_PER_MEMBER.saturating_mul(members))
    }

    /// Time for which a member is online after it was seen through the tree: two of three keep-alives may be lost.
    pub(super) fn heard_for(&self) -> Duration {
        self.alive_every() * 3 + ALIVE_AGAIN
    }

    /// A connection opened in a large room: the peer at its other end is online, also after it ends. A peer that calls
    /// may have missed this peer's last keep-alive, and others with it: this peer sends another one soon, or all of
    /// them would call.
    pub(super) fn seen_by(&mut self, peer: &PeerId, inbound: bool, now: Now) {
        if !self.is_tree() {
            return;
        }
        self.peers.connections.heard(*peer, now);
        if inbound {
            let earliest = self.delivery.dissemination.alive_at.map_or(now.mono, |at| at + ALIVE_AGAIN);
            self.timers.set_earlier(Timer::Alive, earliest.max(now.mono + CALLED));
        }
    }

    /// A neighbour in the tree is lost: when it does not come back, the room is informed.
    pub(super) fn neighbour_lost(&mut self, peer: PeerId, now: Now) {
        if self.is_tree() && self.delivery.dissemination.neighbours.contains(&peer) {
            let after = GONE_AFTER.mul_f64(1.0 + 0.5 * self.jitter());
            self.timers.set(Timer::Gone(peer), now.mono + after);
        }
    }

    /// Reports a member gone, unless it was seen since. The tree may be split by the loss, and each part still takes
    /// the other for present.
    pub(super) fn tell_gone(&mut self, peer: PeerId, now: Now) {
        if !self.is_tree() || self.peers.connections.is_connected(&peer) {
            return;
        }
        self.delivery.dissemination.cut = true;
        let soon = SEEK_SOON.mul_f64(self.jitter());
        self.timers.set_earlier(Timer::Seek, now.mono + soon);
        if self.peers.connections.was_heard(&peer) {
            let seen = self.peers.addrs.get(&peer).map_or(Timestamp::from_ms(0), |record| record.time);
            self.peers.connections.not_heard(&peer);
            self.presence_changed(now);
            self.broadcast_payload(&Payload::Gone(peer, seen), now);
        }
    }

    /// A member is reported gone and last seen at `seen`.
    fn on_gone(&mut self, peer: PeerId, seen: Timestamp, now: Now) {
        if peer == self.local.me {
            let rested = self.delivery.dissemination.alive_at.is_none_or(|at| at + ALIVE_AGAIN <= now.mono);
            return if rested {
                self.beacon(now)
            } else {
                self.timers.set_earlier(Timer::Alive, now.mono + ALIVE_AGAIN)
            };
        }
        if self.peers.addrs.get(&peer).is_none_or(|record| record.time <= seen) {
            self.peers.connections.not_heard(&peer);
            self.presence_changed(now);
        }
    }

    /// Joins the tree through a member that this one does not see: it may be online in another part of a split tree.
    /// After the loss of a neighbour through any that are not connected: what is known of them may be old.
    pub(super) fn seek(&mut self, now: Now) {
        if !self.is_tree() {
            return;
        }
        let spread = 0.5 + self.jitter();
        self.timers.set(Timer::Seek, now.mono + SEEK_EVERY.mul_f64(spread));
        let cut = std::mem::take(&mut self.delivery.dissemination.cut);
        let missed = |peer: &PeerId| {
            *peer != self.local.me
                && self.peers.addrs.get(peer).is_some()
                && !self.peers.connections.is_connected(peer)
                && (cut || !self.peers.connections.is_online(peer))
        };
        let missed = self.membership.roster.members().map(|person| person.peer.id).filter(missed);
        let chosen = missed.sample(&mut self.rng, if cut { JOIN_PEERS } else { 1 });
        if !chosen.is_empty() {
            self.tree(TreeInput::Join(chosen), now);
        }
    }

    /// A message of the tree arrived.
    pub(super) fn on_tree_message(&mut self, peer: PeerId, raw: Vec<u8>, now: Now) {
        self.tree(TreeInput::Message(peer, raw), now);
    }

    /// Passes an input to the tree, and carries out its outputs.
    pub(super) fn tree(&mut self, input: TreeInput, now: Now) {
        let Some(tree) = self.delivery.dissemination.tree.as_mut() else { return };
        tree.handle(input, now);
        while let Some(output) = self.delivery.dissemination.tree.as_mut().and_then(|tree| tree.poll_output()) {
            match output {
                TreeOutput::Send(peer, raw) => self.tree_sends(peer, raw),
                TreeOutput::Received(from, payload) => self.tree_received(from, &payload, now),
                TreeOutput::Up(peer) => {
                    self.delivery.dissemination.neighbours.insert(peer);
                }
                TreeOutput::Down(peer) => {
                    self.delivery.dissemination.neighbours.remove(&peer);
                    if self.delivery.dissemination.neighbours.is_empty() && self.is_tree() {
                        self.timers.set_earlier(Timer::Rejoin, now.mono + REJOIN_AFTER);
                    }
                }
            }
        }
        match self.delivery.dissemination.tree.as_ref().and_then(|tree| tree.poll_timeout()) {
            Some(at) => self.timers.set(Timer::Tree, at),
            None => self.timers.cancel(Timer::Tree),
        }
    }

    fn tree_sends(&mut self, peer: PeerId, raw: Vec<u8>) {
        let Ok(frame) = Frame::Tree(raw).encode() else { return };
        if self.peers.connections.is_connected(&peer) {
            return self.out.push_back(Output::Send(peer, frame));
        }
        if !self.membership.roster.is_member(&peer) || self.is_stopping() {
            return;
        }
        let room = self.delivery.dissemination.queued.len() < QUEUE_MAX
            || self.delivery.dissemination.queued.contains_key(&peer);
        if room {
            let queue = self.delivery.dissemination.queued.entry(peer).or_default();
            let first = queue.is_empty();
            if queue.len() < QUEUE_MAX {
                queue.push(frame);
            }
            if first {
                self.out.push_back(Output::Dial(peer, self.peers.addrs.addrs(&peer)));
            }
        }
    }

    /// A peer is connected: sends what the tree queued for it.
    pub(super) fn tree_up(&mut self, peer: &PeerId) {
        for frame in self.delivery.dissemination.queued.remove(peer).unwrap_or_default() {
            self.out.push_back(Output::Send(*peer, frame));
        }
    }

    /// A peer is gone or cannot be reached.
    pub(super) fn tree_down(&mut self, peer: PeerId, now: Now) {
        self.delivery.dissemination.queued.remove(&peer);
        self.delivery.dissemination.neighbours.remove(&peer);
        self.tree(TreeInput::Down(peer), now);
    }

    fn tree_received(&mut self, from: PeerId, payload: &[u8], now: Now) {
        match postcard::from_bytes(payload) {
            Ok(Payload::Entry(signed)) => self.receive(from, vec![signed], now),
            Ok(Payload::Have(place)) => {
                self.peers.connections.knows(&from, place.log, place.seq);
                self.sync().fetch_from(from, now);
            }
            Ok(Payload::Alive(record)) => self.on_beacon(record, now),
            Ok(Payload::Gone(peer, seen)) => self.on_gone(peer, seen, now),
            Err(error) => tracing::debug!(%error, "broadcast cannot be decoded"),
        }
    }

    fn on_beacon(&mut self, record: AddrRecord, now: Now) {
        let peer = record.peer;
        if peer == self.local.me || !self.membership.roster.is_member(&peer) {
            return;
        }
        let moved = self.peers.addrs.get(&peer).is_none_or(|held| held.addrs != record.addrs);
        if self.peers.addrs.add(record.clone(), RecordOwner::Member) {
            if moved {
                self.out.push_back(Output::StoreAddrs(vec![record]));
            }
            self.peers.connections.heard(peer, now);
            self.presence_changed(now);
        }
    }

    /// Entries of a log arrived by other means than the tree: neighbours are informed when they are on disk.
    pub(super) fn was_pulled(&mut self, log: LogId) {
        if self.is_tree() {
            self.delivery.dissemination.pulled.insert(log);
        }
    }

    /// Informs neighbours of entries that arrived by other means than the tree, so that they fetch them, too.
    pub(super) fn hint_pulled(&mut self) {
        let pulled = std::mem::take(&mut self.delivery.dissemination.pulled);
        if pulled.is_empty() {
            return;
        }
        let heads: Vec<Head> = self.logs.heads.vector().into_iter().filter(|head| pulled.contains(&head.log)).collect();
        for peer in self.peers.connections.connected_ids() {
            let Some(connected) = self.peers.connections.get(&peer) else { continue };
            let lacks = |head: &&Head| connected.known.get(&head.log).is_none_or(|seq| *seq < head.seq);
            let heads: Vec<Head> = heads.iter().filter(lacks).copied().collect();
            if !heads.is_empty() {
                self.send(&peer, &Frame::Vector { heads, reply: false });
            }
        }
    }

    /// Closes connections that the tree does not need.
    pub(super) fn prune(&mut self, now: Now) {
        self.timers.set(Timer::Prune, now.mono + PRUNE_EVERY);
        if self.delivery.dissemination.neighbours.is_empty() {
            return;
        }
        for peer in self.peers.connections.connected_ids() {
            if !self.tree_needs(&peer) && !self.role_needs(&peer) {
                self.break_with(peer, CloseReason::Surplus, now);
            }
        }
    }
}
