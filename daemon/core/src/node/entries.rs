//! Entries of others: what follows from each, and from the proof of a fork.

use std::sync::Arc;

use chat_proto::event::Event;
use chat_proto::id::PeerId;

use crate::delivery::budget::{Arrival, is_old_of_another};
use crate::delivery::ingest::Received;
use crate::delivery::sync::Exchange;
use crate::input::{BatchId, LoadId};
use crate::log::entry::{Dep, Entry, Header, LogId, Seq, SignedEntry, hash_header};
use crate::log::forks::{Contradiction, Proof};
use crate::log::heads::Fit;
use crate::node::Node;
use crate::output::{CloseReason, Output};
use crate::restore::Restored;

/// The sequence number of the last of some entries.
fn last_seq(entries: &[SignedEntry]) -> Option<Seq> {
    let (header, _) = postcard::take_from_bytes::<Header>(&entries.last()?.header).ok()?;
    Some(header.seq)
}

impl Node {
    /// Entries arrived in a frame.
    pub(super) fn on_entries(&mut self, peer: PeerId, entries: Vec<SignedEntry>, arrival: Arrival) {
        for signed in &entries {
            if let Some((header, log)) = self.filed(signed)
                && header.seq > self.logs.heads.seq(&log)
            {
                self.delivery.dissemination.was_pulled(log);
            }
        }
        self.receive(peer, entries, arrival);
    }

    /// The answer to a `Want` arrived.
    pub(super) fn on_chunk(&mut self, peer: PeerId, entries: Vec<SignedEntry>) {
        let Some(first) = entries.first().cloned() else { return };
        let Ok((header, _)) = postcard::take_from_bytes::<Header>(&first.header) else {
            return self.on_entries(peer, entries, Arrival::Pushed);
        };
        let known = self.filed(&first).map(|(_, log)| log);
        let last = last_seq(&entries);
        let answered = self.delivery.sync.wanted(&peer, header.log.author, header.seq);
        let arrival = if answered.is_some() { Arrival::Requested } else { Arrival::Pushed };
        self.on_entries(peer, entries, arrival);
        if let Some((log, range)) = self.logs.forks.came(&peer, header.log.author) {
            self.sync().load_to_compare(log, range);
        }
        if let Some(log) = answered.filter(|_| known.is_none()) {
            // It builds on an entry of no branch that is held: the peer holds another continuation of that log.
            self.forks().suspect(Dep { log, seq: header.seq }, peer);
        }
        if let Some(log) = known.or(answered) {
            self.logs.bodies.answered(&peer, &log, last, &mut self.cx);
            self.sync().chunk_came(peer, log);
        }
    }

    /// Bodies arrived that were requested.
    pub(super) fn on_bodies(&mut self, peer: PeerId, log: LogId, mut entries: Vec<SignedEntry>) {
        entries.retain(|signed| signed.body.is_some());
        let last = last_seq(&entries);
        for signed in entries {
            match self.ingest().check_requested_body(&peer, signed, log) {
                Received::Body(entry) => self.logs.disk.push_body(entry),
                Received::Fault => return self.break_with(peer, CloseReason::Protocol),
                Received::New(_) | Received::Repair(_) | Received::Known => {}
            }
        }
        self.logs.bodies.answered(&peer, &log, last, &mut self.cx);
    }

    /// The header of an entry, and the log that it is filed in, as far as that is known.
    fn filed(&self, signed: &SignedEntry) -> Option<(Header, LogId)> {
        let (header, _) = postcard::take_from_bytes::<Header>(&signed.header).ok()?;
        let log = self.logs.file(&header, || hash_header(&signed.header))?;
        Some((header, log))
    }

    /// Takes entries that a peer sent.
    pub(super) fn receive(&mut self, from: PeerId, entries: Vec<SignedEntry>, arrival: Arrival) {
        for signed in entries {
            if !self.logs.disk.has_room() {
                tracing::debug!("entries dropped: too many wait for the disk");
                break;
            }
            match self.ingest().check(&from, signed, arrival) {
                Received::Known => {}
                Received::Fault => return self.break_with(from, CloseReason::Protocol),
                Received::Repair(entry) => self.repair(entry),
                Received::Body(entry) => self.logs.disk.push_body(entry),
                Received::New(entry) => {
                    if entry.log() == self.local.log {
                        // Signed by this peer's key and not by this database: an older copy of it came back.
                        self.own_log().renew("this peer's log continued elsewhere");
                    }
                    self.consider_new(entry, from);
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

    /// Applies a new entry if it can be, and everything that waited for it, unless it contradicts what waits.
    fn consider_new(&mut self, entry: Arc<Entry>, from: PeerId) {
        match self.forks().contradiction(&entry, from) {
            Contradiction::None => self.consider(entry, Some(from)),
            Contradiction::Earlier => {}
            Contradiction::Proven(proof) => {
                self.on_fork(*proof);
                if let Some(entry) = self.logs.refile(entry) {
                    self.consider(entry, Some(from));
                }
            }
        }
    }

    /// Applies an entry if it can be, and everything that waited for it; otherwise it waits or is refused.
    pub(super) fn consider(&mut self, entry: Arc<Entry>, from: Option<PeerId>) {
        let mut queue = vec![entry];
        while let Some(entry) = queue.pop() {
            if self.logs.disk.is_refiling() {
                // It comes again when this peer shows what it holds then.
                return;
            }
            let place = Dep { log: entry.log(), seq: entry.seq() };
            match self.logs.heads.fit(&entry, self.logs.taken(&place.log)) {
                Fit::Ready => {
                    let may_write = self.may_write(&entry);
                    if !self.is_filed(&entry) {
                        queue.extend(self.logs.refile(entry));
                    } else if may_write {
                        self.apply(&entry, from);
                        queue.extend(self.released_by(&entry));
                    } else {
                        // Its author's admission may be in a branch that is not held yet: when that comes, the log is valid.
                        self.ingest().void_log(&entry);
                    }
                }
                Fit::Missing(missing) => {
                    if let Some(from) = from.filter(|_| entry.begins()) {
                        self.suspect_parents(&entry, from);
                    }
                    self.ingest().wait(entry, missing, from);
                }
                Fit::Mismatch => {
                    if let Some(from) = from {
                        self.forks().suspect(place, from);
                    }
                }
                Fit::Old | Fit::Cut | Fit::Ahead => {}
            }
        }
    }

    /// The entry on which a branch builds is not held: a log that reaches as far may have been forked before it.
    fn suspect_parents(&mut self, first: &Entry, peer: PeerId) {
        if self.logs.heads.parent(first).is_some() {
            return;
        }
        let (author, before) = (first.author(), Seq(first.seq().0.saturating_sub(1)));
        let heads = &self.logs.heads;
        let reaches = |log: &&LogId| log.author == author && heads.signed(log) == first.header().log;
        let logs: Vec<LogId> = heads.logs().filter(reaches).filter(|log| heads.seq(log) >= before).copied().collect();
        for log in logs {
            self.forks().suspect(Dep { log, seq: before }, peer);
        }
    }

    /// Whether an entry is in the log that it belongs to: the membership may have made a proof valid that came early.
    fn is_filed(&self, entry: &Entry) -> bool {
        !self.logs.disk.is_refiling() && self.logs.file(entry.header(), || entry.hash()) == Some(entry.log())
    }

    /// What waited for an entry.
    pub(super) fn released_by(&mut self, entry: &Entry) -> Vec<Arc<Entry>> {
        let (author, seq) = (entry.author(), entry.seq());
        let mut released = self.logs.pending.release(&Dep { log: entry.log(), seq });
        if self.logs.forks.concern(author) {
            released.extend(self.logs.pending.release_branches(author, seq));
        }
        released
    }

    /// Whether the author was a member when its log began, according to the entries that this one depends on.
    fn may_write(&mut self, entry: &Entry) -> bool {
        if entry.is_genesis() {
            return self.logs.heads.is_empty();
        }
        let parent = self.logs.heads.parent(entry);
        if (entry.seq() > Seq(1) && parent.is_none()) || self.membership.may_begin(entry, parent) {
            return true;
        }
        self.refresh();
        self.membership.may_begin(entry, parent)
    }

    fn apply(&mut self, entry: &Arc<Entry>, from: Option<PeerId>) {
        let parent = self.logs.heads.parent(entry);
        let order = self.logs.heads.apply(entry);
        self.logs.disk.push(entry.clone());
        if from.is_none_or(|from| !is_old_of_another(entry.header(), &from, self.cx.now.wall)) {
            self.delivery.budgets.took(entry, &self.cx.settings.budget, self.cx.now.mono);
        }
        if entry.lacks_body() {
            // Others may have it with its body: they fetch it when they see that this peer holds it.
            self.ingest().lack(entry);
        } else {
            // A peer that is removed by it still receives it.
            self.spread(entry, from);
        }
        self.membership.apply(entry, order, parent, &self.local.room);
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

    /// A proof was found here or arrived from a peer: when it is valid, the log ends before the fork, and what lies beyond
    /// is filed in branches.
    pub(super) fn on_fork(&mut self, proof: Proof) {
        let Some(log) = self.forks().prove(proof) else { return };
        let peer = self.membership.roster.peer_ref(&log.author);
        self.delivery.budgets.forked(log.author, &self.cx.settings.budget, self.cx.now.mono);
        self.cx.push(Output::Publish(Event::Fork { peer }));
        self.membership.outdate();
        // What waits belongs to branches now.
        self.membership.cuts_moved = true;
        if log == self.local.log {
            self.own_log().renew("this peer's log was forked");
        }
    }

    /// Entries beyond a fork were filed in branches on disk: takes over what it holds now. What arrived meanwhile was not
    /// taken; neighbours learn what this peer holds, and send it again.
    pub(super) fn on_refiled(&mut self, batch: BatchId, restored: Restored) {
        if !self.logs.disk.was_read(batch) {
            return;
        }
        self.logs.heads.forget();
        self.membership.forget();
        self.take_logs(restored);
        self.logs.repairs.refile(&self.logs.heads);
        self.sync().forget_requests();
        self.membership.cuts_moved = true;
        self.catch_up();
        for peer in self.peers.connections.connected_ids() {
            self.sync().send_vector(&peer, Exchange::Opening);
        }
    }
}
