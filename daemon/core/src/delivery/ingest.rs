//! Ingest: entries of others are verified, put in causal order, applied and forwarded.
//!
//! Every entry that arrives in a frame, from the tree or from the waiting room goes through the node's `consider`
//! (`node/entries.rs`), which works with [`IngestHandler`]. An entry is applied when all its dependencies are; until then it
//! waits in [`Pending`](crate::log::pending::Pending), and the peer that sent it is asked for what is missing after a short
//! grace. No date delays an entry. One that is not what its author signed is dropped and fetched from another peer. One
//! beyond a fork is filed in its branch ([`crate::log::forks`]). One of a stranger's log is not applied.

use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::delivery::budget::{Arrival, Budgets, is_old_of_another};
use crate::delivery::sync::FETCH_GRACE;
use crate::log::Logs;
use crate::log::entry::{Dep, Entry, EntryError, Header, LogId, Seq, SignedEntry, hash_header};
use crate::log::local::Local;
use crate::membership::Membership;
use crate::output::Output;
use crate::peers::connections::Connections;
use crate::wire::Frame;

/// What a received entry is.
pub(crate) enum Received {
    /// New: to be considered.
    New(Arc<Entry>),
    /// A good copy of one that is damaged on this peer's disk.
    Repair(Arc<Entry>),
    /// An entry that is held without its body, with the body.
    Body(Arc<Entry>),
    /// Nothing new.
    Known,
    /// One of too many that are not what was signed: the sender is disconnected.
    Fault,
}

/// Takes entries in: borrows the logs and the membership that they extend.
pub(crate) struct IngestHandler<'a> {
    pub(crate) local: &'a Local,
    pub(crate) logs: &'a mut Logs,
    pub(crate) membership: &'a mut Membership,
    pub(crate) connections: &'a mut Connections,
    pub(crate) budgets: &'a mut Budgets,
    pub(crate) cx: &'a mut NodeContext,
}

impl IngestHandler<'_> {
    /// Looks at an entry that a peer sent.
    pub(crate) fn check(&mut self, from: &PeerId, signed: SignedEntry, arrival: Arrival) -> Received {
        let Ok((header, _)) = postcard::take_from_bytes::<Header>(&signed.header) else {
            return self.reject(from, EntryError::Malformed);
        };
        self.logs.forks.keep(from, &header, &signed);
        if self.logs.disk.is_refiling() {
            // It comes again when this peer shows what it holds then.
            return Received::Known;
        }
        let damaged = self.logs.repairs.awaited(&header, &self.logs.heads);
        let filed = damaged.map(|place| place.log).or_else(|| self.logs.file(&header, || hash_header(&signed.header)));
        // One of an unknown branch comes again with what it builds on.
        let Some(log) = filed else { return Received::Known };
        let place = Dep { log, seq: header.seq };
        self.connections.knows(from, place.log, place.seq);
        if self.logs.disk.is_writing(&place.log) {
            // What this very log holds next is being written here: it went on elsewhere, and that shows later.
            return Received::Known;
        }
        let damaged = damaged.is_some();
        if !damaged && self.membership.gaps.hold_off(self.cx.now.mono) {
            return Received::Known;
        }
        if !damaged && self.logs.bodies.lacks(&place) {
            return self.check_body(from, signed, place);
        }
        let waits = |entry: &Arc<Entry>| entry.hash() == hash_header(&signed.header);
        let held = header.seq <= self.logs.heads.seq(&place.log) || self.logs.pending.get(&place).is_some_and(waits);
        if !damaged && held {
            return Received::Known;
        }
        if !damaged && arrival == Arrival::Pushed && self.comes_later(from, &header, &place) {
            return Received::Known;
        }
        match Entry::verify(signed, &self.local.room) {
            Ok(entry) if entry.lacks_body() && (damaged || !self.logs.bodies.may_lack(&entry, self.cx.now.wall)) => {
                Received::Known
            }
            Ok(entry) if damaged => Received::Repair(Arc::new(entry.filed_in(log))),
            Ok(entry) => Received::New(Arc::new(entry.filed_in(log))),
            Err(error) => self.reject(from, error),
        }
    }

    /// Whether an entry that was not requested is fetched later: too much of its author waits for the disk or its author is
    /// over its budget, or it follows what is still to be fetched. Not if others wait for it.
    fn comes_later(&mut self, from: &PeerId, header: &Header, place: &Dep) -> bool {
        let author = place.log.author;
        if author == self.local.me || self.logs.pending.awaited_by_others(&place.log) >= place.seq {
            return false;
        }
        let (settings, now) = (&self.cx.settings.budget, self.cx.now);
        let over_for = match is_old_of_another(header, from, now.wall) {
            true => Duration::ZERO,
            false => self.budgets.over_for(&author, settings, now.mono),
        };
        let has_gap = place.seq > self.logs.reach(&place.log).next();
        let later = over_for > Duration::ZERO
            || !self.logs.disk.has_room_for(&author)
            || (has_gap && self.budgets.is_behind(&author));
        if later && self.budgets.fall_behind(author) {
            tracing::debug!(author = %author.short(), "entries are fetched later: their author writes much");
        }
        if over_for > Duration::ZERO {
            self.cx.set_earlier(Timer::Fetch(*from), over_for);
        }
        later
    }

    /// Looks at an answer to a request for the bodies of a log. Where in a branch an entry stands does not follow from its header.
    pub(crate) fn check_requested_body(&mut self, from: &PeerId, signed: SignedEntry, log: LogId) -> Received {
        let Ok((header, _)) = postcard::take_from_bytes::<Header>(&signed.header) else {
            return self.reject(from, EntryError::Malformed);
        };
        let place = Dep { log, seq: header.seq };
        let named = self.logs.heads.signed(&log) == header.log;
        let takes = self.logs.disk.has_room() && !self.logs.disk.is_refiling();
        if named && takes && self.logs.bodies.lacks(&place) {
            self.check_body(from, signed, place)
        } else {
            Received::Known
        }
    }

    /// Looks at an entry that is held without its body.
    fn check_body(&mut self, from: &PeerId, signed: SignedEntry, place: Dep) -> Received {
        match Entry::verify(signed, &self.local.room) {
            Ok(entry) if entry.lacks_body() => Received::Known,
            Ok(entry) => {
                self.logs.bodies.came(&place);
                Received::Body(Arc::new(entry.filed_in(place.log)))
            }
            Err(error) => self.reject(from, error),
        }
    }

    fn reject(&mut self, from: &PeerId, error: EntryError) -> Received {
        if self.connections.tolerates(from, error) { Received::Known } else { Received::Fault }
    }

    /// A copy of a damaged entry arrived: it goes to the store.
    pub(crate) fn repair(&mut self, entry: Arc<Entry>) {
        let place = Dep { log: entry.log(), seq: entry.seq() };
        self.logs.repairs.repaired(&place);
        // A damaged control entry was passed over when this peer started.
        self.membership.repaired(&entry, &self.local.room);
        self.cx.push(Output::Repair(entry));
    }

    /// An entry has to wait for one that is missing; not if it is void and may never be completed.
    pub(crate) fn wait(&mut self, entry: Arc<Entry>, missing: Dep, from: Option<PeerId>) {
        // A peer that holds an entry holds its dependencies.
        let place = Dep { log: entry.log(), seq: entry.seq() };
        if let Some(holder) = from.or_else(|| self.connections.who_knows(&place)) {
            self.connections.knows(&holder, missing.log, missing.seq);
            self.cx.set_earlier(Timer::Fetch(holder), FETCH_GRACE);
        }
        if !self.logs.heads.counts(&place.log, place.seq) && self.logs.pending.awaited(&place.log) < place.seq {
            // The missing entry may never arrive: a peer that holds this one sends it again.
            return;
        }
        if !self.logs.pending.wait(entry, missing) {
            tracing::debug!(waiting = self.logs.pending.len(), "entry dropped: too many wait for their dependencies");
        }
    }

    /// The first entry came of a log whose author was not a member then: nothing waits any more for the rest of it.
    pub(crate) fn void_log(&mut self, entry: &Arc<Entry>) {
        tracing::debug!(author = %entry.author().short(), "log of a stranger is void");
        if self.logs.heads.has_room_for_void() {
            self.logs.heads.void(entry.log());
            self.logs.disk.changes.cuts.insert(entry.log(), Seq::ZERO);
            let parent = self.logs.heads.parent(entry);
            let order = self.logs.heads.apply(entry);
            self.logs.disk.push(entry.clone());
            self.lack(entry);
            self.membership.apply(entry, order, parent, &self.local.room);
        } else {
            self.logs.heads.refuse(entry.log());
        }
        self.membership.cuts_moved = true;
    }

    /// Asks for the body of an entry that was filed without it.
    pub(crate) fn lack(&mut self, entry: &Entry) {
        if entry.lacks_body() {
            self.logs.bodies.lack(entry, self.connections, self.cx);
        }
    }

    /// Sends an entry to every connected peer that does not hold it and is not connected to its author.
    pub(crate) fn forward(&mut self, entry: &Entry, from: Option<PeerId>) {
        let place = Dep { log: entry.log(), seq: entry.seq() };
        let (author, me) = (entry.author(), self.local.me);
        let needs = |peer: &PeerId| {
            *peer != author && Some(*peer) != from && (author == me || !self.connections.reaches(&author, peer))
        };
        let to = self.connections.connected().filter(|(peer, connected)| !connected.knows(&place) && needs(peer));
        let to: Vec<PeerId> = to.map(|(peer, _)| *peer).collect();
        if to.is_empty() {
            return;
        }
        let Ok(frame) = Frame::Entries(vec![entry.signed().clone()]).encode() else { return };
        for peer in to {
            self.connections.knows(&peer, place.log, place.seq);
            self.cx.push(Output::Send(peer, frame.clone()));
        }
    }
}
