//! Dissemination in large rooms: entries travel through a broadcast tree, and only its neighbours stay connected.
//!
//! A room is a mesh or a tree by its number of members ([`Mode`]). In a tree, own entries are broadcast, every member
//! sends a keep-alive now and then because it is not connected to most others, and a lost neighbour is reported gone.
//! Entries that arrive by other means are announced to neighbours, so that a split tree does not split the room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use rand::seq::IteratorRandom;

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::delivery::tree::{Payload, Tree, TreeInput, TreeOutput, WHOLE_BYTES_MAX};
use crate::log::entry::{Dep, Entry, LogId};
use crate::log::local::Local;
use crate::membership::roster::Roster;
use crate::output::Output;
use crate::peers::Peers;
use crate::peers::addrs::{AddrRecord, RecordOwner};
use crate::types::PathInfo;
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

/// Number of neighbours below which a member looks for others: it may belong to a small part of a split tree.
const NEIGHBOURS_MIN: usize = 3;

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
pub(crate) enum Mode {
    /// Every member is connected to every member.
    #[default]
    Mesh,
    /// A tree of bounded degree.
    Tree,
}

/// The tree and what belongs to it.
#[derive(Default)]
pub(crate) struct Dissemination {
    pub(crate) tree: Option<Box<dyn Tree>>,
    mode: Mode,
    /// Neighbours in the tree, and peers that are dialled for it.
    peers: BTreeMap<PeerId, TreePeer>,
    /// Logs of which entries arrived by other means than the tree.
    pulled: BTreeSet<LogId>,
    /// When this member last sent a keep-alive.
    alive_at: Option<Duration>,
    /// Whether a neighbour or the holder was lost since this member last looked for members that it does not see.
    cut: bool,
}

/// A peer to which the tree needs a connection.
#[derive(Default)]
struct TreePeer {
    is_neighbour: bool,
    /// Messages for it while it is dialled.
    queued: Vec<Bytes>,
}

impl Dissemination {
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn is_tree(&self) -> bool {
        self.mode == Mode::Tree
    }

    /// Whether the tree needs a connection to a peer.
    pub(crate) fn needs(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    fn neighbours(&self) -> usize {
        self.peers.values().filter(|peer| peer.is_neighbour).count()
    }

    fn has_neighbours(&self) -> bool {
        self.neighbours() > 0
    }

    /// Takes what was queued for a peer.
    fn take_queued(&mut self, peer: &PeerId) -> Vec<Bytes> {
        let Some(known) = self.peers.get_mut(peer) else { return Vec::new() };
        let queued = std::mem::take(&mut known.queued);
        if !known.is_neighbour {
            self.peers.remove(peer);
        }
        queued
    }

    /// A peer is no longer a neighbour in the tree.
    fn not_neighbour(&mut self, peer: &PeerId) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.is_neighbour = false;
            if known.queued.is_empty() {
                self.peers.remove(peer);
            }
        }
    }

    /// Queues a message for a peer that has to be dialled; returns whether it is the first one.
    fn queue(&mut self, peer: PeerId, frame: Bytes) -> bool {
        let dialled = self.peers.values().filter(|known| !known.queued.is_empty()).count();
        let known = self.peers.entry(peer).or_default();
        let first = known.queued.is_empty();
        let room = if first { dialled < QUEUE_MAX } else { known.queued.len() < QUEUE_MAX };
        if room {
            known.queued.push(frame);
        } else if first && !known.is_neighbour {
            self.peers.remove(&peer);
        }
        first && room
    }

    /// Entries of a log arrived by other means than the tree: neighbours are informed when they are on disk.
    pub(crate) fn was_pulled(&mut self, log: LogId) {
        if self.is_tree() {
            self.pulled.insert(log);
        }
    }

    pub(crate) fn take_pulled(&mut self) -> BTreeSet<LogId> {
        std::mem::take(&mut self.pulled)
    }
}

/// Works with the tree: borrows it and what is known of other peers. What the tree delivers is left in it: the node takes
/// it with [`DisseminationHandler::received`] after each call.
pub(crate) struct DisseminationHandler<'a> {
    pub(crate) local: &'a Local,
    pub(crate) roster: &'a Roster,
    pub(crate) dissemination: &'a mut Dissemination,
    pub(crate) peers: &'a mut Peers,
    pub(crate) cx: &'a mut NodeContext,
}

impl DisseminationHandler<'_> {
    /// Mesh or tree, by the number of members; a quarter of distance between the two keeps it from flapping. Returns
    /// the new mode, if it changes.
    pub(crate) fn choose_mode(&mut self) -> Option<Mode> {
        self.dissemination.tree.as_ref()?;
        let members = self.roster.members().count();
        let max = self.cx.settings.mesh_members_max;
        let mode = match self.dissemination.mode {
            Mode::Mesh if members > max => Mode::Tree,
            Mode::Tree if members <= max - max / 4 => Mode::Mesh,
            Mode::Mesh | Mode::Tree => return None,
        };
        tracing::info!(?mode, members, "dissemination mode changed");
        self.dissemination.mode = mode;
        match mode {
            Mode::Tree => {
                self.cx.set(Timer::Rejoin, Duration::ZERO);
                let first_alive = ALIVE_EVERY.mul_f64(self.cx.jitter());
                self.cx.set(Timer::Alive, first_alive);
                self.cx.set(Timer::Prune, PRUNE_EVERY);
                self.cx.set(Timer::Seek, SEEK_EVERY);
            }
            Mode::Mesh => {
                for timer in [Timer::Rejoin, Timer::Alive, Timer::Prune, Timer::Seek] {
                    self.cx.timers.cancel(timer);
                }
            }
        }
        Some(mode)
    }

    /// Joins the tree through some peers, unless it has neighbours.
    pub(crate) fn rejoin(&mut self) {
        if !self.dissemination.is_tree() || self.dissemination.has_neighbours() {
            return;
        }
        self.cx.set(Timer::Rejoin, REJOIN_AFTER);
        let mut peers = self.peers.connections.connected_ids();
        if peers.is_empty() {
            let known = self.peers.addrs.records().map(|record| record.peer);
            peers = known.filter(|peer| *peer != self.local.me && self.roster.is_member(peer)).collect();
        }
        let chosen = peers.into_iter().sample(&mut self.cx.rng, JOIN_PEERS);
        self.input(TreeInput::Join(chosen));
    }

    /// Sends an own entry to every member.
    pub(crate) fn broadcast(&mut self, entry: &Entry) {
        let payload = if entry.signed().len_bytes() <= WHOLE_BYTES_MAX {
            Payload::Entry(entry.signed().clone())
        } else {
            Payload::Have(Dep { log: entry.log(), seq: entry.seq() })
        };
        self.broadcast_payload(&payload);
    }

    fn broadcast_payload(&mut self, payload: &Payload) {
        match postcard::to_stdvec(payload) {
            Ok(raw) => self.input(TreeInput::Broadcast(raw.into())),
            Err(error) => tracing::error!(%error, "broadcast not sent"),
        }
    }

    /// Sends a keep-alive with this member's addresses.
    pub(crate) fn keep_alive(&mut self) {
        let spread = 0.9 + 0.2 * self.cx.jitter();
        self.cx.set(Timer::Alive, self.alive_every().mul_f64(spread));
        self.dissemination.alive_at = Some(self.cx.now.mono);
        let record = self.peers.sign_own_addrs(self.local, self.cx.now);
        self.peers.addrs.add(record.clone(), RecordOwner::Member);
        self.broadcast_payload(&Payload::Alive(record));
    }

    /// Interval between two keep-alives of one member.
    fn alive_every(&self) -> Duration {
        let members = u32::try_from(self.roster.members().count()).unwrap_or(u32::MAX);
        ALIVE_EVERY.max(ALIVE_PER_MEMBER.saturating_mul(members))
    }

    /// Time for which a member is online after it was seen through the tree: two of three keep-alives may be lost.
    pub(crate) fn heard_for(&self) -> Duration {
        self.alive_every() * 3 + ALIVE_AGAIN
    }

    /// A connection opened: sends what the tree queued for the peer. In a large room the peer is online, also after the
    /// connection ends. A peer that calls may have missed this peer's last keep-alive, and others with it: this peer
    /// sends another one soon, or all of them would call.
    pub(crate) fn peer_up(&mut self, peer: &PeerId, path: &PathInfo) {
        for frame in self.dissemination.take_queued(peer) {
            self.cx.push(Output::Send(*peer, frame));
        }
        if !self.dissemination.is_tree() {
            return;
        }
        self.peers.presence.heard(*peer, self.cx.now);
        if path.inbound {
            let now = self.cx.now.mono;
            let earliest = self.dissemination.alive_at.map_or(now, |at| at + ALIVE_AGAIN);
            self.cx.timers.set_earlier(Timer::Alive, earliest.max(now + CALLED));
        }
    }

    /// A connection ended, perhaps to a neighbour in the tree: when that does not come back, the room is informed.
    pub(crate) fn peer_lost(&mut self, peer: PeerId) {
        let was_neighbour = self.dissemination.peers.get(&peer).is_some_and(|known| known.is_neighbour);
        if self.dissemination.is_tree() && was_neighbour {
            let after = GONE_AFTER.mul_f64(1.0 + 0.5 * self.cx.jitter());
            self.cx.set(Timer::Gone(peer), after);
        }
        self.peer_down(peer);
    }

    /// A peer is not connected, or cannot be reached.
    pub(crate) fn peer_down(&mut self, peer: PeerId) {
        self.dissemination.peers.remove(&peer);
        self.input(TreeInput::Down(peer));
    }

    /// A lost neighbour did not come back. The tree may be split by the loss, and each part still takes the other for
    /// present. Returns whether the neighbour was taken for online, so that the room has to be told.
    pub(crate) fn is_gone(&mut self, peer: &PeerId) -> bool {
        if !self.dissemination.is_tree() || self.peers.connections.is_connected(peer) {
            return false;
        }
        self.seek_soon();
        let was_heard = self.peers.presence.was_heard(peer);
        self.peers.presence.not_heard(peer);
        was_heard
    }

    /// The tree may be split: looks for members in other parts of it.
    pub(crate) fn seek_soon(&mut self) {
        if self.dissemination.is_tree() {
            self.dissemination.cut = true;
            let soon = SEEK_SOON.mul_f64(self.cx.jitter());
            self.cx.set_earlier(Timer::Seek, soon);
        }
    }

    /// Reports a member gone.
    pub(crate) fn report_gone(&mut self, peer: PeerId) {
        let seen = self.peers.addrs.get(&peer).map_or(Timestamp::from_ms(0), |record| record.time);
        self.broadcast_payload(&Payload::Gone(peer, seen));
    }

    /// A member is reported gone and last seen at `seen`; returns whether it is taken for gone here, too.
    pub(crate) fn reported_gone(&mut self, peer: PeerId, seen: Timestamp) -> bool {
        if peer == self.local.me {
            let rested = self.dissemination.alive_at.is_none_or(|at| at + ALIVE_AGAIN <= self.cx.now.mono);
            if rested {
                self.keep_alive();
            } else {
                self.cx.set_earlier(Timer::Alive, ALIVE_AGAIN);
            }
            return false;
        }
        let gone = self.peers.addrs.get(&peer).is_none_or(|record| record.time <= seen);
        if gone {
            self.peers.presence.not_heard(&peer);
        }
        gone
    }

    /// A member sent a keep-alive; returns whether it is new.
    pub(crate) fn is_alive(&mut self, record: AddrRecord) -> bool {
        let peer = record.peer;
        if peer == self.local.me || !self.roster.is_member(&peer) {
            return false;
        }
        let moved = self.peers.addrs.get(&peer).is_none_or(|held| held.addrs != record.addrs);
        if !self.peers.addrs.add(record.clone(), RecordOwner::Member) {
            return false;
        }
        if moved {
            self.cx.push(Output::StoreAddrs(vec![record]));
        }
        self.peers.presence.heard(peer, self.cx.now);
        true
    }

    /// Joins the tree through a member that this one does not see: it may be online in another part of a split tree.
    /// After the loss of a neighbour or of the holder, and with few neighbours, through any that are not connected: what is
    /// known of them may be old.
    pub(crate) fn seek(&mut self) {
        if !self.dissemination.is_tree() {
            return;
        }
        let spread = 0.5 + self.cx.jitter();
        self.cx.set(Timer::Seek, SEEK_EVERY.mul_f64(spread));
        let cut = std::mem::take(&mut self.dissemination.cut) || self.dissemination.neighbours() < NEIGHBOURS_MIN;
        let missed = |peer: &PeerId| {
            *peer != self.local.me
                && self.peers.addrs.get(peer).is_some()
                && !self.peers.connections.is_connected(peer)
                && (cut || !self.peers.presence.is_online(peer))
        };
        let missed = self.roster.members().map(|person| person.peer.id).filter(missed);
        let chosen = missed.sample(&mut self.cx.rng, if cut { JOIN_PEERS } else { 1 });
        if !chosen.is_empty() {
            self.input(TreeInput::Join(chosen));
        }
    }

    /// Passes an input to the tree.
    pub(crate) fn input(&mut self, input: TreeInput) {
        if let Some(tree) = self.dissemination.tree.as_mut() {
            tree.handle(input, self.cx.now);
        }
    }

    /// Carries out what the tree wants; returns the next broadcast that it delivers, with the neighbour it is from.
    pub(crate) fn received(&mut self) -> Option<(PeerId, Bytes)> {
        while let Some(output) = self.dissemination.tree.as_mut()?.poll_output() {
            match output {
                TreeOutput::Send(peer, raw) => self.send(peer, raw),
                TreeOutput::Received(from, payload) => return Some((from, payload)),
                TreeOutput::Up(peer) => self.dissemination.peers.entry(peer).or_default().is_neighbour = true,
                TreeOutput::Down(peer) => {
                    self.dissemination.not_neighbour(&peer);
                    if !self.dissemination.has_neighbours() && self.dissemination.is_tree() {
                        self.cx.set_earlier(Timer::Rejoin, REJOIN_AFTER);
                    }
                }
            }
        }
        let next = self.dissemination.tree.as_ref()?.poll_timeout();
        self.cx.set_at(Timer::Tree, next);
        None
    }

    fn send(&mut self, peer: PeerId, raw: Vec<u8>) {
        let Ok(frame) = Frame::Tree(raw).encode() else { return };
        if self.peers.connections.is_connected(&peer) {
            return self.cx.push(Output::Send(peer, frame));
        }
        let wanted = self.roster.is_member(&peer) && !self.local.is_stopping();
        if wanted && self.dissemination.queue(peer, frame) {
            self.cx.push(Output::Dial(peer, self.peers.addrs.addrs(&peer)));
        }
    }

    /// Whether connections that the tree does not need may be closed now.
    pub(crate) fn may_prune(&mut self) -> bool {
        self.cx.set(Timer::Prune, PRUNE_EVERY);
        self.dissemination.has_neighbours()
    }
}
