//! Settings of the rendezvous role, each with its default, unit and range.

use std::time::Duration;

/// How the role is watched, moved and ranked. The defaults are what the promises of the README are measured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSettings {
    /// Time between two heartbeats of the holder to each peer on the succession list; 200 ms, 50 ms to 5 s.
    pub beat: Duration,
    /// Number of missing heartbeats after which the holder is suspected; 3, 2 to 20.
    pub misses: u32,
    /// Minimum time a peer whose TCP watch was closed has to answer a ping; it grows with the round-trip time up to
    /// [`RoleSettings::probe_max`]; 50 ms.
    pub probe_min: Duration,
    /// Minimum time a silent holder has to answer, and other peers have to report that they hear it; 120 ms.
    pub silent_probe: Duration,
    /// Maximum of both; 600 ms.
    pub probe_max: Duration,
    /// Delay between the claims of two peers in line for a vacant role, so that the first claim has
    /// spread before the next is made; grows with the round-trip time; 150 ms.
    pub stagger: Duration,
    /// Time between two publications of an unchanged succession; 30 s, 5 s to 10 min.
    pub publish: Duration,
    /// How long a peer that starts looks for a holder before it claims the role itself; 2 s.
    pub settle: Duration,
    /// Time without a sign of life of the holder, heard or reported, after which a peer that is not on the list suspects it;
    /// 10 s. Longer than such signs take through a large room.
    pub slow: Duration,
    /// Time between two pings on the same connection; 2 s; longer where [`RoleSettings::pings_per_second`] binds.
    pub ping: Duration,
    /// Maximum number of pings a second over all connections, whatever the room's size; 3.
    pub pings_per_second: u32,
    /// Time between two reports of measured connectivity; 10 s; longer in rooms of more than a hundred.
    pub report: Duration,
    /// Time between two probes of members outside the mesh or of reachability from outside; 30 s.
    pub sample: Duration,
    /// By how much a challenger's score must be better for a planned handover, in ten-thousandths; 1,000.
    pub better_by: u16,
    /// For how long it must be better by that much; a lead twice as large or larger takes a sixteenth of it; 2 min.
    pub better_for: Duration,
    /// Minimum time between taking the role and a planned handover, for the same lead, and shorter by the same rule: the role does
    /// not move more often without need; 10 min.
    pub tenure_min: Duration,
    /// By how much a peer's score must be better to pass another in the ranking, in ten-thousandths: it keeps the list
    /// stable under jitter; 200.
    pub rank_band: u16,
    /// How long a peer that stepped down keeps its relay running, so that others move before it ends; 15 s.
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
            better_for: Duration::from_secs(120),
            tenure_min: Duration::from_secs(600),
            rank_band: 200,
            relay_linger: Duration::from_secs(15),
        }
    }
}

/// Maximum number of peers on the succession list: it bounds the holder's heartbeats whatever the room's size.
pub const LIST_MAX: usize = 5;

/// Maximum number of rows of the published ranking: the succession travels to every member every 30 s and must stay small.
pub const ROWS_MAX: usize = 32;

/// Maximum size of a frame of the role, in bytes: a history of [`HISTORY_MAX`] signed claims fits.
pub const ROLE_FRAME_BYTES_MAX: usize = 40 * 1024;

/// Maximum number of changes of the role that are kept.
pub const HISTORY_MAX: usize = 100;

/// Maximum number of tracked connections; those beyond are not pinged or asked. A room's mesh is far smaller.
pub const LINKS_MAX: usize = 1_024;
