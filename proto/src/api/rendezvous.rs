//! `GET /v1/rendezvous`: the holder of the rendezvous role, its successors, and the figures that rank them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::peers::{PeerRef, RoleView};
use crate::id::Term;
use crate::time::Timestamp;

/// The rendezvous role as this peer knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RendezvousView {
    /// The current term.
    pub term: Term,
    /// The holder; null while the role moves.
    pub holder: Option<PeerRef>,
    /// When this peer learned of the holder.
    pub since: Option<Timestamp>,
    /// This peer's part.
    pub role: RoleView,
    /// The ranking that the holder published, best first, including the holder. Its first members other than the holder
    /// are the succession list.
    pub ranking: Vec<RankedPeer>,
    /// Number of members on the succession list.
    pub succession: u32,
    /// The last 100 changes of the role, newest first.
    pub history: Vec<HolderChange>,
}

/// A candidate for the role and the figures that rank it, as other members observed them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankedPeer {
    /// The candidate.
    pub peer: PeerRef,
    /// Its rank, from 1.
    pub rank: u32,
    /// Score that the figures below add up to.
    #[schemars(range(min = 0, max = 1))]
    pub score: f64,
    /// Share of the members that are directly connected to it.
    #[schemars(range(min = 0, max = 1))]
    pub reach: f64,
    /// Whether it accepts inbound connections from other networks; null until a member has tried.
    pub inbound: Option<bool>,
    /// Median of the round-trip times that other members measured to it, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Share of probes to it that were lost.
    #[schemars(range(min = 0, max = 1))]
    pub loss: f64,
    /// Share of the last hour that it was online without a break.
    #[schemars(range(min = 0, max = 1))]
    pub steady: f64,
    /// Number of members whose reports went into these figures.
    pub reports: u32,
    /// What decided its rank against the next candidate, in words.
    pub why: String,
}

/// A change of the role's holder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HolderChange {
    /// The term that began.
    pub term: Term,
    /// The holder before.
    pub from: Option<PeerRef>,
    /// The new holder.
    pub to: PeerRef,
    /// When this peer learned of it.
    pub at: Timestamp,
    /// Why the role moved.
    pub reason: ChangeReason,
    /// Milliseconds without a holder, as this peer saw it.
    pub gap_ms: u64,
}

/// Why the rendezvous role moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeReason {
    /// The room was founded, or its first member came back to an empty room.
    Founded,
    /// The holder's process died: its kernel closed the connection.
    Died,
    /// The holder stopped answering.
    Silent,
    /// The holder stopped in an orderly way and handed the role over.
    HandedOver,
    /// Another member was clearly better connected for minutes; planned, make before break.
    BetterConnected,
    /// Two halves of a split room met again, and one holder stepped down.
    Merged,
    /// The holder was removed from the room, or left it for good.
    Removed,
}

impl ChangeReason {
    /// Whether the former holder failed: its process died or fell silent.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Died | Self::Silent)
    }

    /// Whether the role was vacant in between: the former holder failed or was removed.
    pub const fn is_loss(self) -> bool {
        self.is_failure() || matches!(self, Self::Removed)
    }

    /// Whether the former holder handed the role over.
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::HandedOver | Self::BetterConnected)
    }
}
