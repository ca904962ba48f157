//! Frames that no honest node would send.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{EntryHash, PeerId, Term};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use rand::{Rng, RngExt};

use crate::log::entry::{Head, Incarnation, LogId, Seq, SignedEntry};
use crate::peers::addrs::AddrRecord;
use crate::rendezvous::protocol::claim::Claim;
use crate::rendezvous::protocol::frames::{Cause, Gossip, RoleFrame};
use crate::rendezvous::protocol::signed::Signed;
use crate::rendezvous::protocol::succession::Succession;
use crate::sim::room::hostile::{Attack, Ending};
use crate::sim::room::machine::Host;
use crate::sim::room::world::RoomWorld;
use crate::wire::extension::{Extension, SignedReceipt};
use crate::wire::{Frame, KnockNews, PeerLink};

impl RoomWorld {
    /// The heads of what a machine holds.
    fn held_heads(&self, host: Host) -> Vec<Head> {
        let held = self.at(host).disk.held.iter().flat_map(|held| held.logs.iter());
        let head = |(log, entries): (&LogId, &Vec<_>)| {
            let last: &std::sync::Arc<crate::log::entry::Entry> = entries.last()?;
            Some(Head { log: *log, seq: last.seq(), hash: last.hash() })
        };
        held.filter_map(head).collect()
    }

    fn some_key(&mut self, host: Host) -> SigningKey {
        let at = self.hostile.rng.random_range(0..self.hostile.sybils.len());
        if self.hostile.chance(0.7) { self.at(host).key.clone() } else { self.hostile.sybils[at].clone() }
    }

    fn some_id(&mut self) -> PeerId {
        let mut ids: Vec<PeerId> = self.machines.iter().map(|machine| machine.id).collect();
        ids.extend(self.hostile.sybil_ids());
        self.hostile.pick(&ids).unwrap_or(PeerId::from_bytes([7; 32]))
    }

    /// Entries of any author with another body, or without theirs.
    pub(super) fn swap_bodies(&mut self, host: Host) {
        let held = self.at(host).disk.held.iter().flat_map(|held| held.logs.values().flatten());
        let all: Vec<SignedEntry> = held.map(|entry| entry.signed().clone()).collect();
        let rng = &mut self.hostile.rng;
        let many = rng.random_range(1..5);
        let chosen = (0..many).filter_map(|_| all.get(rng.random_range(0..all.len().max(1)))).cloned();
        let mut entries: Vec<SignedEntry> = chosen.collect();
        for entry in &mut entries {
            entry.body = match rng.random_range(0..3) {
                0 => None,
                1 => Some(vec![0; 9]),
                _ => all.get(rng.random_range(0..all.len())).and_then(|other| other.body.clone()),
            };
        }
        self.spread_forged(host, &entries);
    }

    /// A vector that claims too much, too little, or other hashes.
    pub(super) fn lie_in_vectors(&mut self, host: Host) {
        let mut heads = self.held_heads(host);
        let rng = &mut self.hostile.rng;
        heads.retain(|_| rng.random_bool(0.8));
        for head in &mut heads {
            match rng.random_range(0..8) {
                0 => head.seq = Seq(head.seq.0 + rng.random_range(1..100)),
                1 => head.hash = EntryHash::from_bytes(rng.random()),
                2 => head.seq = Seq(head.seq.0.saturating_sub(rng.random_range(1..5))),
                _ => {}
            }
        }
        let more = if rng.random_bool(0.2) { 500 } else { rng.random_range(0..3) };
        let authors: Vec<PeerId> = self.machines.iter().map(|machine| machine.id).collect();
        for _ in 0..more {
            let author = authors[rng.random_range(0..authors.len())];
            let log = LogId { author, incarnation: Incarnation(rng.random()) };
            heads.push(Head { log, seq: Seq(rng.random_range(1..50)), hash: EntryHash::from_bytes(rng.random()) });
        }
        let frame = if rng.random_bool(0.2) {
            Frame::Digest { digest: rng.random(), reply: rng.random() }
        } else {
            Frame::Vector { heads, reply: rng.random() }
        };
        self.tell_some(host, &frame);
    }

    /// Receipts of this machine or another for entries that it does not hold.
    pub(super) fn lie_in_receipts(&mut self, host: Host) {
        let heads = self.held_heads(host);
        let Some(mut head) = self.hostile.pick(&heads) else { return };
        let (key, holder) = (self.some_key(host), self.some_id());
        let rng = &mut self.hostile.rng;
        match rng.random_range(0..4) {
            0 => head.seq = Seq(head.seq.0 + rng.random_range(1..10)),
            1 => head.hash = EntryHash::from_bytes(rng.random()),
            2 => head.seq = Seq::MAX,
            _ => {}
        }
        let mut receipt = SignedReceipt::sign(head, &key);
        if rng.random_bool(0.3) {
            receipt.holder = holder;
        }
        let Head { log, seq, hash } = head;
        let own = self.at(host).id;
        let frame = match self.hostile.rng.random_range(0..3) {
            0 => Frame::Held { holder, log, seq, hash },
            1 => Frame::Held { holder: own, log, seq, hash },
            _ => Extension::Receipt(receipt).to_frame(),
        };
        self.tell_some(host, &frame);
    }

    /// Addresses, clocks and connections that are not so.
    pub(super) fn lie_about_addresses(&mut self, host: Host) {
        let (key, other) = (self.some_key(host), self.some_id());
        let wall = self.at(host).clock.at(self.now()).wall.as_ms();
        let machines: Vec<PeerId> = self.machines.iter().map(|machine| machine.id).collect();
        let rng = &mut self.hostile.rng;
        let addr = SocketAddr::from(([203, 0, 113, rng.random()], rng.random()));
        let time = [0, wall - 10_000, wall, wall + 100_000_000, u64::MAX][rng.random_range(0..5)];
        let frame = match rng.random_range(0..3) {
            0 => Frame::Hello { time: Timestamp::from_ms(time), observed: Some(addr) },
            1 => {
                let mut record = AddrRecord::sign(vec![addr; 3], Timestamp::from_ms(time), &key);
                if rng.random_bool(0.3) {
                    record.peer = other;
                }
                Frame::Addrs(vec![record])
            }
            _ => {
                let peers = machines.into_iter().filter(|_| rng.random_bool(0.5)).collect::<Vec<_>>();
                let link = |peer| PeerLink { peer, direct: rng.random(), rtt_us: rng.random() };
                Frame::Links(peers.into_iter().map(link).collect())
            }
        };
        self.tell_some(host, &frame);
    }

    /// Claims with invented sizes, successions, suspicions, heartbeats.
    pub(super) fn lie_about_the_role(&mut self, host: Host) {
        let Some(room) = self.at(host).disk.held.as_ref().map(|held| held.room) else { return };
        let known = self.at(host).node.as_ref().and_then(|node| node.inspect().term()).map_or(1, |term| term.0);
        let at = self.at(host).clock.at(self.now()).wall;
        let (key, other, listed) = (self.some_key(host), self.some_id(), self.some_id());
        let rng = &mut self.hostile.rng;
        let jump = [0, 0, 1, 1, 2, 1 << 20, 1 << 40][rng.random_range(0..7)];
        let term = Term(known.saturating_add(jump));
        let component = [1, 5, 1000, u32::MAX][rng.random_range(0..4)];
        let holder = PeerId::from_bytes(key.verifying_key().to_bytes());
        let reasons =
            [ChangeReason::Died, ChangeReason::Silent, ChangeReason::HandedOver, ChangeReason::BetterConnected];
        let reason = reasons[rng.random_range(0..4)];
        let rank = rng.random_range(1..4);
        let gap_ms = rng.random_range(0..1000);
        let claim = Claim { room, term, claimant: holder, from: Some(other), reason, component, rank, gap_ms, at };
        let claim = Signed::sign(claim, &key).raw().clone();
        let list = if listed == holder { Vec::new() } else { vec![listed] };
        let succession =
            Succession { room, term, holder, serial: rng.random_range(1..1000), at, component, list, rows: Vec::new() };
        let succession = Signed::sign(succession, &key).raw().clone();
        let gossip = Gossip {
            term,
            serial: rng.random_range(0..9),
            age_ms: rng.random_range(0..3000),
            claim: rng.random(),
            digest: rng.random(),
        };
        let nonce = rng.random();
        let frame = match rng.random_range(0..10) {
            0..3 => RoleFrame::Claim(claim),
            3 => RoleFrame::State { claim: Some(claim), succession: Some(succession) },
            4 => RoleFrame::Succession(succession),
            5 => RoleFrame::Beat { term, seq: rng.random_range(0..1000), heard_ms: rng.random_range(0..5000) },
            6 => RoleFrame::Ping { nonce, gossip },
            7 => RoleFrame::Suspect { term, nonce, cause: if rng.random() { Cause::Died } else { Cause::Silent } },
            8 => RoleFrame::Verdict { nonce, term, heard_ms: None },
            _ => RoleFrame::History(vec![claim]),
        };
        self.tell_some(host, &Frame::Role(frame.encode()));
    }

    /// Asks for much, again and again, and for what does not exist.
    pub(super) fn want_much(&mut self, host: Host) {
        let heads = self.held_heads(host);
        for _ in 0..self.hostile.rng.random_range(1..60) {
            let Some(Head { log, seq, .. }) = self.hostile.pick(&heads) else { return };
            let rng = &mut self.hostile.rng;
            let from = Seq(rng.random_range(0..=seq.0));
            let to = if rng.random() { Seq::MAX } else { Seq(rng.random_range(0..=seq.0)) };
            let peers = self.linked_peers(host);
            let Some(peer) = self.hostile.pick(&peers) else { return };
            self.tell(host, &peer, &Frame::Want { log, from, to });
        }
    }

    /// Repeats frames of others.
    pub(super) fn replay(&mut self, host: Host) {
        for _ in 0..self.hostile.rng.random_range(1..20) {
            let many = self.hostile.heard.len();
            let at = self.hostile.rng.random_range(0..many.max(1));
            let peers = self.linked_peers(host);
            let Some(raw) = self.hostile.heard.get(at).cloned() else { return };
            let Some(peer) = self.hostile.pick(&peers) else { return };
            self.send(host, &peer, raw);
        }
    }

    /// Bytes that are no frame, or one of no protocol.
    pub(super) fn send_garbage(&mut self, host: Host) {
        let rng = &mut self.hostile.rng;
        let length = rng.random_range(0..200);
        let noise: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        let raw = match rng.random_range(0..3) {
            0 => Bytes::from(noise),
            1 => Frame::Role(noise).encode().unwrap_or_default(),
            _ => Frame::Tree(noise).encode().unwrap_or_default(),
        };
        for peer in self.some_peers(host) {
            self.send(host, &peer, raw.clone());
        }
    }

    /// Pairs of entries as if they proved a fork; some do.
    pub(super) fn prove_nothing(&mut self, host: Host) {
        let held = self.at(host).disk.held.iter().flat_map(|held| held.logs.values().flatten());
        let mut all: Vec<SignedEntry> = held.map(|entry| entry.signed().clone()).collect();
        all.extend(self.hostile.forged.iter().map(|entry| entry.signed().clone()));
        let rng = &mut self.hostile.rng;
        if all.is_empty() {
            return;
        }
        for _ in 0..rng.random_range(1..10) {
            let [one, other] = [(); 2].map(|()| all[self.hostile.rng.random_range(0..all.len())].clone());
            self.tell_some(host, &Frame::Fork(Box::new(one), Box::new(other)));
        }
    }

    /// News of knocks.
    pub(super) fn invent_knocks(&mut self, host: Host) {
        let peer = self.some_id();
        let rng = &mut self.hostile.rng;
        let state = [KnockNews::Waiting, KnockNews::Denied, KnockNews::Over][rng.random_range(0..3)];
        let frame = Frame::Knock { peer, name: "eve".into(), words: "babad-babad-babad".into(), state };
        self.tell_some(host, &frame);
    }

    /// For a while the node's frames to some peers are dropped.
    pub(super) fn fall_silent(&mut self, host: Host) {
        let until = self.now() + Duration::from_millis(self.hostile.rng.random_range(100..15_000));
        for peer in self.some_peers(host) {
            self.hostile.silent.insert((host, peer), until);
        }
    }

    /// What becomes of a frame that the node of a machine sends.
    pub(in crate::sim::room) fn tampered(&mut self, host: Host, peer: &PeerId, frame: Bytes) -> Option<Bytes> {
        if !self.hostile.has(host) {
            return Some(frame);
        }
        let of_log = || {
            let decoded = Frame::decode(&frame);
            matches!(decoded, Ok(Frame::Entries(_) | Frame::Chunk(_) | Frame::Vector { .. } | Frame::Digest { .. }))
        };
        match self.hostile.endings.get(&host) {
            Some(Ending::Honest) => return Some(frame),
            Some(Ending::Silent | Ending::Gone) => return (!of_log()).then_some(frame),
            None => {}
        }
        let until = self.hostile.silent.get(&(host, *peer)).copied().unwrap_or_default();
        if self.now() < until {
            return None;
        }
        let tampers = self.hostile.repertoire.contains(&Attack::Tamper) && self.hostile.chance(0.1);
        if tampers { self.change(&frame) } else { Some(frame) }
    }

    /// Changes a frame, or drops it.
    fn change(&mut self, frame: &Bytes) -> Option<Bytes> {
        let rng = &mut self.hostile.rng;
        let changed = match Frame::decode(frame).ok()? {
            Frame::Entries(entries) => Frame::Entries(worse(entries, rng)),
            Frame::Chunk(entries) => Frame::Chunk(worse(entries, rng)),
            Frame::Vector { mut heads, reply } => {
                heads.retain(|_| rng.random_bool(0.5));
                Frame::Vector { heads, reply }
            }
            Frame::Want { log, from, .. } => Frame::Want { log, from, to: Seq::MAX },
            Frame::Digest { .. }
            | Frame::Hello { .. }
            | Frame::Held { .. }
            | Frame::Links(_)
            | Frame::Addrs(_)
            | Frame::Knock { .. }
            | Frame::Fork(..)
            | Frame::Tree(_)
            | Frame::Role(_)
            | Frame::Ping(_)
            | Frame::Pong(_)
            | Frame::Bye => return None,
        };
        changed.encode().ok()
    }
}

/// The same entries in another order, without some, or without bodies.
fn worse(mut entries: Vec<SignedEntry>, rng: &mut impl Rng) -> Vec<SignedEntry> {
    match rng.random_range(0..4) {
        0 => entries.reverse(),
        1 => entries.retain(|_| rng.random_bool(0.5)),
        2 => entries.iter_mut().for_each(|entry| entry.body = None),
        _ => entries.clear(),
    }
    entries
}
