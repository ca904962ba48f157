//! `cargo bench -p chat-tests --bench membership`: what a large membership costs one member's state machine, with every
//! entry signed and in the log: 5,000 members, each admitted by the founder and with keys of its own, of whom 50 are
//! removed. Figures are also given as multiples of one signature check in the same run, which every entry costs anyway.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use chat_core::config::NodeSettings;
use chat_core::input::{Input, Now};
use chat_core::log::entry::{AdmitBy, Body, Control, Dep, Entry, Header, Hlc, Incarnation, LogId, Seq, SignedEntry};
use chat_core::node::Node;
use chat_core::output::{Batch, Output};
use chat_core::restore::{Restored, Start, StoredHead};
use chat_core::types::PathInfo;
use chat_core::wire::Frame;
use chat_proto::id::{EntryHash, PeerId, RoomId};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;

const MEMBERS: usize = 5000;
const REMOVED: usize = 50;

/// Single entries that are measured after the room is there.
const MORE: usize = 200;

/// Entries in a frame, as members send them while a newcomer catches up.
const FRAME_ENTRIES: usize = 500;

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    let mut room = SignedRoom::founded();
    for n in 1..=MEMBERS {
        room.admit(n);
    }
    (1..=REMOVED).for_each(|n| room.remove(n));
    let check = signature_check(&room.entries[MEMBERS]);
    writeln!(out, "one signature check: {:.1} µs", micros(check))?;

    let mut member = BenchMember::new(&room, Held::default());
    let joined = member.take(&room.entries);
    tell(
        &mut out,
        &format!("a join: {} entries, each", room.entries.len()),
        joined / count(room.entries.len()),
        check,
    )?;

    let mut times: Vec<Duration> = Vec::new();
    for n in 0..MORE {
        let entry = room.rename(MEMBERS - n);
        times.push(member.take(&[entry]));
    }
    times.sort_unstable();
    tell(&mut out, "one more control entry (a rename), median", times[MORE / 2], check)?;
    tell(&mut out, "the slowest of them", times[MORE - 1], check)?;
    let removal = room.remove_signed(REMOVED + 1);
    let removal = member.take(&[removal]);
    tell(&mut out, "one more removal", removal, check)?;

    let held = std::mem::take(&mut member.held);
    let began = Instant::now();
    let again = BenchMember::new(&room, held);
    tell(&mut out, "a restart", began.elapsed(), check)?;
    assert_eq!(again.node.roster(), member.node.roster(), "a restart finds the same members");
    assert_eq!(again.node.roster().members().count(), 1 + MEMBERS - REMOVED - 1);
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn tell(out: &mut impl Write, what: &str, time: Duration, check: Duration) -> io::Result<()> {
    writeln!(out, "{what}: {:.1} µs, {:.1} signature checks", micros(time), micros(time) / micros(check))
}

fn signature_check(signed: &SignedEntry) -> Duration {
    let entry = Entry::from_trusted(signed.clone()).expect("signed by this bench");
    let began = Instant::now();
    for _ in 0..1000 {
        assert!(entry.is_signed());
    }
    began.elapsed() / 1000
}

/// All entries of a room, causes first.
struct SignedRoom {
    id: RoomId,
    entries: Vec<SignedEntry>,
    heads: BTreeMap<LogId, (Seq, EntryHash)>,
    clock: u64,
}

impl SignedRoom {
    fn founded() -> Self {
        let mut room =
            Self { id: RoomId::from_bytes([0; 32]), entries: Vec::new(), heads: BTreeMap::new(), clock: 1 << 60 };
        let (room_name, name) = ("lab".to_owned(), "ann".to_owned());
        let genesis = room.sign(0, Vec::new(), Control::Genesis { room_name, open: false, name, nonce: [0; 16] });
        let genesis = Entry::from_trusted(genesis).expect("signed by this bench");
        room.id = RoomId::from_bytes(*genesis.hash().as_bytes());
        room
    }

    fn admit(&mut self, n: usize) {
        let admit = Control::Admit { peer: peer(n), name: format!("n{n}"), by: AdmitBy::Member };
        self.sign(0, Vec::new(), admit);
        let admission = Dep { log: log(0), seq: self.heads[&log(0)].0 };
        self.sign(n, vec![admission], Control::Keys { identity: [1; 32], fallback: [2; 32] });
    }

    fn remove_signed(&mut self, n: usize) -> SignedEntry {
        let last = Dep { log: log(n), seq: self.heads[&log(n)].0 };
        self.sign(0, vec![last], Control::Remove { peer: peer(n), cuts: vec![last] })
    }

    fn remove(&mut self, n: usize) {
        self.remove_signed(n);
    }

    fn rename(&mut self, n: usize) -> SignedEntry {
        let founder = Dep { log: log(0), seq: self.heads[&log(0)].0 };
        self.sign(n, vec![founder], Control::Rename { name: format!("m{n}") })
    }

    fn sign(&mut self, n: usize, deps: Vec<Dep>, control: Control) -> SignedEntry {
        self.clock += 1;
        let before = self.heads.get(&log(n)).copied();
        let header = Header {
            version: 1,
            room: self.id,
            log: log(n),
            seq: before.map_or(Seq(1), |(seq, _)| seq.next()),
            backlink: before.map(|(_, hash)| hash),
            time: Hlc(self.clock),
            deps,
            body_hash: [0; 32],
            body_bytes: 0,
        };
        let entry = Entry::sign(header, Body::Control(control), &key(n)).expect("within bounds");
        self.heads.insert(log(n), (entry.seq(), entry.hash()));
        self.entries.push(entry.signed().clone());
        entry.signed().clone()
    }
}

fn key(n: usize) -> SigningKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    SigningKey::from_bytes(&seed)
}

fn peer(n: usize) -> PeerId {
    PeerId::from_bytes(key(n).verifying_key().to_bytes())
}

fn log(n: usize) -> LogId {
    LogId { author: peer(n), incarnation: Incarnation(1) }
}

/// What a member's disk holds.
#[derive(Default)]
struct Held {
    heads: BTreeMap<LogId, StoredHead>,
    controls: Vec<(LogId, SignedEntry, Hlc)>,
    clocks: Vec<(LogId, Seq, chat_core::membership::authority::AuthorityClock)>,
}

impl Held {
    fn write(&mut self, batch: &Batch) {
        for item in &batch.entries {
            let (entry, header) = (&item.entry, item.entry.header());
            let before = self.heads.get(&entry.log());
            let order = header.order_after(before.map(|head| head.order));
            let head = StoredHead {
                log: entry.log(),
                seq: entry.seq(),
                hash: entry.hash(),
                label: header.time,
                order,
                first: before.map_or(order, |head| head.first),
                roots: before.map_or_else(|| header.deps.clone(), |head| head.roots.clone()),
                signed: header.log,
                parent: None,
            };
            self.heads.insert(entry.log(), head);
            self.controls.extend(entry.control().map(|_| (entry.log(), entry.signed().clone(), order)));
            self.clocks.extend(item.clock.iter().map(|clock| (entry.log(), entry.seq(), clock.as_ref().clone())));
        }
    }
}

/// A member that follows the room from one connection.
struct BenchMember {
    node: Node,
    held: Held,
}

/// The member whose node is measured: the last one.
const ME: usize = MEMBERS;

fn now() -> Now {
    Now { mono: Duration::from_secs(1), wall: Timestamp::from_ms((1 << 60) >> 16) }
}

impl BenchMember {
    fn new(room: &SignedRoom, held: Held) -> Self {
        let restored = Restored {
            room: room.id,
            incarnation: Incarnation(2),
            heads: held.heads.values().cloned().collect(),
            controls: held.controls.clone(),
            clocks: held.clocks.clone(),
            addrs: Vec::new(),
            forks: Vec::new(),
            seen: Vec::new(),
            mark_agrees: false,
            lacking: Vec::new(),
            hidden: Vec::new(),
        };
        let settings = NodeSettings::default();
        let node = Node::new(settings, key(ME), Start::Restore(restored), [1; 32], now()).expect("starts");
        let mut member = Self { node, held };
        let path = PathInfo { direct: true, rtt: Duration::from_millis(1), loss: 0.0, remote: None, inbound: false };
        member.node.handle(Input::Up(peer(0), path), now());
        member.drain();
        member
    }

    /// Takes entries from the founder, with everything that follows.
    fn take(&mut self, entries: &[SignedEntry]) -> Duration {
        let frames: Vec<_> =
            entries.chunks(FRAME_ENTRIES).map(|part| Frame::Entries(part.to_vec()).encode().expect("fits")).collect();
        let began = Instant::now();
        for frame in frames {
            self.node.handle(Input::Frame(peer(0), frame), now());
            self.drain();
        }
        began.elapsed()
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            if let Output::Persist(batch) = output {
                self.held.write(&batch);
                self.node.handle(Input::Persisted(batch.id), now());
            }
        }
    }
}
