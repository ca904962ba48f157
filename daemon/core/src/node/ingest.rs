//! Ingest: entries of others are verified, put in causal order, applied and forwarded.
//!
//! Every entry that arrives in a frame, from the tree or from the waiting room goes through [`Node::consider`]. An entry is
//! applied when all its dependencies are; until then it waits in [`Pending`](crate::log::pending::Pending), and the peer
//! that sent it is asked for what is missing after a short grace. No date delays an entry. One that is not what its author
//! signed is dropped and fetched from another peer. One that proves a fork, or belongs to a stranger's log, is not applied.

use std::sync::Arc;

use chat_proto::id::PeerId;

use crate::input::Now;
use crate::log::entry::{Dep, Entry, EntryError, Header, Seq, SignedEntry};
use crate::log::heads::Fit;
use crate::node::Node;
use crate::node::timers::Timer;
use crate::output::CloseReason;
use crate::wire::Frame;

/// Maximum number of entries on one connection that are not what was signed; beyond, the peer is disconnected.
const BAD_ENTRIES_MAX: u32 = 64;

impl Node {
    /// Takes entries that a peer sent.
    pub(super) fn receive(&mut self, from: PeerId, entries: Vec<SignedEntry>, now: Now) {
        for signed in entries {
            if !self.logs.disk.has_room() {
                tracing::debug!("entries dropped: too many wait for the disk");
                break;
            }
            let Ok((header, _)) = postcard::take_from_bytes::<Header>(&signed.header) else {
                if !self.tolerates(&from, EntryError::Malformed) {
                    return self.break_with(from, CloseReason::Protocol, now);
                }
                continue;
            };
            let place = Dep { log: header.log, seq: header.seq };
            self.peers.connections.knows(&from, place.log, place.seq);
            self.logs.forks.keep(&from, &place, &signed);
            if self.logs.disk.is_writing(&place.log) {
                // What this very log holds next is being written here: it went on elsewhere, and that shows later.
                continue;
            }
            let damaged = self.logs.repairs.awaits(&place);
            if !damaged && (header.seq <= self.logs.heads.seq(&place.log) || self.logs.pending.contains(&place)) {
                continue;
            }
            match Entry::verify(signed, &self.local.room) {
                Ok(entry) if damaged && entry.body().is_some() => self.repair(entry),
                Ok(entry) if entry.body().is_some() => {
                    if entry.log() == self.local.log {
                        // Signed by this peer's key and not by this database: an older copy of it came back.
                        self.renew_incarnation("this peer's log continued elsewhere");
                    }
                    self.consider(Arc::new(entry), Some(from), now);
                }
                Ok(_) => {}
                Err(error) => {
                    if !self.tolerates(&from, error) {
                        return self.break_with(from, CloseReason::Protocol, now);
                    }
                }
            }
        }
        self.sync().after_entries(&from, now);
    }

    /// Drops an entry that is not what was signed: the sender's disk may be damaged, and other peers hold good copies.
    /// Returns whether the sender may send more: many such entries are no accident.
    fn tolerates(&mut self, from: &PeerId, error: EntryError) -> bool {
        tracing::warn!(remote = %from.short(), %error, "entry rejected");
        let Some(connected) = self.peers.connections.get_mut(from) else { return false };
        connected.bad_entries += 1;
        connected.bad_entries <= BAD_ENTRIES_MAX
    }

    /// Applies an entry if it can be, and everything that waited for it; otherwise it waits or is refused.
    pub(super) fn consider(&mut self, entry: Arc<Entry>, from: Option<PeerId>, now: Now) {
        let mut queue = vec![entry];
        while let Some(entry) = queue.pop() {
            let place = Dep { log: entry.log(), seq: entry.seq() };
            match self.logs.heads.fit(&entry, self.logs.taken(&place.log)) {
                Fit::Ready if self.may_write(&entry, now) => {
                    self.apply(&entry, from, now);
                    queue.extend(self.logs.pending.release(&place));
                }
                Fit::Ready => {
                    tracing::debug!(author = %place.log.author.short(), "log of a stranger is void");
                    self.void_log(&entry);
                }
                Fit::Missing(missing) => self.wait_for(entry, missing, from, now),
                Fit::Mismatch => self.suspect(place, from, now),
                Fit::Old | Fit::Cut => {}
            }
        }
    }

    /// Reconsiders the entries that waited for an entry.
    pub(super) fn release(&mut self, place: &Dep, now: Now) {
        for entry in self.logs.pending.release(place) {
            self.consider(entry, None, now);
        }
    }

    fn wait_for(&mut self, entry: Arc<Entry>, missing: Dep, from: Option<PeerId>, now: Now) {
        // A peer that holds an entry holds its dependencies.
        let place = Dep { log: entry.log(), seq: entry.seq() };
        if let Some(holder) = from.or_else(|| self.peers.connections.who_knows(&place)) {
            self.peers.connections.knows(&holder, missing.log, missing.seq);
            self.timers.set_earlier(Timer::Fetch(holder), now.mono + crate::delivery::sync::FETCH_GRACE);
        }
        if !self.logs.heads.counts(&place.log, place.seq) && self.logs.pending.awaited(&place.log) < place.seq {
            // The missing entry may never arrive: a peer that holds this one sends it again.
            return;
        }
        if !self.logs.pending.wait(entry, missing) {
            tracing::debug!(waiting = self.logs.pending.len(), "entry dropped: too many wait for their dependencies");
        }
    }

    /// Whether the author was a member when its log began, according to the entries that this one depends on.
    fn may_write(&mut self, entry: &Entry, now: Now) -> bool {
        if entry.is_genesis() {
            return self.logs.heads.is_empty();
        }
        let begins = |node: &Self| {
            node.membership.derived.cut(&entry.log(), entry.header().order_after(None)) != Some(Seq::ZERO)
        };
        if entry.seq() > Seq(1) || begins(self) {
            return true;
        }
        self.refresh(now);
        begins(self)
    }

    fn apply(&mut self, entry: &Arc<Entry>, from: Option<PeerId>, now: Now) {
        let order = self.logs.heads.apply(entry);
        self.logs.disk.push(entry.clone());
        // A peer that is removed by it still receives it.
        self.spread(entry, from, now);
        if entry.control().is_some() {
            self.apply_control(entry, order);
        }
    }

    /// Passes an entry on to every connected peer that does not hold it and is not reached by its author.
    pub(super) fn spread(&mut self, entry: &Arc<Entry>, from: Option<PeerId>, now: Now) {
        if self.is_tree() {
            if entry.author() == self.local.me && entry.log() == self.local.log {
                self.broadcast(entry, now);
            }
            return;
        }
        let place = Dep { log: entry.log(), seq: entry.seq() };
        let author = entry.author();
        let needs = |peer: &PeerId, known: bool| {
            *peer != author
                && Some(*peer) != from
                && !known
                && (author == self.local.me || !self.peers.connections.reaches(&author, peer))
        };
        let to: Vec<PeerId> = self
            .peers
            .connections
            .connected()
            .filter(|(peer, c)| needs(peer, c.known.get(&place.log).is_some_and(|seq| *seq >= place.seq)))
            .map(|(peer, _)| *peer)
            .collect();
        if to.is_empty() {
            return;
        }
        let Ok(frame) = Frame::Entries(vec![entry.signed().clone()]).encode() else { return };
        for peer in to {
            self.peers.connections.knows(&peer, place.log, place.seq);
            self.out.push_back(crate::output::Output::Send(peer, frame.clone()));
        }
    }
}
