//! Types that cross several borders: between the network, the node and the rendezvous role.

use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::api::rendezvous::{ChangeReason, HolderChange};
use chat_proto::id::{PeerId, Term};
use chat_proto::time::Timestamp;

use crate::membership::roster::Roster;

/// How a connection to a peer runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathInfo {
    /// Whether it runs without a relay.
    pub direct: bool,
    /// Round-trip time.
    pub rtt: Duration,
    /// Share of lost packets, 0 to 1.
    pub loss: f32,
    /// The peer's address as seen from here; none over a relay.
    pub remote: Option<SocketAddr>,
    /// Whether the peer opened the connection.
    pub inbound: bool,
}

/// What the rendezvous role asks of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleRequest {
    /// Open a plain TCP connection to this peer's port, send nothing, and report when it is open, fails or is closed.
    /// Replaces an earlier one to the same peer.
    OpenWatch(PeerId),
    /// Close that connection without a report.
    CloseWatch(PeerId),
    /// Ask at the peer's known TCP addresses, without a relay, whether the peer listens there, and report
    /// [`RoleEvent::Probed`] within 3 s. At most one request in
    /// [`RoleSettings::sample`](crate::rendezvous::settings::RoleSettings::sample).
    Probe(PeerId),
    /// Start or stop the relay of this peer.
    SwitchRelay(Switch),
}

impl RoleRequest {
    /// The peer whose addresses the request needs.
    pub const fn target(&self) -> Option<PeerId> {
        match self {
            Self::OpenWatch(peer) | Self::Probe(peer) => Some(*peer),
            Self::CloseWatch(_) | Self::SwitchRelay(_) => None,
        }
    }
}

/// What the network reports to the rendezvous role: outcomes of [`RoleRequest`]s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleEvent {
    /// The TCP watch on this peer is open.
    WatchOpened(PeerId),
    /// It could not be opened.
    WatchFailed(PeerId),
    /// The kernel at the other end closed it: the process there is gone.
    WatchClosed(PeerId),
    /// A probe of this peer ended.
    Probed(PeerId, ProbeOutcome),
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The peer answered, and proved its key.
    Answered {
        /// The address that answered.
        addr: SocketAddr,
        /// Round-trip time.
        rtt: Duration,
    },
    /// It did not answer at any of these addresses.
    Unanswered(Vec<SocketAddr>),
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Run.
    On,
    /// Do not run.
    Off,
}

/// A change of the rendezvous role's holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The term that began.
    pub term: Term,
    /// The former holder.
    pub from: Option<PeerId>,
    /// The new holder.
    pub to: PeerId,
    /// When this peer learned of it.
    pub at: Timestamp,
    /// The reason.
    pub reason: ChangeReason,
    /// Time without a holder, as this peer saw it.
    pub gap: Duration,
}

impl Change {
    /// The same with names, as events and `GET /v1/rendezvous` show it.
    pub fn to_api(&self, roster: &Roster) -> HolderChange {
        HolderChange {
            term: self.term,
            from: self.from.map(|peer| roster.peer_ref(&peer)),
            to: roster.peer_ref(&self.to),
            at: self.at,
            reason: self.reason,
            gap_ms: u64::try_from(self.gap.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
