//! Frames from connected members.

use std::net::SocketAddr;

use chat_proto::id::PeerId;
use chat_proto::time::{Timestamp, is_clock_off};

use crate::delivery::sync::Exchange;
use crate::input::Now;
use crate::log::entry::{Dep, Head, Header, SignedEntry};
use crate::node::Node;
use crate::output::{CloseReason, Output};
use crate::peers::addrs::AddrRecord;
use crate::peers::addrs::RecordOwner;
use crate::rendezvous::events::RoleInput;
use crate::wire::{Frame, PeerLink};

impl Node {
    pub(super) fn on_frame(&mut self, peer: PeerId, raw: &[u8], now: Now) {
        if !self.peers.connections.is_connected(&peer) {
            return;
        }
        self.peers.liveness.heard(&peer, now.mono);
        let frame = match Frame::decode(raw) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, remote = %peer.short(), "bad frame");
                return self.break_with(peer, CloseReason::Protocol, now);
            }
        };
        match frame {
            Frame::Hello { time, observed } => self.on_hello(peer, time, observed, now),
            Frame::Entries(entries) => self.on_entries(peer, entries, now),
            Frame::Chunk(entries) => self.on_chunk(peer, entries, now),
            Frame::Vector { heads, reply } => self.on_vector(peer, heads, Exchange::from_reply(reply), now),
            Frame::Digest { digest, reply } => self.on_digest(peer, digest, Exchange::from_reply(reply), now),
            Frame::Want { log, from, to } => self.sync().on_want(peer, log, from, to),
            Frame::Held { holder, log, seq, hash } => self.on_held(peer, holder, Head { log, seq, hash }, now),
            Frame::Links(links) => self.on_links(peer, links, now),
            Frame::Addrs(records) => self.on_addr_records(peer, records, now),
            Frame::Knock { peer: stranger, name, words, state } => {
                self.door().on_knock_news(peer, stranger, name, words, state, now);
            }
            Frame::Fork(one, other) => self.on_fork(*one, *other),
            Frame::Ping(number) => self.answer_ping(&peer, number),
            Frame::Bye => {
                self.tell_role(RoleInput::Bye(peer), now);
                self.on_bye(peer, now);
            }
            Frame::Tree(raw) => self.on_tree_message(peer, raw, now),
            Frame::Role(raw) => self.tell_role(RoleInput::Frame(peer, raw), now),
            Frame::Pong(_) => {}
        }
    }

    /// Sends a frame to a peer if it is connected.
    pub(super) fn send(&mut self, peer: &PeerId, frame: &Frame) {
        self.peers.connections.send(&mut self.out, peer, frame);
    }

    fn on_hello(&mut self, peer: PeerId, time: Timestamp, observed: Option<SocketAddr>, now: Now) {
        let off_ms = self.peers.connections.compare_clock(&peer, time, now);
        if let Some(off_ms) = off_ms.filter(is_clock_off) {
            tracing::warn!(remote = %peer.short(), off_ms, "this clock and the peer's differ, check the time on both machines");
        }
        if let Some(observed) = observed
            && self.peers.connections.set_observed(&peer, observed)
        {
            self.out.push_back(Output::Observed(observed));
        }
    }

    fn on_entries(&mut self, peer: PeerId, entries: Vec<SignedEntry>, now: Now) {
        for signed in &entries {
            if let Ok((header, _)) = postcard::take_from_bytes::<Header>(&signed.header)
                && header.seq > self.logs.heads.seq(&header.log)
            {
                self.was_pulled(header.log);
            }
        }
        self.receive(peer, entries, now);
    }

    fn on_chunk(&mut self, peer: PeerId, entries: Vec<SignedEntry>, now: Now) {
        let first = entries.first().and_then(|signed| postcard::take_from_bytes::<Header>(&signed.header).ok());
        let log = first.map(|(header, _)| header.log);
        self.on_entries(peer, entries, now);
        if let Some(log) = log {
            self.compare_what_came(peer, log);
            self.sync().chunk_came(peer, log, now);
        }
    }

    fn on_held(&mut self, from: PeerId, holder: PeerId, head: Head, now: Now) {
        let Head { log, seq, hash } = head;
        if holder == from {
            self.shows_own_head(&from, &log, seq, &hash);
        }
        if log == self.local.log {
            let known = holder != self.local.me && self.membership.roster.is_member(&holder);
            if known && self.delivery.receipts.held(holder, seq, &hash) {
                self.receipts_changed();
            } else if holder == from && self.delivery.receipts.contradicts(seq, &hash) {
                self.suspect(Dep { log, seq }, Some(from), now);
            }
        } else if holder == from && self.peers.connections.is_connected(&log.author) {
            self.send(&log.author, &Frame::Held { holder, log, seq, hash });
        }
    }

    /// Answers posts, and publishes deliveries, for which enough peers hold the message now.
    pub(super) fn receipts_changed(&mut self) {
        for (command, waiting) in self.delivery.receipts.take_reached() {
            self.reply_posted(command, &waiting);
        }
        for (message, seq, recipients) in self.delivery.receipts.take_delivered() {
            let copies = u32::try_from(self.delivery.receipts.holders(&self.local.log, seq).len()).unwrap_or(u32::MAX);
            let delivered = recipients.iter().map(|peer| self.membership.roster.peer_ref(peer)).collect();
            self.out.push_back(Output::Publish(chat_proto::event::Event::Delivery { message, copies, delivered }));
        }
    }

    fn on_links(&mut self, peer: PeerId, links: Vec<PeerLink>, now: Now) {
        self.peers.connections.set_links(&peer, links);
        self.tell_parted();
        self.presence_changed(now);
    }

    fn on_addr_records(&mut self, from: PeerId, records: Vec<AddrRecord>, now: Now) {
        let mut news = Vec::new();
        for record in records {
            let member = self.membership.roster.is_member(&record.peer) || !self.is_member();
            let standing = if member { RecordOwner::Member } else { RecordOwner::Stranger };
            if record.peer != self.local.me && self.peers.addrs.add(record.clone(), standing) {
                news.push(record);
            }
        }
        if news.is_empty() {
            return;
        }
        self.out.push_back(Output::StoreAddrs(news.clone()));
        for record in &news {
            self.consider_dialling(record.peer, now);
        }
        self.relays_changed(now);
        let frame = Frame::Addrs(news);
        for peer in self.peers.connections.connected_ids() {
            if peer != from {
                self.send(&peer, &frame);
            }
        }
    }
}
