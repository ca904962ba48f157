//! Hostile members: admitted machines with real keys that speak the protocol and do as they please.
//!
//! A hostile machine runs a node like every other, so it joins, holds the room and is connected. Besides, while things go wrong,
//! it writes entries by hand ([`forge`]) and sends frames that no honest node would send ([`lies`]), and what its node sends
//! is dropped or changed on the way. All hostile machines of a run work together: each may sign with the keys of the others,
//! and of peers that they admitted and that do not exist. At the end of a run each of them disappears, falls silent, or
//! behaves; the others have to converge whichever it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::id::PeerId;
use ed25519_dalek::SigningKey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::log::entry::{Entry, SignedEntry};
use crate::sim::room::hostile::choices::Choices;
use crate::sim::room::machine::{Host, MachineState};
use crate::sim::room::network::ConnEnd;
use crate::sim::room::world::RoomWorld;
use crate::wire::Frame;

mod choices;
mod forge;
mod lies;

/// Number of forged entries and of frames that are kept to be used again.
const KEPT_MAX: usize = 300;

/// Something that a hostile member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Continues a log twice, and shows each peer another branch.
    Fork,
    /// Opens many logs, of one entry each.
    Logs,
    /// Messages in any log, with any date, order and dependencies.
    Messages,
    /// Acts of admins, admissions, names, in any log, with any date and dependencies.
    Acts,
    /// Sends entries that were signed earlier, as after its removal.
    Late,
    /// Entries of others with another body, or with none.
    Bodies,
    /// Version vectors that claim too much or too little.
    Vectors,
    /// Receipts for what it does not hold.
    Receipts,
    /// Invented addresses, clocks and connections.
    Addresses,
    /// Claims and rumours about the role.
    Role,
    /// Asks for very much.
    Wants,
    /// Repeats frames that it has heard.
    Replay,
    /// Bytes that are no frame.
    Garbage,
    /// Proofs of forks that prove nothing, or that prove one.
    Proofs,
    /// News of knocks that never were.
    Knocks,
    /// Leaves in words and stays.
    Bye,
    /// What its node sends is dropped, for a while and for some peers.
    Silence,
    /// What its node sends is changed on the way.
    Tamper,
}

impl Attack {
    const ALL: [Self; 18] = [
        Self::Fork,
        Self::Logs,
        Self::Messages,
        Self::Acts,
        Self::Late,
        Self::Bodies,
        Self::Vectors,
        Self::Receipts,
        Self::Addresses,
        Self::Role,
        Self::Wants,
        Self::Replay,
        Self::Garbage,
        Self::Proofs,
        Self::Knocks,
        Self::Bye,
        Self::Silence,
        Self::Tamper,
    ];
}

/// What a hostile machine does at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Its process is gone for good.
    Gone,
    /// It stays, and sends nothing of the log any more.
    Silent,
    /// Its node works as every other.
    Honest,
}

/// The hostile machines of a run and what they share.
pub(super) struct Hostiles {
    pub(super) hosts: BTreeSet<Host>,
    rng: Choices,
    /// What they do in this run.
    repertoire: Vec<Attack>,
    /// Keys of peers that do not exist and may be admitted.
    sybils: Vec<SigningKey>,
    /// Entries that were written by hand.
    forged: VecDeque<Arc<Entry>>,
    /// Frames that were heard.
    heard: VecDeque<Bytes>,
    /// Peers to which a machine sends nothing for a while.
    silent: BTreeMap<(Host, PeerId), Duration>,
    endings: BTreeMap<Host, Ending>,
    /// How often each attack was made.
    pub(super) made: BTreeMap<Attack, u64>,
}

impl Hostiles {
    /// Chooses `count` hostile machines, never the founder.
    pub(super) fn new(seed: u64, machines: usize, count: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x006c_6f6b_6921);
        let mut hosts = BTreeSet::new();
        while hosts.len() < count.min(machines.saturating_sub(1)) {
            hosts.insert(Host(rng.random_range(1..machines)));
        }
        let share = rng.random_range(0.2..1.0);
        let repertoire = Attack::ALL.into_iter().filter(|_| rng.random_bool(share)).collect();
        let sybils = (0..3).map(|_| SigningKey::from_bytes(&rng.random())).collect();
        Self {
            hosts,
            rng: Choices::at_random(rng),
            repertoire,
            sybils,
            forged: VecDeque::new(),
            heard: VecDeque::new(),
            silent: BTreeMap::new(),
            endings: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    /// From now on the bytes decide, and nothing is done when they are used up.
    pub(super) fn choose_by(&mut self, bytes: &[u8]) {
        self.rng.give(bytes);
        self.repertoire = Attack::ALL.to_vec();
    }

    pub(super) fn has(&self, host: Host) -> bool {
        self.hosts.contains(&host)
    }

    /// Whether a machine has disappeared for good.
    pub(super) fn is_gone(&self, host: Host) -> bool {
        self.endings.get(&host) == Some(&Ending::Gone)
    }

    /// The peers that do not exist.
    pub(super) fn sybil_ids(&self) -> Vec<PeerId> {
        self.sybils.iter().map(|key| PeerId::from_bytes(key.verifying_key().to_bytes())).collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { from.get(self.rng.random_range(0..from.len())).copied() }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    fn keep(&mut self, entry: Arc<Entry>) {
        if self.forged.len() >= KEPT_MAX {
            self.forged.pop_front();
        }
        self.forged.push_back(entry);
    }
}

impl RoomWorld {
    /// The hostile machines begin.
    pub(super) fn begin_hostility(&mut self) {
        let hosts: Vec<Host> = self.hostile.hosts.iter().copied().collect();
        for host in hosts {
            self.plot(host);
        }
    }

    /// A hostile machine attacks now and then.
    fn plot(&mut self, host: Host) {
        if !self.troubled || self.hostile.rng.is_used_up() {
            return;
        }
        let pause = Duration::from_millis(self.hostile.rng.random_range(20..800));
        self.schedule(pause, move |world| world.plot(host));
        if self.at(host).state != MachineState::Running {
            return;
        }
        let repertoire = self.hostile.repertoire.clone();
        let Some(attack) = self.hostile.pick(&repertoire) else { return };
        *self.hostile.made.entry(attack).or_default() += 1;
        self.trace(host, || format!("attack {attack:?}"));
        match attack {
            Attack::Fork => self.fork(host),
            Attack::Logs => self.open_logs(host),
            Attack::Messages => self.forge_messages(host),
            Attack::Acts => self.forge_acts(host),
            Attack::Late => self.release(host),
            Attack::Bodies => self.swap_bodies(host),
            Attack::Vectors => self.lie_in_vectors(host),
            Attack::Receipts => self.lie_in_receipts(host),
            Attack::Addresses => self.lie_about_addresses(host),
            Attack::Role => self.lie_about_the_role(host),
            Attack::Wants => self.want_much(host),
            Attack::Replay => self.replay(host),
            Attack::Garbage => self.send_garbage(host),
            Attack::Proofs => self.prove_nothing(host),
            Attack::Knocks => self.invent_knocks(host),
            Attack::Bye => self.tell_some(host, &Frame::Bye),
            Attack::Silence => self.fall_silent(host),
            Attack::Tamper => {}
        }
    }

    /// The peers that a machine is connected to.
    fn linked_peers(&self, host: Host) -> Vec<PeerId> {
        let other = |end: ConnEnd, ends: [Host; 2]| match end {
            ConnEnd::Dialler => ends[1],
            ConnEnd::Acceptor => ends[0],
        };
        let ids = self.net.of(host);
        let conns = ids.iter().filter_map(|id| self.net.conns.get(id));
        let open = conns.filter(|conn| conn.takes(conn.end_of(host)));
        let peers: BTreeSet<PeerId> = open.map(|conn| self.at(other(conn.end_of(host), conn.ends)).id).collect();
        peers.into_iter().collect()
    }

    /// Sends a frame to a peer past the node.
    fn tell(&mut self, host: Host, peer: &PeerId, frame: &Frame) {
        if let Ok(raw) = frame.encode() {
            self.send(host, peer, raw);
        }
    }

    /// Sends a frame to some of the peers, one at least where there is one.
    fn tell_some(&mut self, host: Host, frame: &Frame) {
        for peer in self.some_peers(host) {
            self.tell(host, &peer, frame);
        }
    }

    fn some_peers(&mut self, host: Host) -> Vec<PeerId> {
        let peers = self.linked_peers(host);
        let all = self.hostile.chance(0.3);
        let first = self.hostile.pick(&peers);
        let chosen = peers.into_iter().filter(|peer| all || Some(*peer) == first || self.hostile.rng.random_bool(0.3));
        chosen.collect()
    }

    /// Sends entries to some of the peers, in one of the ways in which entries travel.
    fn spread_forged(&mut self, host: Host, entries: &[SignedEntry]) {
        for part in entries.chunks(200) {
            let frame =
                if self.hostile.chance(0.8) { Frame::Entries(part.to_vec()) } else { Frame::Chunk(part.to_vec()) };
            self.tell_some(host, &frame);
        }
    }

    /// Keeps a frame that a hostile machine has heard.
    pub(super) fn overhear(&mut self, host: Host, frame: &Bytes) {
        if self.hostile.has(host) && self.troubled {
            if self.hostile.heard.len() >= KEPT_MAX {
                self.hostile.heard.pop_front();
            }
            self.hostile.heard.push_back(frame.clone());
        }
    }

    /// The process of every hostile machine disappears, falls silent, or behaves from now on.
    pub(super) fn end_hostility(&mut self) {
        let hosts: Vec<Host> = self.hostile.hosts.iter().copied().collect();
        self.hostile.silent.clear();
        for host in hosts {
            let ending = [Ending::Gone, Ending::Gone, Ending::Silent, Ending::Honest];
            let ending = self.hostile.pick(&ending).unwrap_or(Ending::Gone);
            self.hostile.endings.insert(host, ending);
            if ending == Ending::Gone && self.at(host).is_up() {
                self.crash(host);
            }
        }
    }
}
