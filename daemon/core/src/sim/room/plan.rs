//! What a run of the room simulation consists of: its size, its length, its faults.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Something that goes wrong in a run. `chaos.rs` says how each fault begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies and loses what was not flushed.
    Crash,
    /// A process is stopped in an orderly way.
    Stop,
    /// A process gets no processor time for a while.
    Suspend,
    /// A disk is full or fails for a while.
    BrokenDisk,
    /// Some flushes take seconds.
    SlowDisk,
    /// A disk is replaced by an empty one.
    LostDisk,
    /// A disk is replaced by an older copy of itself, and the daemon notices.
    OldDisk,
    /// A database is replaced by an older copy of itself in place, or a whole home is: only then its log may fork.
    OldDiskUnnoticed,
    /// A connection breaks.
    LostConnection,
    /// Two groups of machines do not reach each other for a while.
    Partition,
    /// Nothing gets into a machine, or out of it, for a while.
    OneWay,
    /// Send queues are short, so that slow readers are disconnected.
    SlowReader,
    /// A machine accepts no connections for a while; it dials others.
    Shielded,
    /// Packets are lost and reordered: datagrams disappear, streams are late.
    Loss,
    /// A wall clock jumps by seconds, hours or years, back or ahead, and stays wrong.
    Clock,
    /// Members are removed.
    Removal,
    /// Members leave for good.
    Leaving,
    /// A process dies at a step of a write, of sending, or of an answer ([`CrashPoint`]).
    CrashPoint,
    /// A disk reports flushes that it did not carry out: a crash loses the last writes, reported ones among them.
    LyingDisk,
    /// A failed write is on the disk after all, as a crash brings to light.
    GhostWrite,
    /// A stored entry is damaged.
    BitRot,
    /// Datagrams arrive twice.
    DuplicateDatagrams,
}

/// A step at which a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashPoint {
    /// A write is about to be queued.
    BeforeQueued,
    /// A write was queued just now.
    AfterQueued,
    /// A batch is on disk, which is not reported; the second record of the head may still be missing.
    Written,
    /// An entry has left for one peer and not for the others.
    Sending,
    /// A post was acknowledged just now.
    Acknowledged,
}

impl CrashPoint {
    pub(super) const ALL: [Self; 5] =
        [Self::BeforeQueued, Self::AfterQueued, Self::Written, Self::Sending, Self::Acknowledged];
}

impl Fault {
    /// Faults at random times.
    pub const ALL: [Self; 17] = [
        Self::Crash,
        Self::Stop,
        Self::Suspend,
        Self::BrokenDisk,
        Self::SlowDisk,
        Self::LostDisk,
        Self::OldDisk,
        Self::OldDiskUnnoticed,
        Self::LostConnection,
        Self::Partition,
        Self::OneWay,
        Self::SlowReader,
        Self::Shielded,
        Self::Loss,
        Self::Clock,
        Self::Removal,
        Self::Leaving,
    ];

    /// Faults at chosen events, and of disks and datagrams that break what others take for granted.
    pub const HARSH: [Self; 5] =
        [Self::CrashPoint, Self::LyingDisk, Self::GhostWrite, Self::BitRot, Self::DuplicateDatagrams];
}

/// Default for [`Plan::queue_bytes_max`].
pub(super) const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a run consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Number of machines, those that join later included.
    pub machines: usize,
    /// How long people act and things go wrong.
    pub busy: Duration,
    /// What can go wrong.
    pub faults: BTreeSet<Fault>,
    /// Whether every knock is admitted.
    pub open: bool,
    /// Maximum number of members that form a full mesh; above it, entries spread through a tree.
    pub mesh_members_max: usize,
    /// Maximum pause between two acts of people, in milliseconds.
    pub pause_ms_max: u64,
    /// Maximum number of bytes in transit on one connection; above it, the connection is dropped.
    pub queue_bytes_max: usize,
    /// Maximum latency between two machines, in milliseconds.
    pub latency_ms_max: u64,
    /// Number of hostile members.
    pub hostile: usize,
    /// Whether people make hostile members admins.
    pub trusts_hostile: bool,
    /// Number of the last steps that a failure prints.
    pub trail: usize,
}

impl Plan {
    /// The plan of a seed: the faults and all sizes are drawn from it.
    pub fn of(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x706c_616e);
        let share = rng.random_range(0.0..0.7);
        let faults: BTreeSet<Fault> = Fault::ALL.into_iter().filter(|_| rng.random_bool(share)).collect();
        let short = faults.contains(&Fault::SlowReader);
        Self {
            machines: rng.random_range(2..10),
            busy: Duration::from_secs(rng.random_range(5..45)),
            open: rng.random(),
            mesh_members_max: if rng.random_bool(0.25) { 4 } else { 32 },
            pause_ms_max: [30, 100, 300, 800][rng.random_range(0..4)],
            queue_bytes_max: if short { 20_000 } else { QUEUE_BYTES_MAX },
            latency_ms_max: 40,
            hostile: 0,
            trusts_hostile: false,
            faults,
            trail: 0,
        }
    }

    /// The plan of a seed with [`Fault::HARSH`] besides. A run without them keeps its trace.
    pub fn harsh(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0068_6172_7368);
        let mut plan = Self::of(seed);
        plan.faults.extend(Fault::HARSH.into_iter().filter(|_| rng.random_bool(0.6)));
        if plan.faults.contains(&Fault::Crash) {
            plan.faults.insert(Fault::CrashPoint);
        }
        // A damaged entry is fetched from another disk; when that one is lost or older, there is none to fetch.
        let lossy = [Fault::LostDisk, Fault::OldDisk, Fault::OldDiskUnnoticed, Fault::LyingDisk];
        if lossy.iter().any(|fault| plan.faults.contains(fault)) {
            plan.faults.remove(&Fault::BitRot);
        }
        plan
    }

    /// The plan of a seed with one or two hostile members, and of the other faults those that lose no disk.
    pub fn hostile(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0068_6f73_7469);
        let mut plan = Self::of(seed);
        let lossy = [Fault::LostDisk, Fault::OldDisk, Fault::OldDiskUnnoticed];
        plan.faults.retain(|fault| !lossy.contains(fault));
        plan.machines = plan.machines.max(4);
        plan.hostile = rng.random_range(1..3);
        plan.trusts_hostile = rng.random_bool(0.3);
        if rng.random_bool(0.5) {
            plan.faults.insert(Fault::Removal);
        }
        plan
    }

    /// A plan in which nothing goes wrong, on the network of one building.
    pub fn calm(machines: usize) -> Self {
        Self {
            machines,
            busy: Duration::from_secs(30),
            faults: BTreeSet::new(),
            open: false,
            mesh_members_max: 32,
            pause_ms_max: 100,
            queue_bytes_max: QUEUE_BYTES_MAX,
            latency_ms_max: 1,
            hostile: 0,
            trusts_hostile: false,
            trail: 0,
        }
    }

    /// Whether one of [`Fault::HARSH`] happens.
    pub(super) fn is_harsh(&self) -> bool {
        Fault::HARSH.into_iter().any(|fault| self.has(fault))
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}
