//! Entries written by hand, as no honest node would write them.

use std::sync::Arc;

use chat_proto::id::{EntryHash, InviteId, PeerId};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use rand::RngExt;

use crate::admission::codec::sign_ticket;
use crate::log::entry::{
    AdmitBy, Body, Control, Dep, Entry, Header, Hlc, Incarnation, LogId, MessageBody, Seq, SignedEntry,
};
use crate::log::signature::SignatureBytes;
use crate::sim::room::hostile::Hostiles;
use crate::sim::room::machine::Host;
use crate::sim::room::machine::disk::HeldData;
use crate::sim::room::world::RoomWorld;

/// Where an entry is put: its log, its sequence number and the entry before it.
#[derive(Clone, Copy)]
struct Spot {
    log: LogId,
    seq: Seq,
    backlink: Option<EntryHash>,
}

impl Spot {
    fn after(entry: &Entry) -> Self {
        Self { log: entry.header().log, seq: entry.seq().next(), backlink: Some(entry.hash()) }
    }
}

impl RoomWorld {
    /// The key that signs: mostly the machine's own.
    fn forging_key(&mut self, host: Host) -> SigningKey {
        let hosts: Vec<Host> = self.hostile.hosts.iter().copied().collect();
        match self.hostile.rng.random_range(0..10) {
            0 => {
                let at = self.hostile.rng.random_range(0..self.hostile.sybils.len());
                self.hostile.sybils[at].clone()
            }
            1..3 => {
                let other = self.hostile.pick(&hosts).unwrap_or(host);
                self.at(other).key.clone()
            }
            _ => self.at(host).key.clone(),
        }
    }

    /// Everything that is known of an author: on the machine's disk, and forged.
    fn known_entries(&self, host: Host, author: PeerId) -> Vec<Arc<Entry>> {
        let held = self.at(host).disk.held.iter();
        let stored = held.flat_map(|held| held.logs.range(LogId::range_of(author)).flat_map(|(_, entries)| entries));
        let forged = self.hostile.forged.iter().filter(|entry| entry.author() == author);
        stored.chain(forged).cloned().collect()
    }

    /// Where the next forged entry of an author goes: behind any of its entries, mostly a late one, or into a new log.
    fn spot(&mut self, host: Host, author: PeerId) -> Spot {
        let known = self.known_entries(host, author);
        let rng = &mut self.hostile.rng;
        let at = match rng.random_range(0..10) {
            0..5 => known.len().checked_sub(1),
            5..7 if !known.is_empty() => Some(known.len() - 1 - rng.random_range(0..known.len().min(4))),
            7 if !known.is_empty() => Some(rng.random_range(0..known.len())),
            _ => None,
        };
        if let Some(entry) = at.and_then(|at| known.get(at)) {
            return Spot::after(entry);
        }
        let incarnation = if rng.random_bool(0.3) { rng.random_range(0..4) } else { rng.random() };
        Spot { log: LogId { author, incarnation: Incarnation(incarnation) }, seq: Seq(1), backlink: None }
    }

    /// A date: now, or anything else.
    fn forged_date(&mut self, host: Host) -> Hlc {
        let wall = self.at(host).clock.at(self.now()).wall.as_ms();
        let rng = &mut self.hostile.rng;
        let spread = [5_000, 3_600_000, 400 * 24 * 3_600_000][rng.random_range(0..3)];
        match rng.random_range(0..10) {
            0 => Hlc(0),
            1 => Hlc(u64::MAX),
            2..4 => Hlc::from_wall(Timestamp::from_ms(wall + rng.random_range(0..spread))),
            4..6 => Hlc::from_wall(Timestamp::from_ms(wall - rng.random_range(0..spread))),
            _ => Hlc::from_wall(Timestamp::from_ms(wall)),
        }
    }

    /// Dependencies: everything, little, nothing, or what does not exist.
    fn forged_deps(&mut self, host: Host, author: PeerId, spot: &Spot) -> Vec<Dep> {
        let Some(held) = self.at(host).disk.held.clone() else { return Vec::new() };
        let tips: Vec<Dep> = held.logs.values().filter_map(|entries| Some(place(entries.last()?))).take(60).collect();
        let all: Vec<Dep> = held.logs.values().flatten().map(|entry| place(entry)).collect();
        let forged: Vec<Dep> = self.hostile.forged.iter().map(|entry| place(entry)).collect();
        let hostile = &mut self.hostile;
        let mut deps = Vec::new();
        if spot.seq == Seq(1) && hostile.chance(0.85) {
            deps.extend(admissions(&held, author));
        }
        match hostile.rng.random_range(0..10) {
            0..4 => deps.extend(tips.iter().filter(|dep| dep.log != spot.log)),
            4..6 => deps.extend((0..3).filter_map(|_| hostile.pick(&all))),
            6 => deps.extend((0..3).filter_map(|_| hostile.pick(&forged))),
            7 => deps.extend(hostile.invented(&tips)),
            _ => {}
        }
        if hostile.chance(0.1) {
            let order = [0, 1 << 62, u64::MAX - 70_000, u64::MAX, hostile.rng.random()];
            deps.push(Dep::order(author, Hlc(hostile.pick(&order).unwrap_or_default())));
        }
        deps
    }

    /// Signs an entry and keeps it.
    fn forge_at(&mut self, host: Host, key: &SigningKey, spot: Spot, body: Body) -> Option<Arc<Entry>> {
        let author = spot.log.author;
        let (deps, time) = (self.forged_deps(host, author, &spot), self.forged_date(host));
        self.sign_at(host, key, spot, deps, time, body)
    }

    fn sign_at(
        &mut self,
        host: Host,
        key: &SigningKey,
        spot: Spot,
        deps: Vec<Dep>,
        time: Hlc,
        body: Body,
    ) -> Option<Arc<Entry>> {
        let room = self.at(host).disk.held.as_ref()?.room;
        let Spot { log, seq, backlink } = spot;
        let header = Header { version: 1, room, log, seq, backlink, time, deps, body_hash: [0; 32], body_bytes: 0 };
        let entry = Arc::new(Entry::sign(header, body, key).ok()?);
        self.hostile.keep(entry.clone());
        Some(entry)
    }

    fn forge(&mut self, host: Host, body: Body) -> Option<Arc<Entry>> {
        let key = self.forging_key(host);
        let spot = self.spot(host, id_of(&key));
        self.forge_at(host, &key, spot, body)
    }

    fn forged_text(&mut self) -> Body {
        let number: u32 = self.hostile.rng.random();
        let count = if self.hostile.chance(0.1) { 20 } else { 1 };
        Body::Messages((0..count).map(|n| MessageBody::Text(format!("forged {number} {n}"))).collect())
    }

    /// Continues a log twice or more from one entry on, and shows each peer other branches.
    pub(super) fn fork(&mut self, host: Host) {
        let key = self.at(host).key.clone();
        let spot = self.spot(host, id_of(&key));
        let branches = self.hostile.rng.random_range(2..5);
        for _ in 0..branches {
            let mut chain = Vec::new();
            let mut next = spot;
            for _ in 0..self.hostile.rng.random_range(1..4) {
                let body = if self.hostile.chance(0.3) {
                    Body::Control(self.forged_control(host))
                } else {
                    self.forged_text()
                };
                let Some(entry) = self.forge_at(host, &key, next, body) else { break };
                next = Spot::after(&entry);
                chain.push(entry.signed().clone());
            }
            self.spread_forged(host, &chain);
        }
    }

    /// Opens many logs.
    pub(super) fn open_logs(&mut self, host: Host) {
        let many = if self.hostile.chance(0.1) { 300 } else { self.hostile.rng.random_range(1..30) };
        let key = self.forging_key(host);
        let author = id_of(&key);
        let mut entries = Vec::new();
        for _ in 0..many {
            let log = LogId { author, incarnation: Incarnation(self.hostile.rng.random()) };
            let body = self.forged_text();
            let spot = Spot { log, seq: Seq(1), backlink: None };
            entries.extend(self.forge_at(host, &key, spot, body).map(|entry| entry.signed().clone()));
        }
        self.spread_forged(host, &entries);
    }

    /// Messages anywhere.
    pub(super) fn forge_messages(&mut self, host: Host) {
        let many = self.hostile.rng.random_range(1..6);
        let mut entries = Vec::new();
        for _ in 0..many {
            let body = self.forged_text();
            entries.extend(self.forge(host, body).map(|entry| entry.signed().clone()));
        }
        self.send_or_keep(host, &entries);
    }

    /// Acts anywhere.
    pub(super) fn forge_acts(&mut self, host: Host) {
        let many = self.hostile.rng.random_range(1..4);
        let mut entries = Vec::new();
        for _ in 0..many {
            let control = self.forged_control(host);
            entries.extend(self.forge(host, Body::Control(control)).map(|entry| entry.signed().clone()));
        }
        self.send_or_keep(host, &entries);
    }

    /// Sends forged entries, or keeps them for later.
    fn send_or_keep(&mut self, host: Host, entries: &[SignedEntry]) {
        if self.hostile.chance(0.75) {
            self.spread_forged(host, entries);
        }
    }

    /// Sends what was signed earlier, in any order.
    pub(super) fn release(&mut self, host: Host) {
        let many = self.hostile.rng.random_range(1..10);
        let forged: Vec<Arc<Entry>> = self.hostile.forged.iter().cloned().collect();
        let picks: Vec<usize> = (0..forged.len()).collect();
        let chosen = (0..many).filter_map(|_| self.hostile.pick(&picks)).filter_map(|at| forged.get(at));
        let entries: Vec<SignedEntry> = chosen.map(|entry| entry.signed().clone()).collect();
        self.spread_forged(host, &entries);
    }

    /// A control item about any peer.
    fn forged_control(&mut self, host: Host) -> Control {
        let mut peers: Vec<PeerId> = self.machines.iter().map(|machine| machine.id).collect();
        let sybils = self.hostile.sybil_ids();
        peers.extend(&sybils);
        let founder = self.at(Host(0)).id;
        let hostile: Vec<PeerId> = self.hostile.hosts.iter().map(|host| self.at(*host).id).collect();
        let names: Vec<String> = self.at(host).roster.people.values().map(|person| person.peer.name.clone()).collect();
        let invites: Vec<InviteId> =
            self.at(host).node.iter().flat_map(|node| node.inspect().invites()).map(|(id, _)| id).collect();
        let held = self.at(host).disk.held.clone();
        let room = held.as_ref().map(|held| held.room);
        let rng = &mut self.hostile.rng;
        let mut target = peers[rng.random_range(0..peers.len())];
        if rng.random_bool(0.25) {
            target = founder;
        }
        let name = names.get(rng.random_range(0..names.len().max(1))).cloned().unwrap_or_else(|| "ann".into());
        // Shown names carry a tag where they are not the first; a recorded one has none.
        let name: String = name.split('~').next().unwrap_or("ann").chars().take(30).collect();
        let secret = SigningKey::from_bytes(&[rng.random_range(1..4); 32]);
        let key = InviteId::from_bytes(secret.verifying_key().to_bytes());
        let any_invite = invites.get(rng.random_range(0..invites.len().max(1))).copied().unwrap_or(key);
        let friend = if rng.random_bool(0.5) { sybils[rng.random_range(0..sybils.len())] } else { target };
        match rng.random_range(0..14) {
            0..3 => {
                let full = rng.random_bool(0.5);
                let logs = held.iter().flat_map(|held| held.logs.range(LogId::range_of(target)));
                let cuts = logs.filter_map(|(_, entries)| Some(place(entries.last()?)));
                let cuts: Vec<Dep> = if full { cuts.take(200).collect() } else { Vec::new() };
                Control::Remove { peer: target, cuts }
            }
            3..5 => Control::Role { peer: target, admin: false },
            5 => Control::Role { peer: hostile[rng.random_range(0..hostile.len())], admin: true },
            6 => Control::Role { peer: friend, admin: true },
            7 => Control::Admit { peer: friend, name, by: AdmitBy::Member },
            8 => {
                let signed = room.map(|room| sign_ticket(&secret, &room, &friend, &name));
                let signature = signed.unwrap_or_else(|| SignatureBytes::from_bytes(&[1; 64]));
                let key = if rng.random_bool(0.7) { key } else { any_invite };
                Control::Admit { peer: friend, name, by: AdmitBy::Invite { key, signature } }
            }
            9 => Control::Invite {
                key: if rng.random_bool(0.8) { key } else { any_invite },
                expires: Timestamp::from_ms(rng.random_range(0..2_000_000_000_000)),
                uses: rng.random_range(0..3),
            },
            10 => Control::Revoke { key: any_invite },
            11..13 => Control::Rename { name },
            _ if rng.random_bool(0.2) => Control::Leave,
            _ => Control::Keys { identity: rng.random(), fallback: rng.random() },
        }
    }
}

impl Hostiles {
    /// Dependencies on what does not exist: logs without an author, and entries beyond the newest.
    fn invented(&mut self, tips: &[Dep]) -> Vec<Dep> {
        let beyond = self.pick(tips).map(|dep| Dep { seq: Seq(dep.seq.0 + self.rng.random_range(1..5)), ..dep });
        let author = beyond.map_or(PeerId::from_bytes([3; 32]), |dep| dep.log.author);
        let log = LogId { author, incarnation: Incarnation(self.rng.random()) };
        let unknown = Dep { log, seq: Seq(self.rng.random_range(1..4)) };
        if self.chance(0.5) { vec![unknown] } else { beyond.into_iter().collect() }
    }
}

/// The entries that admit a peer.
fn admissions(held: &HeldData, peer: PeerId) -> Vec<Dep> {
    let admits = |entry: &&Arc<Entry>| matches!(entry.control(), Some(Control::Admit { peer: of, .. }) if *of == peer);
    held.logs.values().flatten().filter(admits).map(|entry| place(entry)).take(4).collect()
}

/// The place of an entry as others name it.
fn place(entry: &Entry) -> Dep {
    Dep { log: entry.header().log, seq: entry.seq() }
}

fn id_of(key: &SigningKey) -> PeerId {
    PeerId::from_bytes(key.verifying_key().to_bytes())
}
