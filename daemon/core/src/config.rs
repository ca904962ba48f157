//! NodeSettings of a node, each with its default, unit and range.

use std::time::Duration;

use chat_proto::time::CLOCK_LEEWAY_MS;

use crate::rendezvous::settings::RoleSettings;

/// NodeSettings of a node. The defaults are what the promises of the README are measured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Time between two exchanges of version vectors with a neighbour, jittered by a fifth; 15 s, 1 s to 10 min.
    pub anti_entropy: Duration,
    /// Time between two attempts to dial a member that is not connected, doubled after each failure up to
    /// [`NodeSettings::redial_max`]; 500 ms.
    pub redial_min: Duration,
    /// Longest time between two attempts to dial a member that was seen in the last ten minutes, times the number of such
    /// members; at most [`NodeSettings::redial_max`]; 2 s.
    pub redial_lost: Duration,
    /// Longest time between two attempts to dial the same member; 30 s.
    pub redial_max: Duration,
    /// Up to how many members a room is a full mesh of direct sends; beyond, a tree of bounded degree spreads entries;
    /// 32.
    pub mesh_members_max: usize,
    /// What one member may write in a day before more of it is taken slowly.
    pub budget: BudgetSettings,
    /// How the rendezvous role is watched, moved and ranked.
    pub role: RoleSettings,
}

/// What one member may write in a day, as far as this peer takes it at once; the rest is taken as slowly as this is given
/// back. The defaults are beyond what any program of an honest member is known to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Bytes of entries; 8 GiB, 1 MiB to 1 TiB.
    pub bytes: u64,
    /// Entries, each of which carries up to [`ENTRY_MESSAGES_MAX`] messages; 10,000,000, at
    /// least 1,000.
    pub entries: u64,
    /// Admissions, removals, renames and the like; 20,000, at least 100.
    pub control_entries: u64,
    /// Admissions; 10,000, at least 10.
    pub admissions: u64,
    /// Forks of its logs; 100, at least 1.
    pub forks: u64,
    /// Logs that it begins; [`AUTHOR_LOGS_MAX`], at least 1.
    pub logs: u64,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            bytes: 8 * 1024 * 1024 * 1024,
            entries: 10_000_000,
            control_entries: 20_000,
            admissions: 10_000,
            forks: 100,
            logs: AUTHOR_LOGS_MAX as u64,
        }
    }
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            anti_entropy: Duration::from_secs(15),
            redial_min: Duration::from_millis(500),
            redial_lost: Duration::from_secs(2),
            redial_max: Duration::from_secs(30),
            mesh_members_max: 32,
            budget: BudgetSettings::default(),
            role: RoleSettings::default(),
        }
    }
}

/// Largest header plus body of one entry, in bytes (64 KiB).
pub const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// Maximum number of messages in one entry; bounds the work that one signature can cause.
pub const ENTRY_MESSAGES_MAX: usize = 1024;

/// Maximum number of dependencies of one entry; what is left over goes into the author's next entry.
pub const ENTRY_DEPS_MAX: usize = 256;

/// Maximum number of messages of an entry that answer others; each takes the room of a dependency. The next such message
/// begins another entry.
pub const ENTRY_REPLIES_MAX: usize = 64;

/// Largest frame between members, in bytes (1 MiB): several full entries, or a version vector of about 14,000 logs.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Maximum number of entries of a log that are accepted beyond its cut. They are void, but among them may be removals
/// written concurrently with the one that made the cut. Bounds what a removed member can still make others store.
pub const PAST_CUT_MAX: u64 = 256;

/// Maximum number of void logs of which the first entry is kept. They belong to strangers and removed members. An entry
/// that depends on one that is not kept may have to wait for a peer that keeps it.
pub const VOID_LOGS_MAX: usize = 1024;

/// Maximum number of rejected logs that are remembered, so that no entry waits for them; others are requested again.
pub const REFUSED_LOGS_MAX: usize = 4096;

/// How far beyond the order times of all entries that are held, and beyond all labels, that of a further one may be. Bounds
/// how many of them one entry uses up: at this step the times last for two billion entries written to use them up.
pub const ORDER_STEP_MAX: u64 = 1 << 32;

/// How far the dates of others' entries move this peer's own ahead of its clock. Clocks that differ by more are reported as
/// wrong.
pub const CLOCK_LEEWAY: Duration = Duration::from_millis(CLOCK_LEEWAY_MS);

/// Maximum number of addresses in one peer's address record.
pub const ADDRS_MAX: usize = 12;

/// Maximum number of valid logs of one author; further ones are void. A start adds one at most, and only where the disk was
/// rolled back or a clock was set back.
pub const AUTHOR_LOGS_MAX: usize = 256;
