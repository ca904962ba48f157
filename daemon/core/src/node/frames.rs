//! Frames from connected members, and what their broadcast tree delivers.

use chat_proto::id::PeerId;
use chat_proto::time::is_clock_off;

use crate::delivery::budget::Arrival;
use crate::delivery::dissemination::DisseminationHandler;
use crate::delivery::sync::Exchange;
use crate::delivery::tree::{Payload, TreeInput};
use crate::log::entry::{Dep, Head};
use crate::node::Node;
use crate::output::{CloseReason, Output};
use crate::peers::addrs::AddrRecord;
use crate::peers::connections::ReceiptsWanted;
use crate::rendezvous::events::RoleInput;
use crate::wire::Frame;
use crate::wire::extension::{Extension, SignedReceipt};

impl Node {
    pub(super) fn on_frame(&mut self, peer: PeerId, raw: &[u8]) {
        if !self.peers.connections.is_connected(&peer) {
            return;
        }
        self.peers.connections.heard(&peer, self.cx.now.mono);
        let frame = match Frame::decode(raw) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, remote = %peer.short(), "bad frame");
                return self.break_with(peer, CloseReason::Protocol);
            }
        };
        match frame {
            Frame::Hello { time, observed } => {
                let off_ms = self.peers.connections.compare_clock(&peer, time, self.cx.now);
                if let Some(off_ms) = off_ms.filter(is_clock_off) {
                    tracing::warn!(remote = %peer.short(), off_ms, "this clock and the peer's differ, check the time on both machines");
                }
                if observed.is_some_and(|addr| self.peers.connections.set_observed(&peer, addr)) {
                    self.announce_observed(&peer);
                }
            }
            Frame::Entries(mut entries) => {
                // What was not asked for comes whole.
                entries.retain(|signed| signed.body.is_some());
                self.on_entries(peer, entries, Arrival::Pushed);
            }
            Frame::Chunk(entries) => self.on_chunk(peer, entries),
            Frame::Vector { heads, reply } => self.on_vector(peer, heads, Exchange::from_reply(reply)),
            Frame::Digest { digest, reply } => {
                if let Some(heads) = self.sync().on_digest(peer, digest, Exchange::from_reply(reply)) {
                    self.on_vector(peer, heads, Exchange::Answer);
                }
            }
            Frame::Want { log, from, to } => self.sync().on_want(peer, log, from, to),
            Frame::Held { holder, log, seq, hash } => self.on_held(peer, holder, Head { log, seq, hash }),
            Frame::Links(links) => {
                for lost in self.peers.connections.set_links(&peer, links) {
                    // Its neighbour may be the first that misses it.
                    self.peers.suspect(&lost, &mut self.cx);
                }
                self.tell_parted();
                self.presence_changed();
            }
            Frame::Addrs(records) => self.on_addr_records(peer, records),
            Frame::Knock { peer: stranger, name, words, state } => {
                self.door().on_knock_news(peer, stranger, name, words, state);
            }
            Frame::Fork(one, other) => self.on_fork((*one, *other)),
            Frame::Ping(number) => self.peers.send_ping(&peer, number, &Frame::Pong(number), &mut self.cx),
            Frame::Bye => {
                self.tell_role(RoleInput::Bye(peer));
                self.on_bye(peer);
            }
            Frame::Tree(raw) => self.disseminate(|tree| tree.input(TreeInput::Message(peer, raw))),
            Frame::Role(raw) if Extension::is_in(&raw) => self.on_extension(peer, &raw),
            Frame::Role(raw) => self.tell_role(RoleInput::Frame(peer, raw)),
            Frame::Pong(_) => {}
        }
    }

    /// Announces the address at which a peer sees this one, if that is to be believed.
    pub(super) fn announce_observed(&mut self, peer: &PeerId) {
        let holder = self.role.query().and_then(|role| role.holder()).map(|(holder, _)| holder);
        let members = self.membership.roster.members().count();
        if let Some(addr) = self.peers.connections.believed(peer, holder, members) {
            self.cx.push(Output::Observed(addr));
        }
    }

    /// A version vector arrived, or a digest showed that it is this peer's own.
    fn on_vector(&mut self, peer: PeerId, heads: Vec<Head>, exchange: Exchange) {
        self.peers.connections.holds(&peer, &heads);
        for head in &heads {
            self.own_log().shows_head(&peer, head);
            if let Some(seq) = self.logs.pending.differs(head) {
                self.forks().suspect(Dep { log: head.log, seq }, peer);
            }
            let receipts = &mut self.delivery.receipts;
            let own = self.logs.heads.head(&head.log).filter(|own| own.hash != head.hash);
            let differs = own.is_some_and(|own| own.seq == head.seq);
            let mine = head.log == self.local.log;
            if own.is_some() && self.logs.heads.is_void(&head.log) {
                self.forks().suspect_void(head, peer);
            } else if differs || (mine && receipts.contradicts(head.seq, &head.hash)) {
                self.forks().suspect(Dep { log: head.log, seq: head.seq }, peer);
            } else if mine && self.membership.is_member(&peer) {
                receipts.held(peer, head.seq, &head.hash);
            }
        }
        if exchange == Exchange::Opening {
            self.sync().send_vector(&peer, Exchange::Answer);
        }
        self.logs.bodies.shown(&peer, &mut self.cx);
        self.sync().fetch_causes(peer);
        self.receipts().changed();
    }

    /// What members of version 0.1 do not understand.
    fn on_extension(&mut self, from: PeerId, raw: &[u8]) {
        match Extension::decode(raw) {
            Some(Extension::Announced) => {
                if let Some(connected) = self.peers.connections.get_mut(&from) {
                    connected.extended = true;
                }
            }
            Some(Extension::Receipt(receipt)) => self.on_signed_receipt(from, receipt),
            Some(Extension::GivesBodies) => {
                if let Some(connected) = self.peers.connections.get_mut(&from) {
                    connected.gives_bodies = true;
                }
            }
            Some(Extension::WantBodies { log, from: first, to }) => self.sync().on_want_bodies(from, log, first, to),
            Some(Extension::Bodies { log, entries }) => self.on_bodies(from, log, entries),
            Some(Extension::GroupsReceipts) => {
                if let Some(connected) = self.peers.connections.get_mut(&from) {
                    connected.receipts = ReceiptsWanted::Grouped(None);
                }
            }
            Some(Extension::AwaitsReceipt { log, seq }) => self.receipts().awaited(&from, Dep { log, seq }),
            None => tracing::debug!(remote = %from.short(), "extension of a later version"),
        }
    }

    /// A receipt without a signature: believed only from the holder itself, and forwarded once to a neighbour of version
    /// 0.1 that does not know any other.
    fn on_held(&mut self, from: PeerId, holder: PeerId, head: Head) {
        if holder != from {
            return;
        }
        self.own_log().shows_head(&from, &head);
        let Head { log, seq, hash } = head;
        if log == self.local.log {
            if self.membership.is_member(&holder) && self.delivery.receipts.held(holder, seq, &hash) {
                self.receipts().changed();
            } else if self.delivery.receipts.contradicts(seq, &hash) {
                self.forks().suspect(Dep { log, seq }, from);
            }
        } else if self.peers.connections.get(&log.author).is_some_and(|author| !author.extended) {
            self.peers.connections.send(&mut self.cx.out, &log.author, &Frame::Held { holder, log, seq, hash });
        }
    }

    /// A receipt with its holder's signature: for this peer's log, or for a neighbour's, to which it is forwarded once.
    fn on_signed_receipt(&mut self, from: PeerId, receipt: SignedReceipt) {
        let SignedReceipt { holder, log, seq, hash, .. } = receipt;
        if log == self.local.log {
            let receipts = &mut self.delivery.receipts;
            let useful = holder != self.local.me
                && self.membership.is_member(&holder)
                && receipts.is_news(&holder, seq, &hash)
                && receipt.verify();
            if useful && receipts.held(holder, seq, &hash) {
                self.receipts().changed();
            }
        } else if holder == from
            && let Some(author) = self.peers.connections.get(&log.author)
        {
            let frame = if author.extended {
                Extension::Receipt(receipt).to_frame()
            } else {
                Frame::Held { holder, log, seq, hash }
            };
            self.peers.connections.send(&mut self.cx.out, &log.author, &frame);
        }
    }

    fn on_addr_records(&mut self, from: PeerId, records: Vec<AddrRecord>) {
        let news = self.dials().learn(records);
        if news.is_empty() {
            return;
        }
        if self.membership.is_arriving(&self.local.me) {
            self.membership.outdate();
        }
        self.role.update_relays(&self.local, &self.membership.roster, &self.peers, &mut self.cx);
        let frame = Frame::Addrs(news);
        for peer in self.peers.connections.connected_ids() {
            if peer != from {
                self.peers.connections.send(&mut self.cx.out, &peer, &frame);
            }
        }
    }

    /// Works with the broadcast tree, and takes in what it delivers.
    pub(super) fn disseminate(&mut self, act: impl FnOnce(&mut DisseminationHandler<'_>)) {
        act(&mut self.dissemination());
        while let Some((from, payload)) = self.dissemination().received() {
            match postcard::from_bytes(&payload) {
                Ok(Payload::Entry(signed)) if signed.body.is_some() => {
                    self.receive(from, vec![signed], Arrival::Pushed)
                }
                Ok(Payload::Entry(_)) => tracing::debug!("broadcast without a body"),
                Ok(Payload::Have(place)) => {
                    self.peers.connections.knows(&from, place.log, place.seq);
                    self.sync().fetch_from(from);
                }
                Ok(Payload::Alive(record)) => {
                    if self.dissemination().is_alive(record) {
                        self.presence_changed();
                    }
                }
                Ok(Payload::Gone(peer, seen)) => {
                    if self.dissemination().reported_gone(peer, seen) {
                        self.presence_changed();
                    }
                }
                Err(error) => tracing::debug!(%error, "broadcast cannot be decoded"),
            }
        }
    }
}
