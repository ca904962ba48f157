//! Settings of the rendezvous role, each with its default, unit and range.

use std::time::Duration;

/// How the role is watched, moved and ranked. The defaults are what the promises of the README are measured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSettings {
    /// Time between two heartbeats of the holder to each peer on the succession list; 200 ms, 50 ms to 5 s.
    pub beat: Duration,
    /// How many heartbeats may be missing before the holder is suspected; 3, 2 to 20.
    pub misses: u32,
    /// Shortest time a peer whose TCP watch was closed has to answer a ping; it grows with the round-trip time up to
    /// [`RoleSettings::probe_max`]; 50 ms.
    pub probe_min: Duration,
    /// Shortest time a silent holder has to answer, and the others on the list have to speak up for it; 120 ms.
    pub silent_probe: Duration,
    /// Longest of both; 600 ms.
    pub probe_max: Duration,
    /// How much later than the one before it each peer on the list claims a vacant role, so that the first claim has
    /// spread before the next is made; grows with the round-trip time; 150 ms.
    pub stagger: Duration,
    /// Time between two publications of an unchanged succession; 30 s, 5 s to 10 min.
    pub publish: Duration,
    /// How long a peer that starts looks for a holder before it claims the role itself; 2 s.
    pub settle: Duration,
    /// How long a peer that is not on the list goes without a sign of the holder, heard or passed on, before it
    /// suspects it; 10 s. Longer than such signs take through a large room.
    pub slow: Duration,
    /// Time between two pings on the same connection; 2 s; longer where [`RoleSettings::pings_per_second`] binds.
    pub ping: Duration,
    /// Most pings a peer sends a second over all connections, whatever the room's size; 3.
    pub pings_per_second: u32,
    /// Time between two reports of measured connectivity; 10 s; longer in rooms of more than a hundred.
    pub report: Duration,
    /// Time between two probes of members outside the mesh or of reachability from outside; 30 s.
    pub sample: Duration,
    /// By how much a challenger's score must be better for a planned handover, in ten-thousandths; 1,000.
    pub better_by: u16,
    /// For how long it must be better without a break; 3 min.
    pub better_for: Duration,
    /// Shortest time between taking the role and a planned handover: at most so often does the role move without
    /// need; 10 min.
    pub tenure_min: Duration,
    /// How much better somebody must be to pass another in the ranking, in ten-thousandths: what keeps the list still
    /// under jitter; 200.
    pub rank_band: u16,
    /// How long a peer that stepped down goes on relaying, so that others move before it ends; 15 s.
    pub relay_linger: Duration,
}

impl Default for RoleSettings {
    fn default() -> Self {
        Self {
            beat: Duration::from_millis(200),
            misses: 3,
            probe_min: Duration::from_millis(50),
            silent_probe: Duration::from_millis(120),
            probe_max: Duration::from_millis(600),
            stagger: Duration::from_millis(150),
            publish: Duration::from_secs(30),
            settle: Duration::from_secs(2),
            slow: Duration::from_secs(10),
            ping: Duration::from_secs(2),
            pings_per_second: 3,
            report: Duration::from_secs(10),
            sample: Duration::from_secs(30),
            better_by: 1_000,
            better_for: Duration::from_secs(180),
            tenure_min: Duration::from_secs(600),
            rank_band: 200,
            relay_linger: Duration::from_secs(15),
        }
    }
}

/// Most peers on the succession list: what bounds the holder's heartbeats whatever the room's size.
pub const LIST_MAX: usize = 5;

/// Most rows of the published ranking: the succession travels to every member every 30 s and must stay small.
pub const ROWS_MAX: usize = 32;

/// Largest frame of the role, in bytes: a history of [`HISTORY_MAX`] signed claims fits.
pub const ROLE_FRAME_BYTES_MAX: usize = 40 * 1024;

/// Changes of the role that are kept.
pub const HISTORY_MAX: usize = 100;

/// Most connections that are watched; what lies beyond is not pinged or asked. A room's mesh is far smaller.
pub const LINKS_MAX: usize = 1_024;
