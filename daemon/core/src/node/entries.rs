//! Entries of others: what follows from each, and from the proof of a fork.

use std::sync::Arc;

use chat_proto::id::PeerId;

use crate::delivery::ingest::Received;
use crate::delivery::sync::Exchange;
use crate::input::LoadId;
use crate::log::entry::{Dep, Entry, Header, Seq, SignedEntry};
use crate::log::forks::Proof;
use crate::log::heads::Fit;
use crate::node::Node;
use crate::output::CloseReason;

impl Node {
    /// Entries arrived in a frame.
    pub(super) fn on_entries(&mut self, peer: PeerId, entries: Vec<SignedEntry>) {
        for signed in &entries {
            if let Ok((header, _)) = postcard::take_from_bytes::<Header>(&signed.header)
                && header.seq > self.logs.heads.seq(&header.log)
            {
                self.delivery.dissemination.was_pulled(header.log);
            }
        }
        self.receive(peer, entries);
    }

    /// The answer to a `Want` arrived.
    pub(super) fn on_chunk(&mut self, peer: PeerId, entries: Vec<SignedEntry>) {
        let first = entries.first().and_then(|signed| postcard::take_from_bytes::<Header>(&signed.header).ok());
        let log = first.map(|(header, _)| header.log);
        self.on_entries(peer, entries);
        if let Some(log) = log {
            if let Some(range) = self.logs.forks.came(&peer, &log) {
                self.sync().load_to_compare(log, range);
            }
            self.sync().chunk_came(peer, log);
        }
    }

    /// Takes entries that a peer sent.
    pub(super) fn receive(&mut self, from: PeerId, entries: Vec<SignedEntry>) {
        for signed in entries {
            if !self.logs.disk.has_room() {
                tracing::debug!("entries dropped: too many wait for the disk");
                break;
            }
            match self.ingest().check(&from, signed) {
                Received::Known => {}
                Received::Fault => return self.break_with(from, CloseReason::Protocol),
                Received::Repair(entry) => self.repair(entry),
                Received::New(entry) => {
                    if entry.log() == self.local.log {
                        // Signed by this peer's key and not by this database: an older copy of it came back.
                        self.own_log().renew("this peer's log continued elsewhere");
                    }
                    self.consider(entry, Some(from));
                }
            }
        }
        self.sync().after_entries(&from);
    }

    /// Takes a good copy of a damaged entry. What was not taken as long as control entries were missing is asked for.
    fn repair(&mut self, entry: Arc<Entry>) {
        let lacked = self.membership.gaps.are_open();
        self.ingest().repair(entry);
        if lacked && !self.membership.gaps.are_open() {
            for peer in self.peers.connections.connected_ids() {
                self.sync().send_vector(&peer, Exchange::Opening);
            }
        }
    }

    /// Applies an entry if it can be, and everything that waited for it; otherwise it waits or is refused.
    pub(super) fn consider(&mut self, entry: Arc<Entry>, from: Option<PeerId>) {
        let mut queue = vec![entry];
        while let Some(entry) = queue.pop() {
            let place = Dep { log: entry.log(), seq: entry.seq() };
            match self.logs.heads.fit(&entry, self.logs.taken(&place.log)) {
                Fit::Ready if self.may_write(&entry) => {
                    self.apply(&entry, from);
                    queue.extend(self.logs.pending.release(&place));
                }
                Fit::Ready => self.ingest().void_log(&entry),
                Fit::Missing(missing) => self.ingest().wait(entry, missing, from),
                Fit::Mismatch => {
                    if let Some(from) = from {
                        self.forks().suspect(place, from);
                    }
                }
                Fit::Old | Fit::Cut => {}
            }
        }
    }

    /// Whether the author was a member when its log began, according to the entries that this one depends on.
    fn may_write(&mut self, entry: &Entry) -> bool {
        if entry.is_genesis() {
            return self.logs.heads.is_empty();
        }
        if entry.seq() > Seq(1) || self.membership.may_begin(entry) {
            return true;
        }
        self.refresh();
        self.membership.may_begin(entry)
    }

    fn apply(&mut self, entry: &Arc<Entry>, from: Option<PeerId>) {
        let order = self.logs.heads.apply(entry);
        self.logs.disk.push(entry.clone());
        // A peer that is removed by it still receives it.
        self.spread(entry, from);
        self.membership.apply(entry, order, &self.local.room);
    }

    /// Passes an entry on: in a mesh to peers that its author does not reach, in a tree only what this peer wrote.
    pub(super) fn spread(&mut self, entry: &Entry, from: Option<PeerId>) {
        if !self.delivery.dissemination.is_tree() {
            self.ingest().forward(entry, from);
        } else if entry.log() == self.local.log {
            self.disseminate(|tree| tree.broadcast(entry));
        }
    }

    /// Entries were read from the disk, for a peer that asked or to compare them with another peer's.
    pub(super) fn on_loaded(&mut self, id: LoadId, entries: Vec<SignedEntry>) {
        let compared = self.sync().loaded(id, entries);
        if let Some(proof) = compared.and_then(|(log, entries)| self.forks().compare(log, entries)) {
            self.on_fork(proof);
        }
    }

    /// A proof was found here or arrived from a peer: when it is valid, the log is cut before the fork.
    pub(super) fn on_fork(&mut self, proof: Proof) {
        let Some(log) = self.forks().prove(proof) else { return };
        self.membership.outdate();
        if log == self.local.log {
            self.own_log().renew("this peer's log was forked");
        }
    }
}
