//! `GET /v1/rendezvous`: who holds the role, who would follow, and why.

use serde::{Deserialize, Serialize};

use crate::api::peers::{PeerRef, RoleView};
use crate::id::Term;
use crate::time::Timestamp;

/// The rendezvous role as this peer knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rendezvous {
    /// The current term.
    pub term: Term,
    /// Who holds it; nobody while the role moves.
    pub holder: Option<PeerRef>,
    /// Since when this peer knows so.
    pub since: Option<Timestamp>,
    /// This peer's part.
    pub role: RoleView,
    /// The ranking that the holder published, best first, the holder included; its head, the holder left out, is the
    /// succession list.
    pub ranking: Vec<RankedPeer>,
    /// How many of the ranking, the holder left out, are on the succession list.
    pub succession: u32,
    /// Changes of the role, newest first; the last 100.
    pub history: Vec<HolderChange>,
}

/// A candidate and the figures that rank it, as others observed them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankedPeer {
    /// The candidate.
    pub peer: PeerRef,
    /// Its place, from 1.
    pub rank: u32,
    /// Score, 0 to 1, that the figures below add up to.
    pub score: f64,
    /// Share of the members that reach it directly, 0 to 1.
    pub reach: f64,
    /// Whether members outside its own network reach it without being called first; unknown until one tried.
    pub inbound: Option<bool>,
    /// Median round-trip time that others measured to it, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Share of probes to it that were lost, 0 to 1.
    pub loss: f64,
    /// Share of the last hour it was online without a break, 0 to 1.
    pub steady: f64,
    /// Members whose reports went into this.
    pub reports: u32,
    /// What decided its place against the one behind it, in words.
    pub why: String,
}

/// A change of the role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HolderChange {
    /// The term that began.
    pub term: Term,
    /// Who held the role before.
    pub from: Option<PeerRef>,
    /// Who holds it now.
    pub to: PeerRef,
    /// When this peer learned of it.
    pub at: Timestamp,
    /// Why.
    pub reason: ChangeReason,
    /// How long nobody held the role, as this peer saw it, in milliseconds.
    pub gap_ms: u64,
}

/// Why the role moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeReason {
    /// The room was founded, or its first member came back to an empty room.
    Founded,
    /// The holder's process died: its kernel closed the connection.
    Died,
    /// The holder fell silent.
    Silent,
    /// The holder left in an orderly way and handed over.
    HandedOver,
    /// Somebody was clearly better connected for minutes; planned, make before break.
    BetterConnected,
    /// Two halves of a split room met again, and one holder stepped down.
    Merged,
    /// The holder was removed from the room, or left it for good.
    Removed,
}
