//! What others may read of the role: holder, ranking in figures and words, history, relays.

use std::time::Duration;

use chat_proto::api::peers::RoleView;
use chat_proto::api::rendezvous::{HolderChange, RankedPeer, RendezvousView};
use chat_proto::id::{PeerId, Term};

use crate::connectivity::explain::why;
use crate::connectivity::rank::{RankRow, SCORE_MAX};
use crate::input::Now;
use crate::membership::roster::Roster;
use crate::rendezvous::context::Context;
use crate::rendezvous::protocol::succession::LinePlace;
use crate::rendezvous::state::RoleState;
use crate::rendezvous::upkeep::relay_order::relays;
#[cfg(test)]
use crate::types::Change;

/// Read access to one peer's part in the role.
#[derive(Clone, Copy, Debug)]
pub struct RoleQuery<'a> {
    pub(super) state: &'a RoleState,
    pub(super) cx: &'a Context,
}

impl RoleQuery<'_> {
    /// The holder and its term; none while the role is vacant.
    pub fn holder(&self) -> Option<(PeerId, Term)> {
        let known = self.cx.known.holder().map(|holder| (holder, self.cx.known.term()));
        match self.state {
            RoleState::Following(following) if following.vacancy.is_some() => None,
            RoleState::Following(_) | RoleState::Holding(_) => known,
            RoleState::Seeking(_) | RoleState::Gone => None,
        }
    }

    /// The newest term this peer knows; 0 before the first.
    pub fn term(&self) -> Term {
        self.cx.known.term()
    }

    /// Factor for timeouts on other peers: more than 1 while this peer itself is late.
    pub(crate) fn stretch(&self, now: Now) -> u32 {
        self.cx.stalls.stretch(now.mono)
    }

    /// This peer's part.
    pub fn role(&self) -> RoleView {
        self.role_of(&self.cx.me)
    }

    /// Any peer's part.
    pub fn role_of(&self, peer: &PeerId) -> RoleView {
        let holds = self.holder().is_some_and(|(holder, _)| holder == *peer);
        match self.cx.known.line().place(peer) {
            _ if holds => RoleView::Holder,
            LinePlace::Listed(_) => RoleView::Standby,
            LinePlace::Ranked(_) | LinePlace::Any => RoleView::Member,
        }
    }

    /// A peer's rank in the published ranking, from 1.
    pub fn rank_of(&self, peer: &PeerId) -> Option<u32> {
        self.cx.known.rank(peer).map(u32::from)
    }

    /// Whether this peer accepts connections from other networks, as members there found; unknown until one tried.
    pub fn inbound(&self) -> Option<bool> {
        self.cx.known.rows().iter().find(|row| row.peer == self.cx.me).and_then(|row| row.figures.inbound)
    }

    /// The role as this peer knows it, for `GET /v1/rendezvous`.
    pub fn view(&self, roster: &Roster) -> RendezvousView {
        let holder = self.holder();
        RendezvousView {
            term: self.cx.known.term(),
            holder: holder.map(|(peer, _)| roster.peer_ref(&peer)),
            since: self.cx.known.since(),
            role: self.role(),
            ranking: self.ranking(roster),
            succession: u32::try_from(self.cx.known.line().list.len()).unwrap_or(0),
            history: self.changes(roster),
        }
    }

    /// The peers whose relay this peer tries, in order; each of them may turn out not to run one.
    pub fn relays(&self, now: Duration) -> Vec<PeerId> {
        relays(self.state, self.cx, now)
    }

    /// The holder that is declared gone: its relay is used only as long as it answers.
    pub fn doubted_relay(&self) -> Option<PeerId> {
        match self.state {
            RoleState::Following(following) => following.vacancy.map(|_| following.detector.holder),
            RoleState::Seeking(_) | RoleState::Holding(_) | RoleState::Gone => None,
        }
    }

    fn ranking(&self, roster: &Roster) -> Vec<RankedPeer> {
        let rows = self.cx.known.rows();
        let behind = rows.iter().skip(1).map(Some).chain([None]);
        (1..).zip(rows.iter().zip(behind)).map(|(rank, (row, next))| ranked(rank, row, next, roster)).collect()
    }

    fn changes(&self, roster: &Roster) -> Vec<HolderChange> {
        let mut changes: Vec<HolderChange> = self.cx.history.changes().map(|change| change.to_api(roster)).collect();
        // Newest first as this peer saw them; the terms of two halves of a split room interleave.
        changes.sort_by_key(|change| std::cmp::Reverse((change.at, change.term)));
        changes
    }
}

/// What simulations and tests read besides.
#[cfg(test)]
impl<'a> RoleQuery<'a> {
    /// The peers on the succession list, in order.
    pub(crate) fn succession_list(&self) -> Vec<PeerId> {
        self.cx.known.line().list
    }

    /// The changes of the role in this peer's history, newest term first.
    pub(crate) fn known_changes(&self) -> impl Iterator<Item = &'a Change> + use<'a> {
        self.cx.history.changes()
    }

    /// Digest of this peer's history.
    pub(crate) const fn history_digest(&self) -> u32 {
        self.cx.history.digest()
    }

    /// Age in milliseconds of the last sign of life of the holder, as this peer would report it now.
    pub(crate) fn holder_age_ms(&self, now: Duration) -> u32 {
        self.cx.gossip(self.state.newest_sign(now), now).age_ms
    }
}

fn ranked(rank: u32, row: &RankRow, next: Option<&RankRow>, roster: &Roster) -> RankedPeer {
    let figures = &row.figures;
    let reports = u32::from(figures.reports);
    let name = next.map(|next| roster.peer_ref(&next.peer).name);
    RankedPeer {
        peer: roster.peer_ref(&row.peer),
        rank,
        score: f64::from(figures.score()) / f64::from(SCORE_MAX),
        reach: f64::from(figures.reached.min(figures.reports)) / f64::from(reports.max(1)),
        inbound: figures.inbound,
        rtt_ms: figures.rtt.map(|code| (code.as_ms() * 100.0).round() / 100.0),
        loss: f64::from(figures.loss) / 255.0,
        steady: f64::from(figures.steady) / 255.0,
        reports,
        why: why(row, next.zip(name.as_deref())),
    }
}
